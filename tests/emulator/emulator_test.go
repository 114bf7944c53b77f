package emulator_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
)

// dummy is the dummy task's binary, static so that it runs in a root that holds nothing else.
var dummy string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dummy-task-")
	if err != nil {
		panic(err)
	}
	dummy = filepath.Join(dir, "dummy-task")
	build := exec.Command("go", "build", "-o", dummy, "./cmd/dummy-task")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	os.Chmod(dir, 0o755)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// kinds runs a test with each kind of runner that this user may use.
func kinds(t *testing.T, test func(t *testing.T, namespaces bool)) {
	t.Run("process", func(t *testing.T) { t.Parallel(); test(t, false) })
	t.Run("namespaces", func(t *testing.T) {
		needRoot(t)
		t.Parallel()
		test(t, true)
	})
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

type fixture struct {
	*testing.T
	*emulator.Emulator
	sdk *sdk.Client
}

func start(t *testing.T, namespaces bool, change ...func(*emulator.Options)) *fixture {
	t.Helper()
	o := emulator.Options{Namespaces: namespaces, Image: func(name string) (fargate.Image, error) {
		if name != "dummy" {
			return fargate.Image{}, errors.New("not found")
		}
		return fargate.Image{Files: map[string]string{"/dummy": dummy}, Entrypoint: []string{"/dummy"}}, nil
	}}
	o.ECS.Timing = ecs.Timing{Provision: time.Millisecond, Pull: time.Millisecond, Deprovision: time.Millisecond, Reaction: 10 * time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return &fixture{t, e, client(e)}
}

func client(e *emulator.Emulator) *sdk.Client {
	return sdk.New(sdk.Options{Region: e.Region, BaseEndpoint: aws.String(e.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(emulator.AccessKeyID, emulator.SecretAccessKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.Edge.CA.Pool()}}}})
}

var ctx = context.Background()

// register registers a definition of one container.
func (f *fixture) register(change func(*types.ContainerDefinition), command ...string) string {
	f.Helper()
	c := types.ContainerDefinition{Name: aws.String("gate"), Image: aws.String("dummy"), Command: command, StopTimeout: aws.Int32(2)}
	if change != nil {
		change(&c)
	}
	out, err := f.sdk.RegisterTaskDefinition(ctx, &sdk.RegisterTaskDefinitionInput{
		Family: aws.String("gate"), ContainerDefinitions: []types.ContainerDefinition{c}, Cpu: aws.String("256"), Memory: aws.String("512"),
		NetworkMode: types.NetworkModeAwsvpc, RequiresCompatibilities: []types.Compatibility{types.CompatibilityFargate},
		TaskRoleArn: aws.String("arn:aws:iam::123456789012:role/gate-task"),
	})
	if err != nil {
		f.Fatal(err)
	}
	return *out.TaskDefinition.TaskDefinitionArn
}

// run runs one task to its end.
func (f *fixture) run(change func(*types.ContainerDefinition), command ...string) *ecs.Task {
	f.Helper()
	t := f.launch(change, command...)
	f.stopped(t)
	return t
}

func (f *fixture) launch(change func(*types.ContainerDefinition), command ...string) *ecs.Task {
	f.Helper()
	out, err := f.sdk.RunTask(ctx, &sdk.RunTaskInput{TaskDefinition: aws.String(f.register(change, command...))})
	if err != nil {
		f.Fatal(err)
	}
	return f.ECS.Tasks(func(t types.Task) bool { return *t.TaskArn == *out.Tasks[0].TaskArn })[0]
}

func (f *fixture) stopped(t *ecs.Task) {
	f.Helper()
	if !t.WaitStatus("STOPPED", 10*time.Second) {
		f.Fatalf("task is %s; it wrote: %s", *t.State().LastStatus, t.Output())
	}
}

func (f *fixture) wantOutput(t *ecs.Task, words ...string) {
	f.Helper()
	out := t.Output()
	for _, w := range words {
		if !strings.Contains(out, w) {
			f.Errorf("no %q in the output:\n%s", w, out)
		}
	}
}

func TestTaskLooksLikeFargate(t *testing.T) {
	kinds(t, func(t *testing.T, namespaces bool) {
		f := start(t, namespaces)
		task := f.run(func(c *types.ContainerDefinition) {
			c.Environment = []types.KeyValuePair{{Name: aws.String("OWN"), Value: aws.String("value")}}
			c.ReadonlyRootFilesystem = aws.Bool(true)
		}, "env", "get=$ECS_CONTAINER_METADATA_URI_V4", "get=$ECS_CONTAINER_METADATA_URI_V4/task", "credentials", "id", "write=/x", "exit=3")
		state := task.State()
		runtimeID := *state.Containers[0].RuntimeId
		f.wantOutput(task,
			`"AWS_EXECUTION_ENV=AWS_ECS_FARGATE"`, `"AWS_REGION=ap-northeast-1"`, `"OWN=value"`, "/v4/"+runtimeID+`"`,
			`"DockerId":"`+runtimeID+`"`, `"Family":"gate"`, `"TaskARN":"`+task.ARN()+`"`,
			`"RoleArn":"arn:aws:iam::123456789012:role/gate-task"`)
		if namespaces {
			f.wantOutput(task, `"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/`, `"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/`,
				"id 1 0", "write /x open /x: read-only file system")
		}
		if *state.LastStatus != "STOPPED" || state.StopCode != types.TaskStopCodeEssentialContainerExited || *state.Containers[0].ExitCode != 3 ||
			*state.StoppedReason != "Essential container in task exited" || *state.Group != "family:gate" {
			t.Errorf("ended as %+v", state)
		}
		if !strings.HasPrefix(runtimeID, task.ID()+"-") || len(task.ID()) != 32 {
			t.Errorf("runtime id %s of task %s", runtimeID, task.ID())
		}
	})
}

func TestStops(t *testing.T) {
	for _, test := range []struct {
		name     string
		command  []string
		timeout  int32
		exit     int32
		slowerBy time.Duration
	}{
		{"obeys SIGTERM", []string{"term=7", "wait"}, 5, 7, 0},
		{"ignores SIGTERM", []string{"ignore", "wait"}, 1, 137, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			kinds(t, func(t *testing.T, namespaces bool) {
				f := start(t, namespaces)
				task := f.launch(func(c *types.ContainerDefinition) { c.StopTimeout = &test.timeout }, test.command...)
				task.WaitStatus("RUNNING", 5*time.Second)
				time.Sleep(100 * time.Millisecond) // for it to set its handler
				begin := time.Now()
				if _, err := f.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(task.ID()), Reason: aws.String("enough")}); err != nil {
					t.Fatal(err)
				}
				f.stopped(task)
				state := task.State()
				if *state.Containers[0].ExitCode != test.exit || *state.StoppedReason != "enough" || state.StopCode != types.TaskStopCodeUserInitiated {
					t.Errorf("exit %d, %s, %s", *state.Containers[0].ExitCode, *state.StoppedReason, state.StopCode)
				}
				if took := time.Since(begin); took < test.slowerBy || took > test.slowerBy+3*time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestFailsToStart(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	task := f.run(func(c *types.ContainerDefinition) { c.Image = aws.String("nothing") })
	state := task.State()
	if state.StopCode != types.TaskStopCodeTaskFailedToStart || !strings.HasPrefix(*state.StoppedReason, "CannotPullContainerError") || state.StartedAt != nil {
		t.Errorf("ended as %s: %s", state.StopCode, *state.StoppedReason)
	}
}

// create makes the service "gate".
func (f *fixture) create(definition string, count int32, change func(*sdk.CreateServiceInput)) {
	f.Helper()
	in := &sdk.CreateServiceInput{ServiceName: aws.String("gate"), TaskDefinition: &definition, DesiredCount: &count}
	if change != nil {
		change(in)
	}
	if _, err := f.sdk.CreateService(ctx, in); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) update(in sdk.UpdateServiceInput) {
	f.Helper()
	in.Service = aws.String("gate")
	if _, err := f.sdk.UpdateService(ctx, &in); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) service() types.Service {
	f.Helper()
	out, err := f.sdk.DescribeServices(ctx, &sdk.DescribeServicesInput{Services: []string{"gate"}})
	if err != nil || len(out.Services) != 1 {
		f.Fatal(out, err)
	}
	return out.Services[0]
}

// settled waits as ecspresso's waiter does.
func (f *fixture) settled(count int32) types.Service {
	f.Helper()
	ok := f.ECS.Until(5*time.Second, func() bool {
		s := f.ECS.ServiceState("default", "gate")
		return len(s.Deployments) == 1 && s.RunningCount == count && s.DesiredCount == count && s.Deployments[0].RolloutState == types.DeploymentRolloutStateCompleted
	})
	if !ok {
		f.Fatalf("not settled: %+v", f.service())
	}
	return f.service()
}

func TestServiceScales(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	f.create(f.register(nil, "term=0", "wait"), 0, nil)
	f.settled(0)
	f.update(sdk.UpdateServiceInput{DesiredCount: aws.Int32(1)})
	s := f.settled(1)
	task := f.ECS.Tasks(ecs.InService("gate"))[0]
	if state := task.State(); *state.StartedBy != *s.Deployments[0].Id || *state.Group != "service:gate" || !strings.HasPrefix(*state.StartedBy, "ecs-svc/") {
		t.Errorf("task %+v", state)
	}
	f.update(sdk.UpdateServiceInput{DesiredCount: aws.Int32(0)})
	f.settled(0)
	f.stopped(task)
	if state := task.State(); state.StopCode != types.TaskStopCodeServiceSchedulerInitiated || !strings.HasPrefix(*state.StoppedReason, "Scaling activity initiated by (deployment ecs-svc/") {
		t.Errorf("stopped with %s: %s", state.StopCode, *state.StoppedReason)
	}
	var messages []string
	for _, e := range f.service().Events {
		messages = append(messages, *e.Message)
	}
	log := strings.Join(messages, "\n")
	for _, words := range []string{"has started 1 tasks: (task " + task.ID(), "has stopped 1 running tasks: (task " + task.ID(), "has reached a steady state."} {
		if !strings.Contains(log, words) {
			t.Errorf("no event %q in\n%s", words, log)
		}
	}
}

func TestServiceReplacesTasks(t *testing.T) {
	t.Parallel()
	f := start(t, false, func(o *emulator.Options) { o.ECS.Timing.Restart = 20 * time.Millisecond })
	f.create(f.register(nil, "exit=1"), 1, nil)
	ok := f.ECS.Until(10*time.Second, func() bool { return len(f.ECS.Tasks(ecs.InService("gate"))) >= 4 })
	if !ok {
		t.Fatal("tasks are not replaced")
	}
	tasks := f.ECS.Tasks(ecs.InService("gate"))
	first := tasks[1].State().CreatedAt.Sub(*tasks[0].State().StoppingAt)
	third := tasks[3].State().CreatedAt.Sub(*tasks[2].State().StoppingAt)
	if first < 40*time.Millisecond || third < 160*time.Millisecond {
		t.Errorf("pauses %v, %v: they should double from 40 ms", first, third)
	}
}

func TestDeploymentsKeepWithinPercentages(t *testing.T) {
	for _, test := range []struct {
		min, max int32
		overlap  bool
	}{{0, 100, false}, {100, 200, true}} {
		t.Run(fmt.Sprintf("%d-%d", test.min, test.max), func(t *testing.T) {
			t.Parallel()
			f := start(t, false)
			f.create(f.register(nil, "term=0", "wait"), 1, func(in *sdk.CreateServiceInput) {
				in.DeploymentConfiguration = &types.DeploymentConfiguration{MinimumHealthyPercent: &test.min, MaximumPercent: &test.max}
			})
			f.settled(1)
			f.update(sdk.UpdateServiceInput{TaskDefinition: aws.String(f.register(nil, "term=0", "wait"))})
			ok := f.ECS.Until(5*time.Second, func() bool { return len(f.ECS.Tasks(ecs.InService("gate"))) == 2 })
			if !ok {
				t.Fatal("no new task")
			}
			f.settled(1)
			tasks := f.ECS.Tasks(ecs.InService("gate"))
			f.stopped(tasks[0])
			old, young := tasks[0].State(), tasks[1].State()
			if overlap := young.CreatedAt.Before(*old.StoppingAt); overlap != test.overlap {
				t.Errorf("the new task came %v, the old one was to stop %v", young.CreatedAt, old.StoppingAt)
			}
			if !test.overlap && young.CreatedAt.Before(*old.StoppedAt) {
				t.Error("two tasks at once")
			}
		})
	}
}

func TestProtectedTasksAreNotScaledIn(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	f.create(f.register(nil, "term=0", "wait"), 2, nil)
	f.settled(2)
	tasks := f.ECS.Tasks(ecs.InService("gate"))
	youngest := tasks[1]
	if _, err := f.sdk.UpdateTaskProtection(ctx, &sdk.UpdateTaskProtectionInput{Cluster: aws.String("default"), Tasks: []string{youngest.ID()}, ProtectionEnabled: true}); err != nil {
		t.Fatal(err)
	}
	f.update(sdk.UpdateServiceInput{DesiredCount: aws.Int32(1)})
	f.stopped(tasks[0])
	f.settled(1)
	if *youngest.State().LastStatus != "RUNNING" {
		t.Error("the protected task was stopped")
	}
}

func TestCredentialsRotateAndExpire(t *testing.T) {
	t.Parallel()
	f := start(t, false, func(o *emulator.Options) { o.ECS.Timing.CredentialLifetime = 3 * time.Second })
	task := f.launch(nil, "credentials", "sleep=1s", "credentials", "sleep=1500ms", "credentials")
	f.stopped(task)
	var ids []string
	for _, line := range strings.Split(strings.TrimSpace(task.Output()), "\n") {
		_, rest, _ := strings.Cut(line, `"AccessKeyId":"`)
		id, _, _ := strings.Cut(rest, `"`)
		ids = append(ids, id)
	}
	if len(ids) != 3 || ids[0] != ids[1] || ids[1] == ids[2] {
		t.Errorf("access keys %q: the second should be the first, the third a new one", ids)
	}
}

func TestMetadataFaults(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	f.Edge.Faults.Add(edge.Fault{Service: edge.ServiceMetadata, Effect: edge.EffectError, Status: 503, Within: 500 * time.Millisecond})
	f.Edge.Faults.Add(edge.Fault{Service: edge.ServiceCredentials, Effect: edge.EffectError, Status: 500, Times: 1})
	task := f.run(nil, "get=$ECS_CONTAINER_METADATA_URI_V4", "credentials", "sleep=700ms", "get=$ECS_CONTAINER_METADATA_URI_V4", "credentials")
	lines := strings.Split(strings.TrimSpace(task.Output()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "get 503") || strings.HasPrefix(lines[1], "get 200") ||
		!strings.HasPrefix(lines[2], "get 200") || !strings.HasPrefix(lines[3], "get 200") {
		t.Errorf("the task saw:\n%s", task.Output())
	}
}

func TestNamespacesIsolate(t *testing.T) {
	needRoot(t)
	t.Parallel()
	f := start(t, true)
	f.VPC.DNS.Set("db.internal", f.VPC.Resolver)
	task := f.run(nil, "proc", "lookup=ecs.ap-northeast-1.amazonaws.com", "lookup=db.internal", "lookup=nothing.internal")
	f.wantOutput(task, `{"1":["/dummy",`, "lookup ecs.ap-northeast-1.amazonaws.com [10.0.0.2] <nil>", "lookup db.internal [10.0.0.2] <nil>", "no such host")
}

func TestExecAgent(t *testing.T) {
	needRoot(t)
	t.Parallel()
	f := start(t, true)
	f.create(f.register(nil, "term=0", "sleep=1s", "proc", "log=/var/log/amazon/ssm/amazon-ssm-agent.log", "wait"), 1,
		func(in *sdk.CreateServiceInput) { in.EnableExecuteCommand = true })
	f.settled(1)
	task := f.ECS.Tasks(ecs.InService("gate"))[0]
	agent, err := task.ExecAgent()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"one", "two"} {
		if err := agent.StartSession(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := agent.EndSession("one", true); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); !strings.Contains(task.Output(), "log ") && time.Since(begin) < 5*time.Second; {
		time.Sleep(20 * time.Millisecond)
	}
	f.wantOutput(task, `["/managed-agents/execute-command/ssm-session-worker","two"]`, `["/managed-agents/execute-command/amazon-ssm-agent"]`, "INFO [ssm-session-worker] [one] Session worker closed")
	if strings.Contains(task.Output(), `ssm-session-worker","one"]`) {
		t.Error("the ended session's worker is still there")
	}
}

func TestAnswersOfErrors(t *testing.T) {
	t.Parallel()
	f := start(t, false)
	for _, test := range []struct {
		code string
		call func() error
	}{
		{"ServiceNotFoundException", func() error {
			_, err := f.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String("x")})
			return err
		}},
		{"ClusterNotFoundException", func() error {
			_, err := f.sdk.StopTask(ctx, &sdk.StopTaskInput{Cluster: aws.String("x"), Task: aws.String("y")})
			return err
		}},
		{"InvalidParameterException", func() error {
			_, err := f.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String("y")})
			return err
		}},
		{"ClientException", func() error {
			_, err := f.sdk.RunTask(ctx, &sdk.RunTaskInput{TaskDefinition: aws.String("x")})
			return err
		}},
		{"UnknownOperationException", func() error {
			_, err := f.sdk.ListAttributes(ctx, &sdk.ListAttributesInput{TargetType: types.TargetTypeContainerInstance})
			return err
		}},
	} {
		var api smithy.APIError
		if err := test.call(); !errors.As(err, &api) || api.ErrorCode() != test.code {
			t.Errorf("got %v, want %s", err, test.code)
		}
	}
	out, err := f.sdk.DescribeTasks(ctx, &sdk.DescribeTasksInput{Tasks: []string{"y"}})
	if err != nil || len(out.Failures) != 1 || *out.Failures[0].Reason != "MISSING" {
		t.Errorf("%+v, %v", out, err)
	}
}
