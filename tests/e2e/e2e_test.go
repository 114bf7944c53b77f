// Package e2e drives the real binary as a task of the emulator.
//
// FUMIDAI_BINARY names the binary; without it build/fumidai is taken. As root tasks run in namespaces as on Fargate;
// otherwise as plain processes, where the exec agent is told by its log alone. FUMIDAI_IMAGE names an OCI archive: its image
// is then run instead of the binary, under runc.
package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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
)

var (
	binary  string        // fumidai
	dummy   string        // a static program to wrap
	archive fargate.Image // FUMIDAI_IMAGE, unpacked; without a root when there is none
)

func TestMain(m *testing.M) {
	code, err := setUpAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func setUpAndRun(m *testing.M) (int, error) {
	// Nearly all of a test's time is waiting: run far more at once than there are processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		return 0, err
	}
	binary = os.Getenv("FUMIDAI_BINARY")
	if binary == "" {
		binary = "../../build/fumidai"
	}
	var err error
	if binary, err = filepath.Abs(binary); err != nil {
		return 0, err
	}
	if _, err := os.Stat(binary); err != nil {
		return 0, fmt.Errorf("%w: run make first, or set FUMIDAI_BINARY", err)
	}
	dir, err := os.MkdirTemp("", "fumidai-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	dummy = filepath.Join(dir, "dummy-task")
	build := exec.Command("go", "build", "-o", dummy, "fumidai/tests/emulator/cmd/dummy-task")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build the dummy task: %s", out)
	}
	if path := os.Getenv("FUMIDAI_IMAGE"); path != "" {
		if archive, err = fargate.Unpack(path, runtime.GOARCH, filepath.Join(dir, "image")); err != nil {
			return 0, err
		}
		archive.Files = map[string]string{"/dummy": dummy}
	}
	code := m.Run()
	if code == 0 && everythingRan() {
		if err := compareWithGranted(); err != nil {
			fmt.Println("FAIL: infra/iam/task-role.json:", err)
			code = 1
		}
		if err := compareWithWorkflows(); err != nil {
			fmt.Println("FAIL: infra/cloudformation.yml:", err)
			code = 1
		}
	}
	return code, nil
}

// image is what every image name stands for: the binary as a scratch image would hold it, and a program to wrap.
func image(string) (fargate.Image, error) {
	if archive.Root != "" {
		return archive, nil
	}
	made := fargate.Program(binary)
	made.Files["/dummy"] = dummy
	return made, nil
}

const (
	family  = "gate"
	cluster = "default"
)

var ctx = context.Background()

// world is one emulator with the article's service on it.
type world struct {
	*testing.T
	*emulator.Emulator
	sdk       *sdk.Client
	define    func(*sdk.RegisterTaskDefinitionInput) // changes a task definition before it is registered
	create    func(*sdk.CreateServiceInput)          // changes a service before it is made
	openFiles int32                                  // descriptors that the container may have; 0: as many as this program
}

func newWorld(t *testing.T, change ...func(*emulator.Options)) *world {
	t.Helper()
	o := emulator.Options{Namespaces: os.Getuid() == 0, Image: image}
	// Quick, but with ECS's scheduler slow enough that a task can stop itself before it is stopped.
	o.ECS.Timing.Reaction = 500 * time.Millisecond
	if archive.Root != "" {
		o.Runtime = "runc"
	}
	for _, f := range change {
		f(&o)
	}
	e, err := emulator.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Emulator: e, sdk: sdk.New(sdk.Options{
		Region: e.Region, BaseEndpoint: aws.String(e.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(emulator.AccessKeyID, emulator.SecretAccessKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: e.Edge.CA.Pool()}}},
	})}
	t.Cleanup(func() {
		if t.Failed() {
			for _, task := range e.ECS.Tasks(nil) {
				state := task.State()
				t.Logf("task %s: %s, %s: %s\n%s", task.ID(), *state.LastStatus, state.StopCode, aws.ToString(state.StoppedReason), task.Output())
			}
			for _, call := range e.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Service != edge.ServiceMetadata }) {
				t.Logf("call %s %s %s by %s: %d %s %s", call.Time.Format("05.000"), call.Service, call.Action, last(call.Principal), call.Status, call.Error, call.Fault)
			}
		}
		noteCalls(e.Edge.Recorder.Calls())
		e.Close()
	})
	return w
}

