// Package ecs is the emulator's ECS: task definitions, services, tasks, and a scheduler that really runs them.
//
// State is the SDK's own types, kept under one lock: what DescribeX answers is what is stored. A task is driven by one
// goroutine (task.go); services are reconciled by one goroutine for all (scheduler.go).
package ecs

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Options configure an ECS.
type Options struct {
	Region, Account string
	Edge            *edge.Edge
	Runner          fargate.Runner
	// Image finds what an image name stands for.
	Image func(name string) (fargate.Image, error)
	// Output is where a container's output goes; nil means only the task's own record of it.
	Output func(task types.Task, container types.ContainerDefinition) io.Writer
	// Exec starts a session for ExecuteCommand; nil means that no task can be reached.
	Exec func(c *edge.Call, target string, in *sdk.ExecuteCommandInput) (*types.Session, error)
	// PollEndpoint is what DiscoverPollEndpoint answers; nil means ECS's own host name.
	PollEndpoint func(c *edge.Call) string
	// NoServiceName leaves ServiceName out of the task metadata, as platform versions before 1.4 do.
	NoServiceName bool
	// QuietAgent keeps the exec agent from logging that it starts: there is no log before the first session.
	QuietAgent bool
	// Clusters that exist from the start; "default" always does.
	Clusters []string
	Timing   Timing
	Log      *slog.Logger
}

// Timing is how fast things go. Zero values take the defaults, which are faster than AWS but keep its order.
type Timing struct {
	Provision          time.Duration // in PROVISIONING; default 50 ms
	Pull               time.Duration // in PENDING; default 50 ms
	Deprovision        time.Duration // in DEPROVISIONING; default 50 ms
	Reaction           time.Duration // from a change to the scheduler acting on it; default 100 ms
	Restart            time.Duration // before a task that ended is replaced; doubles while tasks live less than ShortLife; default 200 ms
	RestartLimit       time.Duration // most it grows to; default 30 s
	ShortLife          time.Duration // default 5 s
	StopTimeout        time.Duration // for containers without stopTimeout; default 30 s, as on Fargate
	Retention          time.Duration // how long STOPPED tasks stay listed; default 1 h
	CredentialLifetime time.Duration // of a task role's credentials; default 6 h. New ones come when a third is left.
	Networks           time.Duration // how long after a task's start its metadata has no Networks; default 0
	HealthInterval     time.Duration // of health checks instead of their own, which is at least 5 s; default 0: their own
}

func (t *Timing) defaults() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&t.Provision, 50 * time.Millisecond}, {&t.Pull, 50 * time.Millisecond}, {&t.Deprovision, 50 * time.Millisecond},
		{&t.Reaction, 100 * time.Millisecond}, {&t.Restart, 200 * time.Millisecond}, {&t.RestartLimit, 30 * time.Second},
		{&t.ShortLife, 5 * time.Second}, {&t.StopTimeout, 30 * time.Second}, {&t.Retention, time.Hour},
		{&t.CredentialLifetime, 6 * time.Hour},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// ECS is one region's ECS.
type ECS struct {
	Options

	mu          sync.Mutex
	changed     chan struct{} // closed and replaced at every change
	closed      bool
	clusters    map[string]bool
	definitions map[string][]*types.TaskDefinition // by family; revision n at index n-1
	services    map[string]*service                // by ARN
	tasks       map[string]*Task                   // by ARN
	tags        map[string][]types.Tag             // by ARN
	running     sync.WaitGroup
	wake        chan struct{} // wakes the scheduler
}

// New makes an ECS and starts its scheduler.
func New(o Options) *ECS {
	o.Timing.defaults()
	e := &ECS{
		Options: o, changed: make(chan struct{}), wake: make(chan struct{}, 1),
		clusters:    map[string]bool{"default": true},
		definitions: map[string][]*types.TaskDefinition{},
		services:    map[string]*service{}, tasks: map[string]*Task{}, tags: map[string][]types.Tag{},
	}
	for _, name := range o.Clusters {
		e.clusters[name] = true
	}
	go e.schedule()
	return e
}

// Close kills every task.
func (e *ECS) Close() {
	e.mu.Lock()
	e.closed = true
	for _, t := range e.tasks {
		t.kill()
	}
	e.notify()
	e.mu.Unlock()
	e.running.Wait()
}

