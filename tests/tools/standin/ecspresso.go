package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fumidai/tests/tools/definitions"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	scaling "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling"
	scalingtypes "github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"gopkg.in/yaml.v3"
)

// Of https://github.com/kayac/ecspresso, v2: deploy, scale, status, wait, version.

// settle is how long it waits after a change before it looks whether the service is stable.
const settle = 3 * time.Second

// app is one run.
type app struct {
	Region            string
	Cluster           string
	Service           string
	ServiceDefinition string `yaml:"service_definition"`
	TaskDefinition    string `yaml:"task_definition"`
	Timeout           time.Duration

	dir     string
	tasks   int // --tasks; -1: as the definition says
	ecs     *ecs.Client
	scaling *scaling.Client
}

var commands = map[string]func(*app, context.Context) error{"deploy": (*app).deploy, "scale": (*app).scale, "status": (*app).status, "wait": (*app).wait}

func ecspresso(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("ecspresso", flag.ContinueOnError)
	path := flags.String("config", "ecspresso.yml", "")
	tasks := flags.Int("tasks", -1, "")
	flags.Func("envfile", "", exportFile)
	var words []string // flags may stand before and after the command
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return err
		}
		if args = flags.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	command := strings.Join(words, " ")
	if command == "version" {
		fmt.Println("ecspresso (a stand-in)")
		return nil
	}
	run := commands[command]
	if run == nil {
		return fmt.Errorf("the stand-in does not know %q", command)
	}
	a, err := open(ctx, *path)
	if err != nil {
		return err
	}
	a.tasks = *tasks
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	return run(a, ctx)
}

// exportFile puts what a file of NAME=VALUE lines says into the environment.
func exportFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimPrefix(strings.TrimSpace(lines.Text()), "export ")
		name, value, ok := strings.Cut(line, "=")
		if line == "" || line[0] == '#' {
			continue
		}
		if !ok {
			return fmt.Errorf("%s: not NAME=VALUE: %s", path, line)
		}
		for _, quote := range []string{`"`, `'`} {
			if len(value) > 1 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
				value = value[1 : len(value)-1]
				break
			}
		}
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return lines.Err()
}

// open reads the configuration and makes the clients.
func open(ctx context.Context, path string) (*app, error) {
	text, missing, err := definitions.Render(path, os.LookupEnv)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%s: not set in the environment: %s", path, strings.Join(missing, ", "))
	}
	if err != nil {
		return nil, err
	}
	a := &app{Cluster: "default", Timeout: 10 * time.Minute, dir: filepath.Dir(path)}
	known := yaml.NewDecoder(strings.NewReader(text))
	known.KnownFields(true)
	if err := known.Decode(a); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(a.Region))
	if err != nil {
		return nil, err
	}
	a.ecs, a.scaling = ecs.NewFromConfig(cfg), scaling.NewFromConfig(cfg)
	return a, nil
}

func (a *app) log(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s/%s %s\n", time.Now().Format(time.DateTime), a.Service, a.Cluster, fmt.Sprintf(format, args...))
}

func (a *app) described() *ecs.DescribeServicesInput {
	return &ecs.DescribeServicesInput{Cluster: &a.Cluster, Services: []string{a.Service}, Include: []types.ServiceField{types.ServiceFieldTags}}
}

// find is the service, or nil when there is none.
func (a *app) find(ctx context.Context) (*types.Service, error) {
	out, err := a.ecs.DescribeServices(ctx, a.described())
	if err != nil {
		return nil, err
	}
	if len(out.Services) == 0 || aws.ToString(out.Services[0].Status) == "INACTIVE" {
		return nil, nil
	}
	return &out.Services[0], nil
}

// show prints what the service is, and how many of its last events as told.
func (a *app) show(ctx context.Context, s *types.Service, events int) error {
	fmt.Printf("Service: %s\nCluster: %s\nTaskDefinition: %s\nDeployments:\n", *s.ServiceName, last(*s.ClusterArn), last(*s.TaskDefinition))
	for _, d := range s.Deployments {
		fmt.Printf("  %8s %s desired:%d pending:%d running:%d\n", *d.Status, last(*d.TaskDefinition), d.DesiredCount, d.PendingCount, d.RunningCount)
	}
	resource := "service/" + last(*s.ClusterArn) + "/" + *s.ServiceName
	out, err := a.scaling.DescribeScalableTargets(ctx, &scaling.DescribeScalableTargetsInput{
		ServiceNamespace: scalingtypes.ServiceNamespaceEcs, ScalableDimension: scalingtypes.ScalableDimensionECSServiceDesiredCount,
		ResourceIds: []string{resource},
	})
	switch {
	case err != nil: // only a warning: not everybody may ask
		a.log("can't tell whether the service scales by itself: %v", err)
	case len(out.ScalableTargets) > 0:
		return fmt.Errorf("%s scales by itself, which the stand-in does not know", resource)
	}
	fmt.Println("Events:")
	for i := min(events, len(s.Events)) - 1; i >= 0; i-- { // the newest is the first
		fmt.Println(s.Events[i].CreatedAt.Format(time.DateTime), *s.Events[i].Message)
	}
	return nil
}

func last(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// existing is the service, shown.
func (a *app) existing(ctx context.Context, events int) (*types.Service, error) {
	s, err := a.find(ctx)
	if err == nil && s == nil {
		err = fmt.Errorf("service %s is not found", a.Service)
	}
	if err != nil {
		return nil, err
	}
	return s, a.show(ctx, s, events)
}

func (a *app) status(ctx context.Context) error {
	_, err := a.existing(ctx, 10)
	return err
}

func (a *app) wait(ctx context.Context) error {
	if _, err := a.existing(ctx, 0); err != nil {
		return err
	}
	return a.stable(ctx)
}

func (a *app) scale(ctx context.Context) error {
	s, err := a.existing(ctx, 0)
	if err != nil {
		return err
	}
	count := s.DesiredCount
	if a.tasks >= 0 {
		count = int32(a.tasks)
	}
	return a.update(ctx, *s.TaskDefinition, &count)
}

// update says which definition and how many, and waits until it is so.
func (a *app) update(ctx context.Context, definition string, count *int32) error {
	a.log("updating the service's tasks")
	if _, err := a.ecs.UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: &a.Cluster, Service: &a.Service, TaskDefinition: &definition, DesiredCount: count}); err != nil {
		return err
	}
	time.Sleep(settle)
	return a.stable(ctx)
}

// stable waits with AWS's own waiter: it looks at once, then after 15 s and more, until there is one deployment that runs
// as many tasks as it should.
func (a *app) stable(ctx context.Context) error {
	a.log("waiting until the service is stable")
	waiter := ecs.NewServicesStableWaiter(a.ecs, func(o *ecs.ServicesStableWaiterOptions) { o.MaxDelay = 2 * time.Minute })
	if err := waiter.Wait(ctx, a.described(), a.Timeout); err != nil {
		return fmt.Errorf("the service is not stable: %w", err)
	}
	a.log("the service is stable")
	return nil
}
