package ecs

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// This file is ECS's container health checks: a command run in the container again and again. A task of a service whose
// essential container is unhealthy is replaced.

// completeHealthCheck fills in what ECS echoes although it was not given, and refuses what it would refuse.
func completeHealthCheck(h *types.HealthCheck) error {
	if h == nil {
		return nil
	}
	if len(h.Command) < 2 || !slices.Contains([]string{"CMD", "CMD-SHELL"}, h.Command[0]) {
		return clientError("Container.healthCheck.command must begin with CMD or CMD-SHELL.")
	}
	for _, field := range []struct {
		name                string
		value               **int32
		least, most, absent int32
	}{{"interval", &h.Interval, 5, 300, 30}, {"timeout", &h.Timeout, 2, 60, 5}, {"retries", &h.Retries, 1, 10, 3}, {"startPeriod", &h.StartPeriod, 0, 300, 0}} {
		if *field.value == nil {
			*field.value = ptr(field.absent)
		}
		if n := **field.value; n < field.least || n > field.most {
			return clientError("Container.healthCheck." + field.name + " is out of its bounds.")
		}
	}
	return nil
}

// checkHealth runs a container's health check until the container ends. Failures in a row count, those within the start
// period do not; the first success ends that period.
func (t *Task) checkHealth(i int) {
	check := t.definition.ContainerDefinitions[i].HealthCheck
	if check == nil || check.Command[0] != "CMD" { // there is no shell in an image from scratch
		return
	}
	interval := t.ecs.Timing.HealthInterval
	if interval == 0 {
		interval = seconds(check.Interval)
	}
	graceUntil := time.Now().Add(seconds(check.StartPeriod))
	failures := int32(0)
	for {
		select {
		case <-t.containers[i].Done():
			return
		case <-t.stopping:
			return
		case <-time.After(interval):
		}
		if t.runHealthCheck(i, check) {
			failures, graceUntil = 0, time.Time{}
			t.setHealth(i, types.HealthStatusHealthy)
		} else if time.Now().After(graceUntil) {
			if failures++; failures >= *check.Retries {
				t.setHealth(i, types.HealthStatusUnhealthy)
			}
		}
	}
}

func seconds(n *int32) time.Duration { return time.Duration(value(n)) * time.Second }

func (t *Task) runHealthCheck(i int, check *types.HealthCheck) bool {
	ctx, cancel := context.WithTimeout(context.Background(), seconds(check.Timeout))
	defer cancel()
	var output bytes.Buffer
	code, err := t.containers[i].Exec(ctx, check.Command[1:], &output)
	if err != nil || code != 0 {
		t.ecs.Log.Info("health check failed", "task", t.id, "code", code, "error", err, "output", output.String())
	}
	return err == nil && code == 0
}

// setHealth notes a container's health, and the task's: that of its essential containers together.
func (t *Task) setHealth(i int, status types.HealthStatus) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	if t.state.Containers[i].HealthStatus == status || t.ending() {
		return
	}
	t.state.Containers[i].HealthStatus = status
	t.state.HealthStatus = types.HealthStatusHealthy
	for j, c := range t.state.Containers {
		d := t.definition.ContainerDefinitions[j]
		if !value(d.Essential) || d.HealthCheck == nil {
			continue
		}
		switch c.HealthStatus {
		case types.HealthStatusUnhealthy:
			t.state.HealthStatus = types.HealthStatusUnhealthy
		case types.HealthStatusUnknown:
			if t.state.HealthStatus == types.HealthStatusHealthy {
				t.state.HealthStatus = types.HealthStatusUnknown
			}
		}
	}
	t.state.Version++
	if t.service != "" && t.state.HealthStatus == types.HealthStatusUnhealthy {
		t.stop(types.TaskStopCodeServiceSchedulerInitiated, "Task failed container health checks")
	}
	t.ecs.notify()
}
