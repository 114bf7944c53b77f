package fargate_test

import (
	"os/exec"
	"testing"
	"time"

	"fumidai/tests/emulator/fargate"
)

// A process in a group gets the group's share of the processor, and is killed when it takes more than the group's memory.
func TestGroup(t *testing.T) {
	g, err := fargate.NewGroup(.25, 64<<20)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	run := func(script string) (*exec.Cmd, error) {
		cmd := exec.Command("sh", "-c", "read go; "+script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := g.Add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		_, _ = in.Write([]byte("\n"))
		return cmd, cmd.Wait()
	}
	began := time.Now()
	cmd, err := run("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	if err != nil {
		t.Fatal(err)
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if share := used.Seconds() / time.Since(began).Seconds(); share > .4 || g.Throttled() == 0 {
		t.Errorf("it had %.2f of a core and was throttled %d times", share, g.Throttled())
	}
	if _, err := run(`exec dd if=/dev/zero of=/dev/null bs=200M count=1`); err == nil || g.OOMKills() != 1 {
		t.Errorf("200 MB in a group of 64: %v, %d kills", err, g.OOMKills())
	}
	if g.PeakMemory() < 32<<20 || g.PeakMemory() > 64<<20 {
		t.Errorf("the most it used: %d bytes", g.PeakMemory())
	}
}
