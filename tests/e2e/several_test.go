package e2e

import (
	"slices"
	"testing"
	"time"

	"fumidai/tests/emulator/ecs"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// This file is about services of more than one task: who is idle leaves alone.

// several makes a service of n tasks and returns each as a site that it serves.
func several(t *testing.T, n int32, variables map[string]string) []*site {
	t.Helper()
	t.Parallel()
	w := newWorld(t)
	if w.VPC == nil {
		t.Skip("needs root: two tasks beside each other take namespaces")
	}
	first := siteOf(w)
	w.bastion(variables, func(in *sdk.CreateServiceInput) { in.DesiredCount = aws.Int32(n) })
	tasks := w.ECS.Tasks(ecs.InService(family))
	if len(tasks) != int(n) {
		t.Fatalf("%d tasks, want %d", len(tasks), n)
	}
	var sites []*site
	for _, task := range tasks {
		s := *first
		sites = append(sites, s.servedBy(task))
	}
	return sites
}

func ending(variables map[string]string) map[string]string {
	all := map[string]string{"ECS_TST_SET_DESIRED_COUNT_TO_ZERO": "true", "ECS_TST_STOP_TASK": "true"}
	for name, value := range variables {
		all[name] = value
	}
	return all
}

func (s *site) count() int32 { return s.ECS.ServiceState(cluster, family).DesiredCount }

// wantAlone checks that a task has stopped itself, after it had stepped aside once, and that the count says one less; nobody
// was put in its place.
func (s *site) wantAlone(left int32) {
	s.Helper()
	s.stopped(s.task, 20*time.Second)
	if code := s.task.State().StopCode; code != types.TaskStopCodeUserInitiated {
		s.Errorf("the idle task was stopped by %s, want itself", code)
	}
	s.eventually("the count", 5*time.Second, func() bool { return s.count() == left })
	if got := s.calls(s.task); !slices.Equal(got, []string{"DescribeServices", "DescribeServices", "StopTask", "UpdateService"}) {
		s.Errorf("the idle task called %q", got)
	}
}

// One after the other: nobody came to the first, the second's session is over, the third's goes on through all that.
func TestSeveralTasks(t *testing.T) {
	for name, protection := range map[string]string{"plain": "false", "with protection": "true"} {
		t.Run(name, func(t *testing.T) {
			s := several(t, 3, ending(map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "6s", "ECS_TST_IDLE_TIMEOUT": "6s",
				"FUMIDAI_TASK_PROTECTION": protection}))
			never, short, busy := s[0], s[1], s[2]
			d := busy.open(way{where: "remote"})
			c, err := busy.connect(d)
			busy.must(err)
			other := short.open(way{where: "remote"})

			never.wantAlone(2)
			busy.must(ask(c, 100_000, 100_000, 0x700))
			short.must(other.client.Terminate())
			short.wantAlone(1)
			busy.must(ask(c, 100_000, 100_000, 0x701))
			if got := *busy.task.State().LastStatus; got != "RUNNING" {
				t.Errorf("the busy task is %s", got)
			}
			busy.must(d.client.Terminate())
			busy.stopped(busy.task, 20*time.Second)
			busy.eventually("the count", 5*time.Second, func() bool { return busy.count() == 0 })
			if all := busy.ECS.Tasks(ecs.InService(family)); len(all) != 3 {
				t.Errorf("%d tasks there were, want 3", len(all))
			}
		})
	}
}

// Two become idle in the same moment, each unaware of the other. The count may stay one too high, and another task come in
// their place, which leaves in its turn; the busy one is never harmed.
func TestSeveralTasksAtOnce(t *testing.T) {
	s := several(t, 3, ending(map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "5s", "ECS_TST_IDLE_TIMEOUT": "3s"}))
	busy := s[2]
	d := busy.open(way{where: "remote"})
	c, err := busy.connect(d)
	busy.must(err)
	busy.eventually("one task left", 40*time.Second, func() bool {
		running := busy.ECS.Tasks(func(t types.Task) bool { return ecs.InService(family)(t) && *t.LastStatus != "STOPPED" })
		return busy.count() == 1 && len(running) == 1
	})
	busy.must(ask(c, 100_000, 100_000, 0x710))
	if got := *busy.task.State().LastStatus; got != "RUNNING" {
		t.Errorf("the busy task is %s", got)
	}
	busy.must(d.client.Terminate())
	busy.stopped(busy.task, 20*time.Second)
	busy.eventually("the count", 5*time.Second, func() bool { return busy.count() == 0 })
}
