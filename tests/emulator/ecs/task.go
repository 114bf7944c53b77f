package ecs

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The states of a task in the order it goes through them (ACTIVATING and DEACTIVATING are for load balancers).
const (
	statusProvisioning   = "PROVISIONING"
	statusPending        = "PENDING"
	statusRunning        = "RUNNING"
	statusStopping       = "STOPPING"
	statusDeprovisioning = "DEPROVISIONING"
	statusStopped        = "STOPPED"
)

// Task is one task. Its exported methods are for tests.
type Task struct {
	ecs            *ECS
	id             string
	service        string // its service's ARN, or empty
	definition     *types.TaskDefinition
	state          types.Task
	protectedUntil time.Time
	stopping       chan struct{} // closed when the task is to stop
	killed         chan struct{} // closed when the emulator ends
	output         Output

	credentials string // the uuid of its credentials' path
	key         edge.Key
	sandbox     fargate.Sandbox
	server      *http.Server        // of the task's own endpoints
	containers  []fargate.Container // in the definition's order; nil where not started
	agentDir    string              // what the exec agent shares with the containers, if there is one
	agent       *ExecAgent
	born        time.Time // when its first container started
}

// newTask makes a task that has not been launched.
func (e *ECS) newTask(cluster string, d *types.TaskDefinition, overrides *types.TaskOverride) *Task {
	t := &Task{ecs: e, id: hexID(16), definition: d, credentials: uuid(), stopping: make(chan struct{}), killed: make(chan struct{})}
	if overrides == nil {
		overrides = &types.TaskOverride{}
	}
	t.state = types.Task{
		TaskArn: ptr(e.arn("task", cluster, t.id)), ClusterArn: ptr(e.arn("cluster", cluster)), TaskDefinitionArn: d.TaskDefinitionArn,
		LastStatus: ptr(statusProvisioning), DesiredStatus: ptr(statusRunning), CreatedAt: now(), Version: 1,
		LaunchType: types.LaunchTypeFargate, PlatformVersion: ptr("1.4.0"), PlatformFamily: ptr("Linux"), AvailabilityZone: ptr(e.Region + "a"),
		Cpu: d.Cpu, Memory: d.Memory, Connectivity: types.ConnectivityConnected, HealthStatus: types.HealthStatusUnknown,
		Group: ptr("family:" + *d.Family), Overrides: overrides, Tags: []types.Tag{}, Attachments: []types.Attachment{},
		EphemeralStorage: &types.EphemeralStorage{SizeInGiB: 20},
	}
	for _, c := range d.ContainerDefinitions {
		t.state.Containers = append(t.state.Containers, types.Container{
			ContainerArn: ptr(e.arn("container", cluster, t.id, uuid())), TaskArn: t.state.TaskArn, Name: c.Name, Image: c.Image,
			LastStatus: ptr(statusPending), RuntimeId: ptr(t.id + "-" + decimalID(10)), HealthStatus: types.HealthStatusUnknown,
			NetworkBindings: []types.NetworkBinding{}, NetworkInterfaces: []types.NetworkInterface{}, Cpu: ptr(fmt.Sprint(c.Cpu)),
		})
	}
	t.containers = make([]fargate.Container, len(d.ContainerDefinitions))
	return t
}

// placeOn makes it a task of another launch type than Fargate: EC2's agent and ECS Anywhere's tell less about it.
func (t *Task) placeOn(launchType types.LaunchType) {
	if launchType == "" || launchType == types.LaunchTypeFargate {
		return
	}
	t.state.LaunchType, t.state.PlatformVersion, t.state.PlatformFamily, t.state.EphemeralStorage = launchType, nil, nil, nil
	if launchType == types.LaunchTypeExternal {
		t.state.AvailabilityZone = nil
	}
}

func (t *Task) onFargate() bool { return t.state.LaunchType == types.LaunchTypeFargate }

func (e *ECS) launch(t *Task) {
	e.tasks[*t.state.TaskArn] = t
	e.running.Add(1)
	go t.drive()
	e.notify()
}

// ending reports whether the task is to stop, or has stopped.
func (t *Task) ending() bool { return *t.state.DesiredStatus == statusStopped }

