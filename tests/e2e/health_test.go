package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Health as ECS asks it: a process of its own in the task's container, as its user, on its read-only root.

// bastion makes a service of one task that is as careful as can be: no root, nothing to write on, no exec agent, a health
// check.
func (w *world) bastion(variables map[string]string, change ...func(*sdk.CreateServiceInput)) *ecs.Task {
	w.Helper()
	c := types.ContainerDefinition{
		Name: aws.String("fumidai"), Image: aws.String("fumidai"), User: aws.String("65532:65532"), ReadonlyRootFilesystem: aws.Bool(true),
		StopTimeout: aws.Int32(8),
		HealthCheck: &types.HealthCheck{Command: []string{"CMD", "/fumidai", "health"}, Retries: aws.Int32(2)},
		Environment: []types.KeyValuePair{
			{Name: aws.String("ECS_TST_LOG_FORMAT"), Value: aws.String("json")}, {Name: aws.String("ECS_TST_LOG_LEVEL"), Value: aws.String("debug")},
			{Name: aws.String("FUMIDAI_RELAY"), Value: aws.String("on")}, // "auto" without namespaces would see agents of other tests
		},
	}
	for name, value := range variables {
		c.Environment = append(c.Environment, types.KeyValuePair{Name: aws.String(name), Value: aws.String(value)})
	}
	d, err := w.sdk.RegisterTaskDefinition(ctx, &sdk.RegisterTaskDefinitionInput{
		Family: aws.String(family), ContainerDefinitions: []types.ContainerDefinition{c}, Cpu: aws.String("256"), Memory: aws.String("512"),
		NetworkMode: types.NetworkModeAwsvpc, RequiresCompatibilities: []types.Compatibility{types.CompatibilityFargate},
		TaskRoleArn: aws.String("arn:aws:iam::123456789012:role/ecsTaskRole"),
	})
	w.must(err)
	in := &sdk.CreateServiceInput{
		ServiceName: aws.String(family), TaskDefinition: d.TaskDefinition.TaskDefinitionArn, DesiredCount: aws.Int32(1),
		DeploymentConfiguration: &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(0), MaximumPercent: aws.Int32(100)},
	}
	for _, f := range change {
		f(in)
	}
	_, err = w.sdk.CreateService(ctx, in)
	w.must(err)
	w.ECS.Until(10*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService(family))) > 0 })
	tasks := w.ECS.Tasks(ecs.InService(family))
	if len(tasks) == 0 || !tasks[0].WaitStatus("RUNNING", 10*time.Second) || tasks[0].State().StartedAt == nil {
		w.Fatal("the task does not start")
	}
	w.becomes(tasks[0], "there", 5*time.Second, func(r report) bool { return r.State != "" }) // RUNNING comes with the first instruction
	return tasks[0]
}

// report is the line of fumidai health.
type report struct {
	Healthy  bool
	Reason   string
	State    string
	Sessions int
	Relay    *struct {
		Up     bool
		PID    int
		Starts int
	}
	ControlChannel *struct {
		Open    bool
		Trouble string
	} `json:"control_channel"`
}

// health runs the health check in a task and checks that its exit status says what its line says.
func (w *world) health(task *ecs.Task) report {
	w.Helper()
	limit, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	code, err := task.Container(0).Exec(limit, []string{"/fumidai", "health"}, &out)
	w.must(err)
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || strings.Count(out.String(), "\n") != 1 {
		w.Fatalf("not one line of JSON (%v): %q", err, out.String())
	}
	if r.Healthy != (code == 0) || r.Healthy != (r.Reason == "") {
		w.Fatalf("exit status %d after %s", code, out.String())
	}
	return r
}

// becomes asks until the answer is as wanted.
func (w *world) becomes(task *ecs.Task, what string, limit time.Duration, ok func(report) bool) report {
	w.Helper()
	deadline := time.Now().Add(limit)
	for {
		r := w.health(task)
		if ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			w.Fatalf("not %s within %v: %+v", what, limit, r)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func isOpen(r report) bool { return r.Healthy && r.ControlChannel != nil && r.ControlChannel.Open }

func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *emulator.Options) { o.ECS.Timing.HealthInterval = 200 * time.Millisecond })
	task := w.bastion(nil)
	r := w.becomes(task, "open", 10*time.Second, isOpen)
	if r.State != "waiting" || r.Sessions != 0 || !r.Relay.Up || r.Relay.PID < 1 || r.Relay.Starts != 1 {
		t.Errorf("healthy, but %+v", r)
	}
	if !w.ECS.Until(5*time.Second, func() bool { return task.State().HealthStatus == types.HealthStatusHealthy }) {
		t.Errorf("ECS says %s", task.State().HealthStatus)
	}
}

func TestHealthOfStoppedRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.bastion(nil)
	w.becomes(task, "open", 10*time.Second, isOpen)
	all := relays(task.Container(0).PID())
	if len(all) != 1 {
		t.Fatalf("one relay, not %v", all)
	}
	w.must(syscall.Kill(all[0], syscall.SIGSTOP))
	w.becomes(task, "silent", 4*time.Second, func(r report) bool {
		return !r.Healthy && strings.Contains(r.Reason, "the relay has not reported for")
	})
	r := w.becomes(task, "open again", 15*time.Second, isOpen) // the keeper has replaced it
	if r.Relay.Starts != 2 {
		t.Errorf("the relay was started %d times", r.Relay.Starts)
	}
}

func TestHealthOfStoppedKeeper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.bastion(map[string]string{"FUMIDAI_RELAY": "off"})
	if r := w.health(task); !r.Healthy || r.Relay != nil || r.ControlChannel != nil {
		t.Errorf("watching only, and %+v", r)
	}
	pid := task.Container(0).PID()
	w.must(syscall.Kill(pid, syscall.SIGSTOP))
	r := w.health(task)
	w.must(syscall.Kill(pid, syscall.SIGCONT))
	if r.Healthy || !strings.Contains(r.Reason, "did not answer within") {
		t.Errorf("the keeper does nothing, and %+v", r)
	}
	w.becomes(task, "healthy", 2*time.Second, func(r report) bool { return r.Healthy })
}

// TestHealthOfRefusedChannel: a role that lacks the permission. The task is unhealthy once the limit is over, and ECS
// replaces it.
func TestHealthOfRefusedChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *emulator.Options) { o.ECS.Timing.HealthInterval = 300 * time.Millisecond })
	w.Edge.Faults.Add(edge.Fault{Service: "ssmmessages", Effect: edge.EffectError, Status: 403, Code: "AccessDeniedException",
		Message: "User is not authorized to perform: ssmmessages:CreateControlChannel"})
	begin := time.Now()
	task := w.bastion(map[string]string{"FUMIDAI_CHANNEL_LIMIT": "3s"})
	if r := w.health(task); !r.Healthy || r.ControlChannel.Open {
		t.Errorf("within the limit: %+v", r)
	}
	r := w.becomes(task, "unhealthy", 8*time.Second, func(r report) bool { return !r.Healthy })
	w.within("unhealthy", time.Since(begin), 3*time.Second, 3*time.Second+slack)
	if !strings.Contains(r.Reason, "the control channel has not been open for") || !strings.Contains(r.Reason, "AccessDeniedException") {
		t.Errorf("the reason is %q", r.Reason)
	}
	w.stopped(task, 20*time.Second)
	state := task.State()
	if aws.ToString(state.StoppedReason) != "Task failed container health checks" || state.HealthStatus != types.HealthStatusUnhealthy {
		t.Errorf("%s: %s", state.HealthStatus, aws.ToString(state.StoppedReason))
	}
	if !w.ECS.Until(5*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService(family))) == 2 }) {
		t.Error("it is not replaced")
	}
}

// A role that was refused ten times in a row is tried each five minutes, but at once with other credentials.
func TestDeniedChannelTriesNewCredentials(t *testing.T) {
	if testing.Short() {
		t.Skip("some minutes: ten refusals with growing pauses")
	}
	t.Parallel()
	w := newWorld(t)
	w.Edge.Faults.Add(edge.Fault{Service: "ssmmessages", Effect: edge.EffectError, Status: 403, Code: "AccessDeniedException",
		Message: "User is not authorized to perform: ssmmessages:CreateControlChannel"})
	s := siteOf(w)
	s.task = w.service("gate", map[string]string{"FUMIDAI_RELAY": "on"})
	refusals := func() int { return len(s.events("control channel is down, trying again")) }
	s.eventually("eleven refusals", 6*time.Minute, func() bool { return refusals() == 11 })
	w.Edge.Faults.Clear()
	time.Sleep(35 * time.Second)
	if refusals() != 11 || w.Gateway.Connected(s.task.Target()) {
		t.Fatal("it tries with the same credentials as before")
	}
	s.task.RotateCredentials()
	s.within("open again", s.eventually("the control channel to open", time.Minute, func() bool {
		return w.Gateway.Connected(s.task.Target())
	}), 0, 33*time.Second+slack)
	s.event("the credentials are other ones now, trying again", nil)
}

func TestHealthOutsideECS(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary, "health")
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID} // where no forward runs that would answer
	out, err := cmd.Output()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), `"healthy":false,"reason":"no fumidai answers at the abstract name fumidai-health/`) {
		t.Errorf("exit status %d after %s", cmd.ProcessState.ExitCode(), out)
	}
}
