package workflow

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fumidai/tests/tools"
	"fumidai/tests/tools/postgrestest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // they wait, most of the time
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// freePort is a local port for a tunnel: on GitHub's machines each run has them all to itself, here they share one.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := postgrestest.FreePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// The article's workflow, as it is written: the tests pass, and the bastion goes home.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"ECS_TST_IDLE_TIMEOUT": "3s", "ECS_TST_INITIAL_WAIT_TIME": "2m"})
	m := w.machine(freePort(t), nil)
	if _, err := w.run(m); err != nil {
		t.Error(err)
	}
	w.wantResults(m, "pass", "pass")
	w.wantEnd(1)
}

// The article's mistake, users counted once for each request, fails the workflow; the tunnel is closed all the same.
func TestWorkflowFindsTheMistake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"ECS_TST_IDLE_TIMEOUT": "3s", "ECS_TST_INITIAL_WAIT_TIME": "2m"})
	m := w.machine(freePort(t), func(workspace string) {
		path := filepath.Join(workspace, "examples/dbt/models/marts/dau.sql")
		text, err := os.ReadFile(path)
		w.must(err)
		wrong := strings.Replace(string(text), "count(distinct user_id)", "count(user_id)", 1)
		if wrong == string(text) {
			t.Error("the model does not count distinct users")
		}
		w.must(os.WriteFile(path, []byte(wrong), 0o600))
	})
	results, err := w.run(m)
	if err == nil || !strings.Contains(err.Error(), "Run the models and their tests: exit status 1") {
		t.Errorf("the workflow ends with %v", err)
	}
	w.wantResults(m, "fail", "pass")
	if closing := results[len(results)-1]; !closing.Ran || closing.Err != nil || !strings.Contains(closing.Output, "Reached "+warehouse) {
		t.Errorf("the tunnel is not closed: %+v", closing)
	}
	w.wantEnd(1)
}

// Two runs at once share one task. One of them has the stand-ins for tools, which are to do as the real ones.
func TestWorkflowsShareATask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"ECS_TST_IDLE_TIMEOUT": "15s", "ECS_TST_INITIAL_WAIT_TIME": "2m"})
	machines := []*Machine{w.machine(freePort(t), nil), w.machine(freePort(t), nil, tools.StandIns)}
	var wait sync.WaitGroup
	for _, m := range machines {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if _, err := w.run(m); err != nil {
				t.Error(err)
			}
		}()
	}
	wait.Wait()
	for _, m := range machines {
		w.wantResults(m, "pass", "pass")
	}
	w.wantEnd(len(machines))
}

// lostAnswer is what the article's versions of the tools, built with a Go of today, say of one answer in fifty.
const lostAnswer = "use of closed network connection"

// With the versions that the article has; where they are to be had.
func TestWorkflowWithTheArticlesTools(t *testing.T) {
	t.Parallel()
	versions := []string{"ecspresso-2.2.4", "ecsta-0.4.1", "redshift-credentials-0.3.3"}
	for _, name := range versions {
		tools.Path(t, name)
	}
	for try := 1; ; try++ {
		w := newWorld(t, map[string]string{"ECS_TST_IDLE_TIMEOUT": "3s", "ECS_TST_INITIAL_WAIT_TIME": "2m"})
		m := w.machine(freePort(t), nil, versions...)
		results, err := w.run(m)
		if err != nil && try < 5 && slices.ContainsFunc(results, func(r Result) bool { return strings.Contains(r.Output, lostAnswer) }) {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		w.wantResults(m, "pass", "pass")
		w.wantEnd(1)
		return
	}
}
