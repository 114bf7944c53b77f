package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/infra"
	"fumidai/tests/tools"
)

// What the tasks of all tests have called of AWS is what the task's role grants: nothing is missing, nothing is there that
// nobody needs; and nothing is granted to workflows that the tools they use were not seen to call. (That nothing is missing
// there is seen where the workflow runs.) Looked at when all tests are over: they run side by side, so no test can come last.

// made are calls, as IAM writes actions.
var made = struct {
	sync.Mutex
	tasks  map[string]bool
	people map[string]bool // who drive the tools
}{tasks: map[string]bool{}, people: map[string]bool{}}

// noteCalls keeps the actions that a world's tasks have called for, granted or not.
func noteCalls(calls []edge.Record) {
	made.Lock()
	defer made.Unlock()
	for _, c := range calls {
		switch {
		case c.Service == "agent" && strings.HasPrefix(c.Action, "Update"): // the ECS agent calls it with the task's role
			made.tasks["ecs:"+c.Action] = true
		case c.Role != "", c.Service == "ssmmessages" && strings.HasPrefix(c.Action, "Open"): // with a token of a signed call
			made.tasks[c.Service+":"+c.Action] = true
		}
		if c.Task == "" {
			made.people[c.Service+":"+c.Action] = true
		}
	}
}

// everythingRan reports whether no test was left out: all were asked for, and none needed more than this user may.
func everythingRan() bool {
	for _, name := range []string{"test.run", "test.skip"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return os.Getuid() == 0 && !strings.EqualFold(os.Getenv("FUMIDAI_E2E_AGENT"), "reference")
}

// compareWithGranted holds what was called against the written policy.
func compareWithGranted() error {
	text, err := os.ReadFile(top + "infra/iam/task-role.json")
	if err != nil {
		return err
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal(text, &policy); err != nil {
		return err
	}
	granted := map[string]bool{}
	for _, s := range policy.Statement {
		for _, action := range s.Action {
			granted[action] = true
		}
	}
	made.Lock()
	defer made.Unlock()
	if wrong := differences(made.tasks, granted); len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	fmt.Printf("the task role grants %d actions, and each was called\n", len(granted))
	return nil
}

// compareWithWorkflows holds what workflows may do against what the tools have called.
func compareWithWorkflows() error {
	if _, err := tools.Find("ecspresso-2.3.2"); err != nil {
		fmt.Println("not compared with what workflows may do:", err)
		return nil
	}
	granted, err := infra.Granted("GitHubRole")
	if err != nil {
		return err
	}
	made.Lock()
	defer made.Unlock()
	for _, action := range granted {
		if strings.HasPrefix(action, "sts:") || action == "iam:PassRole" { // to become it; a condition of RegisterTaskDefinition
			continue
		}
		if !made.people[action] {
			err = errors.Join(err, fmt.Errorf("%s is granted to workflows, and no tool has called it", action))
		}
	}
	return err
}

func differences(called, granted map[string]bool) (wrong []string) {
	for action := range called {
		if !granted[action] {
			wrong = append(wrong, action+" is called and not granted")
		}
	}
	for action := range granted {
		if !called[action] {
			wrong = append(wrong, action+" is granted and never called")
		}
	}
	slices.Sort(wrong)
	return wrong
}

func TestGrantedAndCalledAreCompared(t *testing.T) {
	t.Parallel()
	got := differences(map[string]bool{"ecs:StopTask": true, "ecs:RunTask": true}, map[string]bool{"ecs:StopTask": true, "ecs:DeleteService": true})
	if want := []string{"ecs:DeleteService is granted and never called", "ecs:RunTask is called and not granted"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