// stop asks for the task's end. The first reason counts. The lock is held.
func (t *Task) stop(code types.TaskStopCode, reason string) {
	if t.ending() {
		return
	}
	t.state.DesiredStatus, t.state.StopCode, t.state.StoppedReason, t.state.StoppingAt = ptr(statusStopped), code, &reason, now()
	t.state.Version++
	close(t.stopping)
	t.ecs.taskEnds(t)
	t.ecs.notify()
}

// kill ends the task without manners. The lock is held.
func (t *Task) kill() {
	t.stop(types.TaskStopCodeTerminationNotice, "The emulator ends")
	close(t.killed)
}

// set moves the task to a state, with whatever else changes at that moment.
func (t *Task) set(status string, also func()) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	t.state.LastStatus = &status
	t.state.Version++
	if also != nil {
		also()
	}
	t.ecs.Log.Debug("task", "id", t.id, "status", status)
	t.ecs.notify()
}

// drive takes a task through its life.
func (t *Task) drive() {
	defer t.ecs.running.Done()
	if err := t.begin(); err != nil {
		t.ecs.mu.Lock()
		t.stop(types.TaskStopCodeTaskFailedToStart, err.Error())
		t.ecs.mu.Unlock()
	} else {
		t.untilEnd()
	}
	t.end()
}

// pause waits, unless the task is to stop meanwhile.
func (t *Task) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-t.stopping:
		return fmt.Errorf("Task stopped before it started") //nolint:staticcheck // ECS's wording
	}
}

// begin goes from PROVISIONING to RUNNING.
func (t *Task) begin() error {
	if err := t.pause(t.ecs.Timing.Provision); err != nil {
		return err
	}
	sandbox, err := t.ecs.Runner.Provision(t.id)
	if err != nil {
		return fmt.Errorf("ResourceInitializationError: %w", err)
	}
	t.set(statusPending, func() {
		t.sandbox = sandbox
		t.state.PullStartedAt, t.state.ConnectivityAt = now(), now()
		t.attach(sandbox.Network())
	})
	t.serveLocal()
	if err := t.pause(t.ecs.Timing.Pull); err != nil {
		return err
	}
	if err := t.makeAgentDir(); err != nil {
		return fmt.Errorf("ResourceInitializationError: %w", err)
	}
	t.set(statusPending, func() { t.state.PullStoppedAt = now() })
	for i := range t.definition.ContainerDefinitions {
		if err := t.startContainer(i); err != nil {
			return err
		}
	}
	if err := t.startAgent(); err != nil { // the container has ended already
		t.ecs.Log.Warn("start the exec agent", "task", t.id, "error", err)
	}
	t.set(statusRunning, func() { t.state.StartedAt = &t.born })
	for i := range t.containers {
		go t.checkHealth(i)
	}
	return nil
}

// attach notes the task's network interface as DescribeTasks shows it.
func (t *Task) attach(n fargate.Network) {
	id := uuid()
	t.state.Attachments = []types.Attachment{{Id: &id, Type: ptr("ElasticNetworkInterface"), Status: ptr("ATTACHED"), Details: []types.KeyValuePair{
		{Name: ptr("subnetId"), Value: ptr("subnet-00000000000000001")},
		{Name: ptr("networkInterfaceId"), Value: ptr("eni-0" + t.id[:16])},
		{Name: ptr("macAddress"), Value: &n.MAC},
		{Name: ptr("privateDnsName"), Value: &n.Hostname},
		{Name: ptr("privateIPv4Address"), Value: ptr(n.Address.String())},
	}}}
	for i := range t.state.Containers {
		t.state.Containers[i].NetworkInterfaces = []types.NetworkInterface{{AttachmentId: &id, PrivateIpv4Address: ptr(n.Address.String())}}
	}
}

