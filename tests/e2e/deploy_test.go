package e2e

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template/parse"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/tools/definitions"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// The definitions at the top of the repository, rendered as ecspresso does it, deployed with the SDK.

const top = "../../"

// render executes a definition's template; what it misses of must_env is returned.
func render(t *testing.T, name string, variables map[string]string) (text string, missing []string) {
	t.Helper()
	text, missing, err := definitions.Render(top+name, definitions.Map(variables))
	if err != nil {
		t.Fatal(err)
	}
	return text, missing
}

// definition decodes a rendered definition into the request it becomes.
func definition(t *testing.T, name string, variables map[string]string, into any) {
	t.Helper()
	if err := definitions.Decode(top+name, definitions.Map(variables), into); err != nil {
		t.Fatal(err)
	}
}

// place is where the definitions are deployed to here.
func place(more map[string]string) map[string]string {
	v := map[string]string{
		"AWS_REGION": "ap-northeast-1", "FUMIDAI_CLUSTER": cluster, "FUMIDAI_IMAGE": "123456789012.dkr.ecr.ap-northeast-1.amazonaws.com/fumidai:1",
		"FUMIDAI_SUBNET": "subnet-1", "FUMIDAI_SECURITY_GROUP": "sg-1", "FUMIDAI_LOG_GROUP": "/ecs/fumidai",
		"FUMIDAI_TASK_ROLE_ARN":      "arn:aws:iam::123456789012:role/fumidai-task",
		"FUMIDAI_EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/fumidai-execution",
	}
	maps.Copy(v, more)
	return v
}

// deploy registers and creates what the definitions say, as `ecspresso deploy` does, and scales it as asked.
func (w *world) deploy(variables map[string]string, tasks int32) {
	w.Helper()
	var task sdk.RegisterTaskDefinitionInput
	var service sdk.CreateServiceInput
	definition(w.T, "task-def.json", variables, &task)
	definition(w.T, "service-def.json", variables, &service)
	d, err := w.sdk.RegisterTaskDefinition(ctx, &task)
	w.must(err)
	service.ServiceName, service.TaskDefinition = task.Family, d.TaskDefinition.TaskDefinitionArn
	_, err = w.sdk.CreateService(ctx, &service)
	w.must(err)
	if n := w.ECS.ServiceState(cluster, *task.Family).DesiredCount; n != 0 {
		w.Fatalf("a first deploy starts %d tasks", n)
	}
	_, err = w.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: task.Family, DesiredCount: &tasks})
	w.must(err)
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *emulator.Options) { o.ECS.Timing.HealthInterval = 300 * time.Millisecond })
	w.deploy(place(map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "4s"}), 1)
	w.ECS.Until(10*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService("fumidai"))) > 0 })
	task := w.ECS.Tasks(ecs.InService("fumidai"))[0]
	if w.VPC != nil { // without namespaces an exec agent of another test may be seen
		w.must(w.Gateway.WaitConnected(task.Target(), 10*time.Second))
	}
	if !w.ECS.Until(8*time.Second, func() bool { return task.State().HealthStatus == types.HealthStatusHealthy }) {
		t.Errorf("ECS says %s", task.State().HealthStatus)
	}
	w.stopped(task, 20*time.Second)
	w.wantEnded("fumidai", 0)
	w.wantCalls(task, ended...)
}

// What the definitions say whatever the environment says.
func TestDefinitionsAreStrict(t *testing.T) {
	t.Parallel()
	var task sdk.RegisterTaskDefinitionInput
	var service sdk.CreateServiceInput
	definition(t, "task-def.json", place(map[string]string{"FUMIDAI_ARCHITECTURE": "ARM64"}), &task)
	definition(t, "service-def.json", place(map[string]string{"FUMIDAI_SUBNET_2": "subnet-2"}), &service)
	c := task.ContainerDefinitions[0]
	if *task.Cpu != "256" || *task.Memory != "512" || task.RuntimePlatform.CpuArchitecture != types.CPUArchitectureArm64 {
		t.Errorf("a task of %s CPU units, %s MB, %s", *task.Cpu, *task.Memory, task.RuntimePlatform.CpuArchitecture)
	}
	if !*c.ReadonlyRootFilesystem || *c.User != "65532:65532" || !slices.Equal(c.LinuxParameters.Capabilities.Drop, []string{"ALL"}) ||
		len(c.MountPoints)+len(c.PortMappings)+len(c.Secrets) != 0 || !slices.Equal(c.HealthCheck.Command, []string{"CMD", "/fumidai", "health"}) {
		t.Errorf("the container is not as closed as it should be: %+v", c)
	}
	// What the program takes for the stop timeout is the stop timeout; an empty value counts as not set.
	i := slices.IndexFunc(c.Environment, func(p types.KeyValuePair) bool { return *p.Name == "FUMIDAI_STOP_TIMEOUT" })
	if i < 0 || *c.Environment[i].Value != fmt.Sprintf("%ds", *c.StopTimeout) {
		t.Errorf("stopTimeout is %d, FUMIDAI_STOP_TIMEOUT %v", *c.StopTimeout, c.Environment)
	}
	// A desired count in the file would stop a running bastion, or start one, with each deploy; without REPLICA a service
	// without a count can't be created; one task at a time needs 0 and 100.
	if service.DesiredCount != nil || service.SchedulingStrategy != types.SchedulingStrategyReplica || service.EnableExecuteCommand ||
		*service.DeploymentConfiguration.MinimumHealthyPercent != 0 || *service.DeploymentConfiguration.MaximumPercent != 100 {
		t.Errorf("the service is %+v", service)
	}
	if got := service.NetworkConfiguration.AwsvpcConfiguration.Subnets; !slices.Equal(got, []string{"subnet-1", "subnet-2"}) {
		t.Errorf("subnets %q", got)
	}
}

