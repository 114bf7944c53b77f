package ecs

import (
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// schedule brings services to what they should be, a little while after every change.
func (e *ECS) schedule() {
	timer := time.NewTimer(time.Hour)
	for {
		select {
		case <-e.wake:
			time.Sleep(e.Timing.Reaction)
		case <-timer.C:
		}
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return
		}
		next := time.Now().Add(time.Hour)
		for _, s := range e.services {
			if again := e.reconcile(s); !again.IsZero() && again.Before(next) {
				next = again
			}
		}
		e.mu.Unlock()
		timer.Reset(time.Until(next))
	}
}

// reconcile makes one round for one service. It returns when to look again although nothing changed, or zero.
func (e *ECS) reconcile(s *service) time.Time {
	if *s.state.Status == "INACTIVE" {
		return time.Time{}
	}
	arn, primary := *s.state.ServiceArn, &s.state.Deployments[0]
	desired := int(s.state.DesiredCount)
	all := e.tasksOf(arn, "")
	current := e.tasksOf(arn, *primary.Id)
	wanted := slices.DeleteFunc(slices.Clone(current), (*Task).ending)
	old := slices.DeleteFunc(slices.Clone(all), func(t *Task) bool { return *t.state.StartedBy == *primary.Id || t.ending() })
	healthy := 0
	for _, t := range all {
		if *t.state.LastStatus == statusRunning && !t.ending() {
			healthy++
		}
	}
	least := (desired*int(*s.state.DeploymentConfiguration.MinimumHealthyPercent) + 99) / 100
	most := desired * int(*s.state.DeploymentConfiguration.MaximumPercent) / 100

	s.stopSome(e, old, min(len(old), max(0, healthy-least)), *primary.Id)
	if desired == 0 {
		s.stopSome(e, old, len(old), *primary.Id)
	}
	s.stopSome(e, wanted, len(wanted)-desired, *primary.Id)

	again := time.Time{}
	room := min(desired-len(wanted), most-len(all))
	if room > 0 {
		if wait := time.Until(s.notBefore); wait > 0 {
			again = s.notBefore
		} else {
			e.startSome(s, room, primary)
		}
	}
	if len(all) == len(wanted) && len(wanted) == desired && healthy == desired {
		e.settle(s)
	}
	return again
}

// stopSome stops n tasks that may be stopped: the youngest first, protected ones not at all.
func (s *service) stopSome(e *ECS, tasks []*Task, n int, deployment string) {
	var ids []string
	for _, t := range slices.Backward(tasks) {
		if len(ids) >= n {
			break
		}
		if t.ending() || t.protectedUntil.After(time.Now()) {
			continue
		}
		t.stop(types.TaskStopCodeServiceSchedulerInitiated, "Scaling activity initiated by (deployment "+deployment+")")
		ids = append(ids, "(task "+t.id+")")
	}
	if len(ids) > 0 {
		s.steady = false
		s.event("has stopped %d running tasks: %s.", len(ids), strings.Join(ids, " "))
	}
}

func (e *ECS) startSome(s *service, n int, d *types.Deployment) {
	definition, err := e.definition(*d.TaskDefinition)
	if err != nil {
		s.event("was unable to place a task: %v.", err)
		return
	}
	s.steady = false
	var ids []string
	for range n {
		t := e.newTask(last(*s.state.ClusterArn), definition, nil)
		t.service = *s.state.ServiceArn
		t.state.Group = ptr("service:" + *s.state.ServiceName)
		t.state.StartedBy = d.Id
		t.placeOn(s.state.LaunchType)
		t.state.EnableExecuteCommand = s.state.EnableExecuteCommand
		if s.state.PropagateTags == types.PropagateTagsService {
			t.state.Tags = e.tags[*s.state.ServiceArn]
		}
		e.launch(t)
		ids = append(ids, "(task "+t.id+")")
	}
	s.event("has started %d tasks: %s.", len(ids), strings.Join(ids, " "))
}

// settle notes that the service is what it should be.
func (e *ECS) settle(s *service) {
	if s.steady {
		return
	}
	defer e.notify()
	if *s.state.Status == "DRAINING" {
		s.state.Status = ptr("INACTIVE")
		return
	}
	s.steady = true
	primary := &s.state.Deployments[0]
	s.state.Deployments = s.state.Deployments[:1]
	if primary.RolloutState != types.DeploymentRolloutStateCompleted {
		primary.RolloutState = types.DeploymentRolloutStateCompleted
		primary.RolloutStateReason = ptr("ECS deployment " + *primary.Id + " completed.")
		primary.UpdatedAt = now()
		s.event("(deployment %s) deployment completed.", *primary.Id)
	}
	s.event("has reached a steady state.")
}

// taskEnds tells a service that one of its tasks is about to go, for its back-off: tasks that are not stopped but end by
// themselves before they have lived a while are replaced ever more slowly, as ECS does.
func (e *ECS) taskEnds(t *Task) {
	s := e.services[t.service]
	if s == nil {
		return
	}
	pause := e.Timing.Restart
	lived := t.state.StartedAt != nil && time.Since(*t.state.StartedAt) >= e.Timing.ShortLife
	scheduled := t.state.StopCode == types.TaskStopCodeServiceSchedulerInitiated || t.state.StopCode == types.TaskStopCodeUserInitiated
	if lived || scheduled {
		s.short = 0
	} else {
		s.short++
		s.state.Deployments[0].FailedTasks++
		pause = min(e.Timing.RestartLimit, pause<<min(s.short, 20))
	}
	if t.state.StopCode != types.TaskStopCodeServiceSchedulerInitiated {
		s.steady = false
		s.notBefore = time.Now().Add(pause)
	}
}

// tasksOf lists a service's tasks that have not stopped, of one deployment or ("") all, oldest first.
func (e *ECS) tasksOf(arn, deployment string) []*Task {
	var found []*Task
	for _, t := range e.tasks {
		if t.service == arn && *t.state.LastStatus != statusStopped && (deployment == "" || *t.state.StartedBy == deployment) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *Task) int { return a.state.CreatedAt.Compare(*b.state.CreatedAt) })
	return found
}