func last(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// service registers the article's task definition, with nothing changed but variables (and a command), and creates a
// service of it with one task.
func (w *world) service(name string, variables map[string]string, command ...string) *ecs.Task {
	w.Helper()
	text, err := os.ReadFile("testdata/task-definition.json")
	if err != nil {
		w.Fatal(err)
	}
	var in sdk.RegisterTaskDefinitionInput
	if err := json.Unmarshal(text, &in); err != nil {
		w.Fatal(err)
	}
	in.Family = aws.String(name)
	c := &in.ContainerDefinitions[0]
	c.Command = command
	if w.openFiles > 0 {
		c.Ulimits = []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: w.openFiles, HardLimit: w.openFiles}}
	}
	for name, value := range variables {
		i := slices.IndexFunc(c.Environment, func(p types.KeyValuePair) bool { return *p.Name == name })
		if i < 0 {
			c.Environment = append(c.Environment, types.KeyValuePair{Name: aws.String(name), Value: aws.String(value)})
		} else {
			c.Environment[i].Value = aws.String(value)
		}
	}
	if w.define != nil {
		w.define(&in)
	}
	w.permitTask(*in.TaskRoleArn, name)
	d, err := w.sdk.RegisterTaskDefinition(ctx, &in)
	if err != nil {
		w.Fatal(err)
	}
	service := &sdk.CreateServiceInput{
		ServiceName: aws.String(name), TaskDefinition: d.TaskDefinition.TaskDefinitionArn, DesiredCount: aws.Int32(1), EnableExecuteCommand: true,
		DeploymentConfiguration: &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(0), MaximumPercent: aws.Int32(100)},
	}
	if w.create != nil {
		w.create(service)
	}
	if _, err = w.sdk.CreateService(ctx, service); err != nil {
		w.Fatal(err)
	}
	w.ECS.Until(10*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService(name))) > 0 })
	tasks := w.ECS.Tasks(ecs.InService(name))
	if len(tasks) == 0 || !tasks[0].WaitStatus("RUNNING", 10*time.Second) || tasks[0].State().StartedAt == nil {
		w.Fatal("the task does not start")
	}
	return tasks[0]
}

// agent is the exec agent of a task.
func (w *world) agent(t *ecs.Task) *ecs.ExecAgent {
	w.Helper()
	a, err := t.ExecAgent()
	if err != nil {
		w.Fatal(err)
	}
	return a
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// stopped waits for a task's end and returns how long it ran.
func (w *world) stopped(t *ecs.Task, limit time.Duration) time.Duration {
	w.Helper()
	if !t.WaitStatus("STOPPED", limit) {
		w.Fatalf("after %v the task is %s", limit, *t.State().LastStatus)
	}
	state := t.State()
	return state.ExecutionStoppedAt.Sub(*state.StartedAt)
}

// wantEnded checks the end every scenario has to come to: the service at 0 and settled, its only task ever STOPPED with
// this exit code.
func (w *world) wantEnded(name string, exit int32) {
	w.Helper()
	settled := w.ECS.Until(5*time.Second, func() bool {
		s := w.ECS.ServiceState(cluster, name)
		return s.DesiredCount == 0 && s.RunningCount == 0 && s.PendingCount == 0
	})
	if !settled {
		s := w.ECS.ServiceState(cluster, name)
		w.Errorf("service %s: desired %d, running %d, pending %d; want all 0", name, s.DesiredCount, s.RunningCount, s.PendingCount)
	}
	tasks := w.ECS.Tasks(ecs.InService(name))
	if len(tasks) != 1 {
		w.Errorf("service %s had %d tasks, want 1", name, len(tasks))
	}
	w.stopped(tasks[0], 10*time.Second)
	if got := *tasks[0].State().Containers[0].ExitCode; got != exit {
		w.Errorf("exit code %d, want %d", got, exit)
	}
}

// calls lists the ECS operations a task has called that were carried out.
func (w *world) calls(t *ecs.Task) (actions []string) {
	for _, c := range w.Edge.Recorder.Calls(edge.ByTask(t.ARN())) {
		if c.Service == "ecs" && c.Status == 200 {
			actions = append(actions, c.Action)
		}
	}
	return actions
}

// wantCalls checks what a task has asked of ECS, reading aside.
func (w *world) wantCalls(t *ecs.Task, want ...string) {
	w.Helper()
	got := slices.DeleteFunc(w.calls(t), func(a string) bool { return strings.HasPrefix(a, "Describe") })
	if !slices.Equal(got, want) {
		w.Errorf("the task called %q, want %q", got, want)
	}
}

func (w *world) within(what string, got, least, most time.Duration) {
	w.Helper()
	if got < least || got > most {
		w.Errorf("%s after %v, want %v to %v", what, got.Round(time.Millisecond), least, most)
	}
}

// slack is how much later than asked something may happen on a busy machine.
const slack = 4 * time.Second