// .env.example names every variable of the definitions, those that must be given without a value, the others with their
// default; and nothing else. The templates use nothing that needs more than an environment.
func TestEnvironmentOfDefinitions(t *testing.T) {
	t.Parallel()
	wanted := map[string]string{}
	for _, name := range []string{"ecspresso.yml", "task-def.json", "service-def.json"} {
		source, err := os.ReadFile(top + name)
		if err != nil {
			t.Fatal(err)
		}
		trees, err := parse.Parse(name, string(source), "", "", map[string]any{"env": 0, "must_env": 0})
		if err != nil {
			t.Fatal(err)
		}
		variables(t, trees[name].Root, wanted)
	}
	text, err := os.ReadFile(top + ".env.example")
	if err != nil {
		t.Fatal(err)
	}
	offered := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(#?)([A-Z][A-Z0-9_]*)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		offered[m[2]] = m[3]
		if m[1] == "" && m[3] == "" {
			offered[m[2]] = "must"
		}
	}
	for _, example := range []string{"FUMIDAI_LISTEN", "FUMIDAI_ALLOW"} { // shown with an example: their default is nothing
		offered[example] = ""
	}
	if !maps.Equal(wanted, offered) {
		t.Errorf("the definitions want\n%v\n.env.example has\n%v", wanted, offered)
	}
}

// variables collects what a template asks of the environment: "must", or the default.
func variables(t *testing.T, node parse.Node, into map[string]string) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, child := range n.Nodes {
				variables(t, child, into)
			}
		}
	case *parse.WithNode:
		variables(t, n.Pipe, into)
		variables(t, n.List, into)
		variables(t, n.ElseList, into)
	case *parse.ActionNode:
		variables(t, n.Pipe, into)
	case *parse.PipeNode:
		if len(n.Cmds) != 1 {
			t.Errorf("%s: a pipeline", n)
		}
		variables(t, n.Cmds[0], into)
	case *parse.CommandNode:
		var words []string
		for _, arg := range n.Args[1:] {
			words = append(words, arg.(*parse.StringNode).Text)
		}
		switch {
		case n.Args[0].String() == "must_env" && len(words) == 1:
			into[words[0]] = "must"
		case n.Args[0].String() == "env" && len(words) == 2:
			if old, ok := into[words[0]]; ok && old != words[1] {
				t.Errorf("%s has two defaults: %q and %q", words[0], old, words[1])
			}
			into[words[0]] = words[1]
		case n.Args[0].String() == ".":
		default:
			t.Errorf("%s: neither env nor must_env", n)
		}
	case *parse.TextNode:
	default:
		t.Errorf("%s: a %T", n, n)
	}
}

func TestMissingVariables(t *testing.T) {
	t.Parallel()
	for name, value := range place(nil) {
		without := place(nil)
		delete(without, name)
		var all []string
		for _, file := range []string{"ecspresso.yml", "task-def.json", "service-def.json"} {
			_, missing := render(t, file, without)
			all = append(all, missing...)
		}
		if len(all) == 0 || slices.ContainsFunc(all, func(m string) bool { return m != name }) {
			t.Errorf("without %s=%s: missing %q", name, value, all)
		}
	}
	if text, _ := render(t, "ecspresso.yml", place(map[string]string{"FUMIDAI_SERVICE": "gate"})); !strings.Contains(text, "service: 'gate'") {
		t.Errorf("ecspresso.yml:\n%s", text)
	}
}

// The definitions with AWS's exec agent instead of the relay.
func TestDefinitionsWithExecAgent(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: the agent has to be in the container")
	}
	w := newWorld(t)
	w.deploy(place(map[string]string{"FUMIDAI_ENABLE_EXECUTE_COMMAND": "true", "FUMIDAI_READONLY_ROOT": "false",
		"ECS_TST_INITIAL_WAIT_TIME": "10s", "ECS_TST_IDLE_TIMEOUT": "1s"}), 1)
	w.ECS.Until(10*time.Second, func() bool { return len(w.ECS.Tasks(ecs.InService("fumidai"))) > 0 })
	task := w.ECS.Tasks(ecs.InService("fumidai"))[0]
	task.WaitStatus("RUNNING", 10*time.Second)
	agent := w.agent(task)
	w.must(agent.StartSession("exec-1"))
	time.Sleep(2 * time.Second)
	if r := w.health(task); !r.Healthy || r.Relay != nil || r.Sessions != 1 {
		t.Errorf("health: %+v", r)
	}
	w.must(agent.EndSession("exec-1", true))
	w.stopped(task, 20*time.Second)
	w.wantEnded("fumidai", 0)
	if !strings.Contains(task.Output(), `"mode":"watch"`) {
		t.Error("it relays beside AWS's agent")
	}
}
