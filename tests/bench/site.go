package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/tools/plugintest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// site is an emulator with one task of the program.
type site struct {
	*emulator.Emulator
	task    *ecs.Task
	target  string // the task's, at the gateway
	api     *client.API
	started string // a file that holds when the program was executed
	host    string // of servers in the VPC

	connected chan time.Time // when its control channel opened
	undo      []func()
}

// options of a site.
type options struct {
	binary     string            // other than the product: the one with symbols
	namespaces bool              // as on Fargate, with a /proc of its own; needs root
	limited    bool              // the service's rate limit is on, and the relay keeps to it
	limits     bool              // the task has no more processor and memory than Fargate's smallest; needs namespaces
	env        map[string]string // added to the task's
}

func (s *site) later(f func()) { s.undo = append(s.undo, f) }

func (s *site) close() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
}

// newSite starts a task and waits until it runs.
func newSite(ctx context.Context, o options) (s *site, err error) {
	s = &site{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	dir, err := os.MkdirTemp("", "fumidai-bench-")
	if err != nil {
		return nil, err
	}
	s.later(func() { _ = os.RemoveAll(dir) })
	if err = os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	program, err := s.program(dir, o)
	if err != nil {
		return nil, err
	}
	eo := emulator.Options{Namespaces: o.namespaces && os.Getuid() == 0, Limits: o.limits, Image: func(string) (fargate.Image, error) {
		return fargate.Image{Files: map[string]string{"/fumidai": program}, Entrypoint: []string{"/fumidai"}}, nil
	}}
	if s.Emulator, err = emulator.Start(eo); err != nil {
		return nil, err
	}
	s.later(s.Close)
	s.Gateway.Set(func(g *gateway.Settings) { g.Limit.Lifted = !o.limited })
	s.api = &client.API{URL: "http://" + s.Addr(), Region: s.Region,
		Credentials: aws.Credentials{AccessKeyID: emulator.AccessKeyID, SecretAccessKey: emulator.SecretAccessKey}}
	s.connected = make(chan time.Time, 1)
	noting, stop := context.WithTimeout(ctx, 10*time.Second)
	s.later(stop)
	go s.noteConnection(noting)
	env := map[string]string{"FUMIDAI_RELAY": "on", "ECS_TST_INITIAL_WAIT_TIME": "1h", "ECS_TST_IDLE_TIMEOUT": "1h"}
	if !o.limited {
		env["FUMIDAI_MAX_MESSAGES_PER_SECOND"] = "0"
	}
	for name, value := range o.env {
		env[name] = value
	}
	return s, s.start(ctx, env)
}

// program is what is executed: a copy, for pages of a file that other processes have mapped too would count by half; and
// in the host's file system a script before it that notes the time.
func (s *site) program(dir string, o options) (string, error) {
	if o.binary == "" {
		o.binary = product
	}
	text, err := os.ReadFile(o.binary)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "program")
	if err := os.WriteFile(binary, text, 0o755); err != nil { //nolint:gosec // a program
		return "", err
	}
	if o.namespaces && os.Getuid() == 0 {
		return binary, nil
	}
	s.started = filepath.Join(dir, "started")
	script := filepath.Join(dir, "fumidai")
	note := fmt.Sprintf("#!/bin/sh\ndate +%%s%%N >%s\nexec %s \"$@\"\n", s.started, binary)
	return script, os.WriteFile(script, []byte(note), 0o755) //nolint:gosec // a program
}

// start makes a service of one task.
func (s *site) start(ctx context.Context, env map[string]string) error {
	api := sdk.New(sdk.Options{Region: s.Region, BaseEndpoint: aws.String(s.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(emulator.AccessKeyID, emulator.SecretAccessKey, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Edge.CA.Pool()}}}})
	container := types.ContainerDefinition{Name: aws.String("fumidai"), Image: aws.String("fumidai"), Essential: aws.Bool(true)}
	for name, value := range env {
		container.Environment = append(container.Environment, types.KeyValuePair{Name: aws.String(name), Value: aws.String(value)})
	}
	d, err := api.RegisterTaskDefinition(ctx, &sdk.RegisterTaskDefinitionInput{Family: aws.String("bench"), NetworkMode: types.NetworkModeAwsvpc,
		Cpu: aws.String("256"), Memory: aws.String("512"), RequiresCompatibilities: []types.Compatibility{types.CompatibilityFargate},
		TaskRoleArn:          aws.String("arn:aws:iam::123456789012:role/ecsTaskRole"),
		ContainerDefinitions: []types.ContainerDefinition{container}})
	if err != nil {
		return err
	}
	if _, err = api.CreateService(ctx, &sdk.CreateServiceInput{ServiceName: aws.String("bench"), TaskDefinition: d.TaskDefinition.TaskDefinitionArn,
		DesiredCount: aws.Int32(1)}); err != nil {
		return err
	}
	s.ECS.Until(10*time.Second, func() bool { return len(s.ECS.Tasks(ecs.InService("bench"))) > 0 })
	tasks := s.ECS.Tasks(ecs.InService("bench"))
	if len(tasks) == 0 || !tasks[0].WaitStatus("RUNNING", 10*time.Second) {
		return errors.New("the task does not start")
	}
	s.task, s.target = tasks[0], tasks[0].Target()
	if env["FUMIDAI_RELAY"] == "on" {
		return s.Gateway.WaitConnected(s.target, 10*time.Second)
	}
	return nil
}

