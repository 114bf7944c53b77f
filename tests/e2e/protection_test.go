package e2e

import (
	"testing"
	"time"

	"fumidai/tests/emulator/edge"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// TestTaskProtection: with FUMIDAI_TASK_PROTECTION neither scale-in nor anything else of the scheduler's takes a task that
// serves, from the first session to the end of the last, although the agent fails at first.
func TestTaskProtection(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"FUMIDAI_TASK_PROTECTION": "true"})
	if s.task == nil {
		t.Skip("the reference agent protects nothing")
	}
	protected := func() bool {
		out, err := s.sdk.GetTaskProtection(ctx, &sdk.GetTaskProtectionInput{Cluster: aws.String(cluster), Tasks: []string{s.task.ARN()}})
		s.must(err)
		return out.ProtectedTasks[0].ProtectionEnabled
	}
	eventually := func(what string, want bool) {
		t.Helper()
		for deadline := time.Now().Add(8 * time.Second); protected() != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not %s", what)
			}
		}
	}
	if protected() {
		t.Error("protected before anybody came")
	}
	s.Edge.Faults.Add(edge.Fault{Service: "agent", Action: "UpdateTaskProtection", Effect: edge.EffectError, Status: 500, Code: "ServerException", Times: 2})
	first, second := s.open(way{where: "remote"}), s.open(way{where: "remote"})
	eventually("protected", true)

	_, err := s.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String(family), DesiredCount: aws.Int32(0)})
	s.must(err)
	time.Sleep(1500 * time.Millisecond) // the scheduler needs half a second
	s.must(first.client.Terminate())
	time.Sleep(1500 * time.Millisecond)
	if got := *s.task.State().LastStatus; got != "RUNNING" || !protected() {
		t.Fatalf("with one session of two open the task is %s", got)
	}
	c, err := s.connect(second)
	s.must(err)
	s.must(ask(c, 100_000, 100_000, 0x300))

	s.must(second.client.Terminate())
	eventually("released", false)
	s.stopped(s.task, 20*time.Second)
	if got := s.task.State().StopCode; got != types.TaskStopCodeServiceSchedulerInitiated {
		t.Errorf("stopped by %s", got)
	}
	updates := s.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Action == "UpdateTaskProtection" && r.Status == 200 })
	if len(updates) != 2 {
		t.Errorf("protection was set %d times, want on and off", len(updates))
	}
}