func (t *Task) startContainer(i int) error {
	d := t.definition.ContainerDefinitions[i]
	image, err := t.ecs.Image(*d.Image)
	if err != nil {
		return fmt.Errorf("CannotPullContainerError: %w", err)
	}
	spec := fargate.Spec{
		Name: *d.Name, Image: image, User: *or(d.User, image.User), ReadOnlyRoot: value(d.ReadonlyRootFilesystem),
		CPU: units(t.definition.Cpu, 1024), Memory: int64(units(t.definition.Memory, 1)) << 20,
		Env: t.environment(i, image), Stdout: &t.output, Stderr: &t.output, Args: t.arguments(i, image),
	}
	for _, u := range d.Ulimits {
		if u.Name == types.UlimitNameNofile {
			spec.OpenFiles = uint64(u.HardLimit) //nolint:gosec // checked by nobody, as by ECS
		}
	}
	if t.ecs.Output != nil {
		w := teeWriter{&t.output, t.ecs.Output(t.State(), d)}
		spec.Stdout, spec.Stderr = w, w
	}
	if t.agentDir != "" {
		for _, path := range agentPaths {
			spec.Mounts = append(spec.Mounts, fargate.Mount{Source: filepath.Join(t.agentDir, path), Target: path})
		}
	}
	t.ecs.mu.Lock()
	if t.born.IsZero() {
		t.born = time.Now()
	}
	t.ecs.mu.Unlock()
	container, err := t.sandbox.Run(spec)
	if err != nil {
		return fmt.Errorf("CannotStartContainerError: %w", err)
	}
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	t.containers[i] = container
	t.state.Containers[i].LastStatus = ptr(statusRunning)
	return nil
}

func (t *Task) override(i int) types.ContainerOverride {
	for _, o := range t.state.Overrides.ContainerOverrides {
		if value(o.Name) == *t.definition.ContainerDefinitions[i].Name {
			return o
		}
	}
	return types.ContainerOverride{}
}

// arguments combines image, definition and override as docker does: an entry point of the definition drops the image's
// command.
func (t *Task) arguments(i int, image fargate.Image) []string {
	d, o := t.definition.ContainerDefinitions[i], t.override(i)
	entry, command := image.Entrypoint, image.Command
	if d.EntryPoint != nil {
		entry, command = d.EntryPoint, nil
	}
	if d.Command != nil {
		command = d.Command
	}
	if o.Command != nil {
		command = o.Command
	}
	return append(append([]string{}, entry...), command...)
}

// environment is what a container on Fargate finds, then the image's, the definition's and the override's variables.
func (t *Task) environment(i int, image fargate.Image) []string {
	base, id := t.sandbox.LocalURL(), *t.state.Containers[i].RuntimeId
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOSTNAME=" + t.sandbox.Network().Hostname,
		"AWS_EXECUTION_ENV=AWS_ECS_" + map[bool]string{true: "FARGATE", false: "EC2"}[t.onFargate()],
		"AWS_DEFAULT_REGION=" + t.ecs.Region,
		"AWS_REGION=" + t.ecs.Region,
		"ECS_CONTAINER_METADATA_URI=" + base + "/v3/" + id,
		"ECS_CONTAINER_METADATA_URI_V4=" + base + "/v4/" + id,
		"ECS_AGENT_URI=" + base + "/api/" + id,
	}
	if t.definition.TaskRoleArn != nil {
		path := "/v2/credentials/" + t.credentials
		if t.sandbox.LinkLocal() {
			env = append(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="+path)
		} else {
			env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+base+path, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+t.credentials)
		}
	}
	if t.agentDir != "" && !t.sandbox.LinkLocal() { // nothing can be mounted: say where it is
		env = append(env, "ECS_TST_SSM_AGENT_LOG_LOCATION="+filepath.Join(t.agentDir, agentLog))
	}
	env = append(append(env, t.sandbox.Env()...), image.Env...)
	for _, pairs := range [][]types.KeyValuePair{t.definition.ContainerDefinitions[i].Environment, t.override(i).Environment} {
		for _, pair := range pairs {
			env = append(env, *pair.Name+"="+value(pair.Value))
		}
	}
	return lastWins(env)
}

// lastWins drops variables that are set again later: what a program finds otherwise depends on the program.
func lastWins(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if i, ok := at[name]; ok {
			out[i] = entry
			continue
		}
		at[name] = len(out)
		out = append(out, entry)
	}
	return out
}

// untilEnd waits until the task is to stop, or an essential container ends by itself.
func (t *Task) untilEnd() {
	ended := make(chan int, len(t.containers))
	for i, c := range t.containers {
		go func() {
			<-c.Done()
			ended <- i
		}()
	}
	for {
		select {
		case <-t.stopping:
			return
		case i := <-ended:
			t.containerEnded(i)
			if value(t.definition.ContainerDefinitions[i].Essential) {
				t.ecs.mu.Lock()
				t.stop(types.TaskStopCodeEssentialContainerExited, "Essential container in task exited")
				t.ecs.mu.Unlock()
				return
			}
		}
	}
}

