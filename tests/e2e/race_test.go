package e2e

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/tools"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// This file is about users who come in the moment in which the task decides to shut down.

// A service nobody has used for raceWait, and fifty users, one each, from a second before its task's end to a second
// after it. Every other one starts as a workflow does, with `scale --tasks=1`; the others go straight to the task they know
// of, and scale only when they find no way in. Each has to get through: to the old task, or to a new one.
func TestRaceAtTheShutdown(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("50 tasks")
	}
	const visitors = 50
	var kept, fresh, lost atomic.Int32
	t.Run("visitor", func(t *testing.T) {
		for i := range visitors {
			after := time.Duration(i-visitors/2) * time.Second / (visitors / 2)
			t.Run(fmt.Sprint(after), func(t *testing.T) {
				t.Parallel()
				r := newRace(t)
				time.Sleep(time.Until(r.end.Add(after)))
				switch r.visit(i%2 == 0) {
				case r.first:
					kept.Add(1)
				default:
					fresh.Add(1)
				}
				if r.again {
					lost.Add(1)
				}
			})
		}
	})
	t.Logf("of %d visitors %d found the task they came for, %d a new one; %d had to ask twice", visitors, kept.Load(), fresh.Load(), lost.Load())
}

const raceWait = 6 * time.Second

type race struct {
	*site
	scale func() // to one task, until the service is stable
	first *ecs.Task
	end   time.Time // when the task will decide
	again bool      // what was asked for was overwritten
}

func newRace(t *testing.T) *race {
	t.Helper()
	r := &race{}
	variables := map[string]string{"ECS_TST_INITIAL_WAIT_TIME": raceWait.String()}
	if _, err := tools.Find("ecspresso-2.3.2"); err == nil {
		e := newEcspresso(t, "2.3.2", false, variables)
		e.run("deploy")
		r.site, r.scale = e.site, func() { e.run("scale", "--tasks=1") }
	} else {
		r.site = siteOf(newWorld(t))
		r.deploy(place(variables), 0)
		r.scale = r.scaleUp
	}
	r.must(r.setCount(1))
	if !r.ECS.Until(10*time.Second, func() bool { return len(r.ECS.Tasks(ecs.InService("fumidai"))) > 0 }) {
		t.Fatal("no task")
	}
	r.first = r.ECS.Tasks(ecs.InService("fumidai"))[0]
	r.servedBy(r.first)
	r.end = r.first.State().StartedAt.Add(raceWait)
	return r
}

func (w *world) setCount(n int32) error {
	_, err := w.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String("fumidai"), DesiredCount: aws.Int32(n)})
	return err
}

// scaleUp is what `ecspresso scale --tasks=1` does: set the count, wait 3 s, look at once, then after 15 s.
func (r *race) scaleUp() {
	r.must(r.setCount(1))
	for pause := 3 * time.Second; ; pause = 15 * time.Second {
		time.Sleep(pause)
		out, err := r.sdk.DescribeServices(ctx, &sdk.DescribeServicesInput{Services: []string{"fumidai"}})
		r.must(err)
		if s := out.Services[0]; len(s.Deployments) == 1 && s.RunningCount == s.DesiredCount {
			return
		}
	}
}

// visit gets through, whatever it takes, and returns the task it came through.
func (r *race) visit(scaleFirst bool) *ecs.Task {
	r.Helper()
	for try := 1; ; try++ {
		asked := time.Time{}
		if scaleFirst || try > 1 {
			asked = time.Now()
			r.scale()
		}
		task, err := r.comeIn()
		if err == nil {
			return task
		}
		overwritten := r.wasOverwritten(asked)
		r.again = r.again || overwritten
		if !asked.IsZero() && (!overwritten || try > 2) {
			r.Fatalf("after scale --tasks=1 at %v there is no way in: %v", asked.Format("05.000"), err)
		}
	}
}

// comeIn finds the service's task as ecsta does, and talks to a server behind it.
func (r *race) comeIn() (*ecs.Task, error) {
	running := r.ECS.Tasks(func(t types.Task) bool {
		return ecs.InService("fumidai")(t) && *t.DesiredStatus == "RUNNING" && *t.LastStatus == "RUNNING"
	})
	if len(running) != 1 {
		return nil, fmt.Errorf("%d running tasks", len(running))
	}
	limited, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	c, err := r.tunnel(limited, running[0])
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // a test's
	return running[0], ask(c, 10_000, 10_000, 0x600)
}

// tunnel opens a session and a connection, and waits for the server's first word.
func (r *race) tunnel(limited context.Context, task *ecs.Task) (io.ReadWriteCloser, error) {
	o, err := r.api.Start(limited, task.Target(), "AWS-StartPortForwardingSessionToRemoteHost", remoteHost(r.remote.host, r.remote.port))
	if err != nil {
		return nil, err
	}
	visitor, err := client.Open(limited, o)
	if err != nil {
		return nil, err
	}
	r.Cleanup(visitor.Close)
	c, err := visitor.Dial()
	if err == nil {
		err = await(c)
	}
	return c, err
}

// noted is by how much the order in which calls arrive, which is noted, can differ from that in which they take effect.
const noted = 50 * time.Millisecond

// wasOverwritten tells whether the first task has set the count after it had looked, and the visitor between the two: ECS
// has no conditional update, so that the user has to ask again.
func (r *race) wasOverwritten(asked time.Time) bool {
	var looked, set time.Time
	for _, c := range r.Edge.Recorder.Calls(edge.ByTask(r.first.ARN())) {
		switch c.Action {
		case "DescribeServices":
			looked = c.Time
		case "UpdateService":
			set = c.Time
		}
	}
	for _, c := range r.Edge.Recorder.Calls(func(c edge.Record) bool { return c.Action == "UpdateService" && c.Task == "" }) {
		if !asked.IsZero() && c.Time.After(asked) && c.Time.After(looked.Add(-noted)) && c.Time.Before(set.Add(noted)) {
			return true
		}
	}
	return false
}

// A session that comes while it is being decided whether the task ends: it waits for the decision, and is served or told.
func TestSessionsWaitForAdmission(t *testing.T) {
	for name, asked := range map[string]bool{"somebody has asked for the service": true, "nobody has": false} {
		t.Run(name, func(t *testing.T) {
			s := isolated(t, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "4s", "ECS_TST_IDLE_TIMEOUT": "4s",
				"ECS_TST_SET_DESIRED_COUNT_TO_ZERO": "true", "ECS_TST_STOP_TASK": "true"})
			s.Edge.Faults.Add(edge.Fault{Service: "ecs", Action: "DescribeServices", Effect: edge.EffectLatency, Delay: time.Second, Times: 1})
			if asked {
				time.Sleep(time.Until(s.task.State().StartedAt.Add(3 * time.Second)))
				_, err := s.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String(family), DesiredCount: aws.Int32(1)})
				s.must(err)
			}
			s.eventually("the end", 10*time.Second, func() bool { return len(s.events("state changed")) > 0 && s.state() == "acting" })
			if asked {
				s.converse(s.open(way{where: "remote"}))
				s.event("service was updated recently: a user is probably on the way, staying up", map[string]any{"service": family})
				return
			}
			if why := s.refused(toRemoteHost, remoteHost(s.remote.host, s.remote.port)); why != "this task is ending; start another with a desired count of 1" {
				s.Errorf("the client was told %q", why)
			}
			s.stopped(s.task, 10*time.Second)
			s.wantEnded(family, 0)
		})
	}
}

// state is the terminator's, from the log.
func (s *site) state() any {
	all := s.events("state changed")
	return all[len(all)-1]["state"]
}
