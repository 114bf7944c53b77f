package tools

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all, err := Commands(dir, StandIns)
	if err != nil {
		t.Skip(err) // one that nothing stands in for
	}
	for _, c := range all {
		t.Log(c)
		if (c.StandIn != nil) != workflow[c.Name] {
			t.Errorf("%s: %v", c.Name, c.StandIn)
		}
	}
	out, err := exec.Command(filepath.Join(dir, "ecspresso"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "stand-in") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestVersionsOfCommands(t *testing.T) {
	t.Parallel()
	got := versions("ecsta", []string{"ecspresso-2.2.4", "ecsta-0.4.1"})
	newer, older := slices.Index(got, "ecsta-0.8.2"), slices.Index(got, "ecsta-0.4.3")
	if got[0] != "ecsta-0.4.1" || newer < 1 || older < newer || got[len(got)-1] != "ecsta" {
		t.Errorf("%q", got)
	}
}