func (t *Task) containerEnded(i int) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	t.state.Containers[i].LastStatus = ptr(statusStopped)
	t.state.Containers[i].ExitCode = ptr(int32(t.containers[i].ExitCode()))
	if t.state.ExecutionStoppedAt == nil {
		t.state.ExecutionStoppedAt = now()
	}
	t.ecs.notify()
}

// end goes from wherever the task is to STOPPED: SIGTERM (or the image's own signal), the containers' stop timeouts, SIGKILL.
func (t *Task) end() {
	t.set(statusStopping, nil)
	done := make(chan struct{}, len(t.containers))
	for i, c := range t.containers {
		go func() {
			if c != nil {
				t.stopContainer(i, c)
				t.containerEnded(i)
			}
			done <- struct{}{}
		}()
	}
	for range t.containers {
		<-done
	}
	t.set(statusDeprovisioning, nil)
	if t.sandbox != nil {
		t.server.Close()
		if err := t.sandbox.Close(); err != nil {
			t.ecs.Log.Warn("release the sandbox", "task", t.id, "error", err)
		}
	}
	select {
	case <-time.After(t.ecs.Timing.Deprovision):
	case <-t.killed:
	}
	if t.agentDir != "" {
		os.RemoveAll(t.agentDir)
	}
	t.set(statusStopped, func() {
		t.state.StoppedAt = now()
		t.state.Connectivity = types.ConnectivityDisconnected
	})
	time.AfterFunc(t.ecs.Timing.Retention, func() {
		t.ecs.mu.Lock()
		defer t.ecs.mu.Unlock()
		delete(t.ecs.tasks, *t.state.TaskArn)
	})
}

func (t *Task) stopContainer(i int, c fargate.Container) {
	select {
	case <-c.Done():
		return
	default:
	}
	signal := syscall.SIGTERM
	if image, err := t.ecs.Image(*t.definition.ContainerDefinitions[i].Image); err == nil && image.StopSignal != 0 {
		signal = image.StopSignal
	}
	c.Signal(signal) //nolint:errcheck // it may have ended just now
	limit := t.ecs.Timing.StopTimeout
	if s := t.definition.ContainerDefinitions[i].StopTimeout; s != nil {
		limit = time.Duration(*s) * time.Second
	}
	select {
	case <-c.Done():
		return
	case <-time.After(limit):
	case <-t.killed:
	}
	c.Kill()
	<-c.Done()
}

// ID is the task's short id.
func (t *Task) ID() string { return t.id }

// ARN is the task's ARN.
func (t *Task) ARN() string { return *t.state.TaskArn }

// State is what DescribeTasks would say now.
func (t *Task) State() types.Task {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	return clone(t.state)
}

// Target is the task's Session Manager target, of its first container.
func (t *Task) Target() string {
	state := t.State()
	return fmt.Sprintf("ecs:%s_%s_%s", last(*state.ClusterArn), t.id, *state.Containers[0].RuntimeId)
}

// Output is what the task's containers have written so far, standard output and error as they came.
func (t *Task) Output() string { return t.output.String() }

// Container is the i-th container once it runs, else nil.
func (t *Task) Container(i int) fargate.Container {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	return t.containers[i]
}

// Key is the role's credentials that the task was given last.
func (t *Task) Key() edge.Key {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	return t.key
}

// WaitStatus waits until the task has come to a state or is beyond it.
func (t *Task) WaitStatus(status string, limit time.Duration) bool {
	order := map[string]int{statusProvisioning: 0, statusPending: 1, statusRunning: 2, statusStopping: 3, statusDeprovisioning: 4, statusStopped: 5}
	return t.ecs.Until(limit, func() bool { return order[*t.State().LastStatus] >= order[status] })
}

// Tasks lists the tasks that a filter lets through, oldest first.
func (e *ECS) Tasks(keep func(types.Task) bool) []*Task {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*Task
	for _, t := range e.tasks {
		if keep == nil || keep(t.state) {
			found = append(found, t)
		}
	}
	sortTasks(found)
	return found
}

// InService keeps the tasks of one service.
func InService(name string) func(types.Task) bool {
	return func(t types.Task) bool { return value(t.Group) == "service:"+name }
}

// ServiceState is what DescribeServices would say of a service; nil if there is none.
func (e *ECS) ServiceState(cluster, name string) *types.Service {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.services[e.arn("service", cluster, name)]
	if s == nil {
		return nil
	}
	return e.serviceState(s, true)
}