// Service is how the edge reaches this ECS.
func (e *ECS) Service() *edge.Service {
	const prefix = "AmazonEC2ContainerServiceV20141113."
	operations := e.operations()
	return &edge.Service{
		Name: "ecs", TargetPrefix: prefix, Needs: e.needs,
		Serve: func(w http.ResponseWriter, c *edge.Call) error {
			operation := operations[c.Action]
			if operation == nil {
				return edge.NotEmulated("ecs:" + c.Action)
			}
			out, err := operation(c)
			if err != nil {
				return err
			}
			return edge.WriteJSON(w, edge.CamelCase, out)
		},
	}
}

type operation func(*edge.Call) (any, error)

// serve makes an operation of a method on the SDK's input and output types. State is locked until the answer, which may
// point into it, has been copied.
func serve[In, Out any](e *ECS, f func(*edge.Call, *In) (*Out, error)) operation {
	return func(c *edge.Call) (any, error) {
		var in In
		if err := edge.DecodeJSON(c, &in); err != nil {
			return nil, err
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		out, err := f(c, &in)
		if err != nil {
			return nil, err
		}
		return edge.Wire(edge.CamelCase, out), nil
	}
}

func (e *ECS) operations() map[string]operation {
	return map[string]operation{
		"RegisterTaskDefinition":   serve(e, e.registerTaskDefinition),
		"DescribeTaskDefinition":   serve(e, e.describeTaskDefinition),
		"ListTaskDefinitions":      serve(e, e.listTaskDefinitions),
		"DeregisterTaskDefinition": serve(e, e.deregisterTaskDefinition),
		"DeleteTaskDefinitions":    serve(e, e.deleteTaskDefinitions),
		"CreateService":            serve(e, e.createService),
		"UpdateService":            serve(e, e.updateService),
		"DescribeServices":         serve(e, e.describeServices),
		"DeleteService":            serve(e, e.deleteService),
		"ListServices":             serve(e, e.listServices),
		"RunTask":                  serve(e, e.runTask),
		"StopTask":                 serve(e, e.stopTask),
		"DescribeTasks":            serve(e, e.describeTasks),
		"ListTasks":                serve(e, e.listTasks),
		"GetTaskProtection":        serve(e, e.getTaskProtection),
		"UpdateTaskProtection":     serve(e, e.updateTaskProtection),
		"ExecuteCommand":           serve(e, e.executeCommand),
		"CreateCluster":            serve(e, e.createCluster),
		"DescribeClusters":         serve(e, e.describeClusters),
		"ListClusters":             serve(e, e.listClusters),
		"DiscoverPollEndpoint":     serve(e, e.discoverPollEndpoint),
		"ListTagsForResource":      serve(e, e.listTagsForResource),
		"TagResource":              serve(e, e.tagResource),
		"UntagResource":            serve(e, e.untagResource),
	}
}

// notify tells whoever waits that something changed. The lock is held.
func (e *ECS) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Until waits until a condition on the state holds, at most so long; it reports whether it came to hold. The condition
// is called with the state unlocked, after every change.
func (e *ECS) Until(limit time.Duration, condition func() bool) bool {
	deadline := time.After(limit)
	for {
		e.mu.Lock()
		changed := e.changed
		e.mu.Unlock()
		if condition() {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return condition()
		}
	}
}

func (e *ECS) arn(kind string, path ...string) string {
	return fmt.Sprintf("arn:aws:ecs:%s:%s:%s/%s", e.Region, e.Account, kind, strings.Join(path, "/"))
}

// cluster returns a cluster's name, of a name, an ARN or nothing.
func (e *ECS) cluster(given *string) (string, error) {
	name := "default"
	if given != nil && *given != "" {
		name = last(*given)
	}
	if !e.clusters[name] {
		return "", &edge.Error{Code: "ClusterNotFoundException", Message: "Cluster not found."}
	}
	return name, nil
}

// last is the last element of an ARN's path, or the id itself.
func last(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func hexID(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) //nolint:errcheck // never fails
	return hex.EncodeToString(b)
}

func decimalID(digits int) string {
	b := make([]byte, digits)
	rand.Read(b) //nolint:errcheck // never fails
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	return string(b)
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func ptr[T any](v T) *T { return &v }

func now() *time.Time { return ptr(time.Now()) }
