package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
)

// TestShutsDownWhateverFails: with 30% of the ECS calls failing and the metadata endpoint down for the first 10 s,
// 20 tasks of 20 end as they should.
func TestShutsDownWhateverFails(t *testing.T) {
	t.Parallel()
	const runs = 20
	w := newWorld(t, func(o *emulator.Options) { o.Seed = uint64(time.Now().UnixNano()) })
	t.Logf("seed %d", w.Seed)
	// Three kinds of failure, each hitting what the ones before let through: 1-(1-p)³ = 30%.
	const p = 0.1121
	names := make([]string, runs)
	tasks := make([]*ecs.Task, runs)
	var starting sync.WaitGroup
	// Only the tasks' calls are to fail, not ours: the faults come when the services are there.
	w.Edge.Faults.Add(edge.Fault{Service: edge.ServiceMetadata, Effect: edge.EffectResetBefore, Within: 10 * time.Second})
	for i := range runs {
		names[i] = fmt.Sprintf("gate%d", i)
		starting.Add(1)
		go func() {
			defer starting.Done()
			tasks[i] = w.service(names[i], map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s"})
		}()
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	w.Edge.Faults.Add(edge.ServerError("ecs", "", p))
	w.Edge.Faults.Add(edge.Throttling("ecs", "", p))
	w.Edge.Faults.Add(edge.Fault{Service: "ecs", Probability: p, Effect: edge.EffectResetBefore})

	for i, task := range tasks {
		t.Logf("task %d lived %v", i, w.stopped(task, 6*time.Minute)) // the deadline of an end, and some
		w.wantEnded(names[i], 0)
		if calls := strings.Join(w.calls(task), " "); !strings.Contains(calls, "UpdateService") {
			t.Errorf("task %d called %s", i, calls)
		}
	}
	failed, all := 0, 0
	for _, c := range w.Edge.Recorder.Calls(func(r edge.Record) bool {
		return r.Service == "ecs" && r.Action != "CreateService" && r.Action != "RegisterTaskDefinition"
	}) {
		all++
		if c.Fault != "" {
			failed++
		}
	}
	t.Logf("%d of %d ECS calls failed", failed, all)
	if failed == 0 {
		t.Error("no call failed: the test tests nothing")
	}
}

// TestFailuresThatDoNotPass: the end comes all the same, and the exit status says that it was not as asked for.
func TestFailuresThatDoNotPass(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		faults []edge.Fault
		calls  []string // that are carried out all the same
		exit   int32
	}{
		{"may not update the service", []edge.Fault{denied("UpdateService")}, []string{"StopTask"}, 125},
		{"may not stop the task: ECS does, having scaled in", []edge.Fault{denied("StopTask")}, []string{"UpdateService"}, 0},
		{"the API is down", []edge.Fault{{Service: "ecs", Effect: edge.EffectResetBefore}}, nil, 125},
		{"the API hangs", []edge.Fault{{Service: "ecs", Effect: edge.EffectHang}}, nil, 125},
		{"no credentials", []edge.Fault{{Service: edge.ServiceCredentials, Effect: edge.EffectError, Status: 500}}, nil, 125},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s", "FUMIDAI_END_DEADLINE": "4s"})
			for _, fault := range test.faults {
				w.Edge.Faults.Add(fault)
			}
			w.stopped(task, 75*time.Second)
			w.wantCalls(task, test.calls...)
			if got := *task.State().Containers[0].ExitCode; got != test.exit {
				t.Errorf("exit code %d, want %d", got, test.exit)
			}
		})
	}
}

func denied(action string) edge.Fault {
	return edge.Fault{Service: "ecs", Action: action, Effect: edge.EffectError, Status: 400, Code: "AccessDeniedException",
		Message: "User is not authorized to perform: ecs:" + action}
}

func TestClocksApart(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-20 * time.Minute, 20 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"})
			w.Edge.SetSkew(skew)
			w.stopped(task, 20*time.Second)
			w.wantEnded(family, 0)
			w.wantCalls(task, ended...)
		})
	}
}

// TestCredentialsExpireEarly: the service finds credentials expired that the task took to be good. New ones must come
// from the endpoint.
func TestCredentialsExpireEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *emulator.Options) { o.ECS.Timing.CredentialLifetime = time.Minute })
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s"})
	fault := edge.ExpiredToken("ecs", "UpdateService", 0)
	fault.Times = 2
	w.Edge.Faults.Add(fault)
	w.stopped(task, 20*time.Second)
	w.wantEnded(family, 0)
	w.wantCalls(task, ended...)
}

func TestAnswerLostAfterTheDeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"})
	for _, action := range ended {
		w.Edge.Faults.Add(edge.Fault{Service: "ecs", Action: action, Effect: edge.EffectResetAfter, Times: 1})
	}
	w.stopped(task, 20*time.Second)
	w.wantEnded(family, 0)
}