// noteConnection looks often when the first agent is there.
func (s *site) noteConnection(ctx context.Context) {
	for len(s.Gateway.Targets()) == 0 || !s.Gateway.Connected(s.Gateway.Targets()[0]) {
		time.Sleep(200 * time.Microsecond)
		if ctx.Err() != nil {
			return
		}
	}
	s.connected <- time.Now()
}

// serve runs a server for the task to reach, and returns its port. In namespaces its host is s.host.
func (s *site) serve(handle func(net.Conn)) (string, error) {
	listen, host := net.Listen, "127.0.0.1"
	if s.VPC != nil {
		if s.host == "" {
			address, err := s.VPC.Host()
			if err != nil {
				return "", err
			}
			s.host = address.String()
		}
		listen, host = s.VPC.Listen, s.host
	}
	l, err := listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", err
	}
	s.later(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // a benchmark's
				handle(c)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port, nil
}

// session opens a session to a port and returns how to make connections through it.
func (s *site) session(ctx context.Context, port string, plugin bool) (*session, error) {
	document, parameters := "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {port}}
	if s.host != "" {
		document, parameters["host"] = document+"ToRemoteHost", []string{s.host}
	}
	o, err := s.api.Start(ctx, s.target, document, parameters)
	if err != nil {
		return nil, err
	}
	n := &session{Session: s.Gateway.Session(o.SessionID)}
	if plugin {
		p, err := plugintest.Start(ctx, plugintest.Options{Session: o, Target: s.target, Region: s.Region, Endpoint: s.api.URL, Env: s.ToolEnv(false)})
		if err != nil {
			return nil, err
		}
		n.dial = func() (io.ReadWriteCloser, error) { return p.Dial() }
		n.close = p.Kill
		s.later(p.Kill)
		return n, nil
	}
	c, err := client.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	n.dial = func() (io.ReadWriteCloser, error) { return c.Dial() }
	n.close = func() { _ = c.Terminate(); time.Sleep(50 * time.Millisecond); c.Close() }
	s.later(c.Close)
	return n, nil
}

// group is the task's control group.
func (s *site) group() *fargate.Group {
	return s.task.Container(0).(interface{ Group() *fargate.Group }).Group()
}

type session struct {
	*gateway.Session
	dial  func() (io.ReadWriteCloser, error)
	close func()
}

// --- what the kernel says of the task's processes ------------------------------------------------------------------------

// processes are the task's first process and all it has started.
func (s *site) processes() []int { return family(s.task.Container(0).PID()) }

func family(pid int) []int {
	all := []int{pid}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		for _, f := range strings.Fields(string(text)) {
			child, _ := strconv.Atoi(f)
			all = append(all, family(child)...)
		}
	}
	return all
}

// cpu is the processor time they have used, to the nanosecond.
func (s *site) cpu() (total time.Duration) {
	for _, pid := range s.processes() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, path := range tasks {
			text, _ := os.ReadFile(path)
			if f := strings.Fields(string(text)); len(f) > 0 {
				ns, _ := strconv.ParseInt(f[0], 10, 64)
				total += time.Duration(ns)
			}
		}
	}
	return total
}

// memory is their proportional set size in bytes.
func (s *site) memory() (total int64, err error) {
	for _, pid := range s.processes() {
		pss, err := resident(pid)
		if err != nil {
			return 0, fmt.Errorf("%w: memory can be read as root only", err)
		}
		total += pss
	}
	return total, nil
}
