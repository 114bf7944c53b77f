// Package emulator is a one-machine Fargate: the AWS APIs that fumidai and the tools around it use, behind one port
// with real signatures and a CA of its own (package edge), ECS with a scheduler that really starts tasks (package ecs),
// as plain processes or in namespaces of their own (package fargate), and the Session Manager gateway (package gateway).
package emulator

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/services"

	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// Options configure an emulator. The zero value works: it needs no root and runs whatever Image finds.
type Options struct {
	Region  string // default ap-northeast-1
	Account string // default 123456789012
	Address string // of the one port; default 127.0.0.1:0
	Seed    uint64 // of the fault switchboard
	Log     *slog.Logger

	// Namespaces runs tasks in namespaces on a VPC of their own, as Fargate does; needs root. Otherwise they are plain
	// child processes.
	Namespaces bool
	// Limits gives containers in namespaces no more processor and memory than the task has, as Fargate does. (An OCI runtime
	// does that without being told.)
	Limits bool
	// Runtime runs containers under an OCI runtime ("runc"), if Namespaces is set; images must have a root then.
	Runtime string
	// Image finds what an image name in a task definition stands for. Nil means that there are no images.
	Image func(name string) (fargate.Image, error)
	// TaskEnv is added to every container's environment.
	TaskEnv []string
	// ECS and Services are passed on; what the fields above say is filled in.
	ECS      ecs.Options
	Services services.Options
}

// Emulator is one running emulator.
type Emulator struct {
	Options
	Edge    *edge.Edge
	ECS     *ecs.ECS
	Gateway *gateway.Gateway
	Others  *services.Services
	VPC     *fargate.VPC // nil without namespaces

	addr   net.Addr
	dir    string
	runner fargate.Runner
}

// Credentials of the user every emulator knows, for tools and tests.
const (
	AccessKeyID     = "AKIAEMULATOR00000001"
	SecretAccessKey = "emulator/secret/key/of/the/test/operator"
)

// Start runs an emulator until Close.
func Start(o Options) (*Emulator, error) {
	o.defaults()
	e := &Emulator{Options: o}
	if err := e.start(); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (o *Options) defaults() {
	if o.Region == "" {
		o.Region = "ap-northeast-1"
	}
	if o.Account == "" {
		o.Account = "123456789012"
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Image == nil {
		o.Image = func(name string) (fargate.Image, error) {
			return fargate.Image{}, fmt.Errorf("no such image: %s", name)
		}
	}
}

func (e *Emulator) start() (err error) {
	if e.dir, err = os.MkdirTemp("", "fumidai-emulator-"); err != nil {
		return err
	}
	if err := os.Chmod(e.dir, 0o755); err != nil {
		return err
	}
	if e.Edge, err = edge.New(e.Log); err != nil {
		return err
	}
	if err := e.Edge.CA.WriteFile(e.CAFile()); err != nil {
		return err
	}
	e.Edge.Faults.Seed = e.Seed
	e.Edge.Keys.Static(AccessKeyID, SecretAccessKey, edge.Principal{ARN: fmt.Sprintf("arn:aws:iam::%s:user/operator", e.Account)})

	listener, err := net.Listen("tcp", e.Address)
	if err != nil {
		return err
	}
	e.addr = listener.Addr()
	if err := e.makeRunner(); err != nil {
		listener.Close()
		return err
	}
	e.Gateway = gateway.New(gateway.Config{Now: e.Edge.Now, Log: e.Log, Region: e.Region, Account: e.Account,
		Target: func(target string) (string, map[string][]string) { return e.ECS.SessionTarget(target) }})
	others := e.Options.Services
	others.Region, others.Account, others.Edge = e.Region, e.Account, e.Edge
	e.Others = services.New(others)
	o := e.Options.ECS
	o.Region, o.Account, o.Edge, o.Runner, o.Image, o.Log, o.Exec = e.Region, e.Account, e.Edge, e.runner, e.Image, e.Log, e.executeCommand
	if o.Output == nil {
		o.Output = e.awslogs
	}
	e.ECS = ecs.New(o)
	e.Edge.Handle(e.ECS.Service())
	e.Edge.Handle(e.Gateway.Services(e.Others.ServeSSM)...)
	e.Edge.Handle(e.Others.Services()...)
	e.Edge.Serve(listener)
	return nil
}

// executeCommand starts the session of ecs:ExecuteCommand at the gateway.
func (e *Emulator) executeCommand(c *edge.Call, target string, in *sdk.ExecuteCommandInput) (*types.Session, error) {
	scheme, host := "ws://", c.Host
	if c.TLS != nil {
		scheme = "wss://"
	}
	if rest, ok := strings.CutPrefix(host, "ecs."); ok {
		host = "ssmmessages." + rest
	}
	started, err := e.Gateway.StartSession(scheme+host, c.Principal.ARN, target, "", "ecs:ExecuteCommand "+*in.Command, nil)
	if err != nil {
		return nil, err
	}
	return &types.Session{SessionId: &started.SessionID, StreamUrl: &started.StreamURL, TokenValue: started.TokenValue}, nil
}

// awslogs is the log driver of containers that name it; the output of others goes nowhere.
func (e *Emulator) awslogs(t types.Task, d types.ContainerDefinition) io.Writer {
	log := d.LogConfiguration
	if log == nil || log.LogDriver != types.LogDriverAwslogs {
		return io.Discard
	}
	id := (*t.TaskArn)[strings.LastIndexByte(*t.TaskArn, '/')+1:]
	return e.Others.Logs.Writer(log.Options["awslogs-group"], log.Options["awslogs-stream-prefix"]+"/"+*d.Name+"/"+id)
}

func (e *Emulator) makeRunner() error {
	if !e.Namespaces {
		// By name: not every TLS library takes an address for a name.
		_, port, _ := net.SplitHostPort(e.Addr())
		env := append([]string{"AWS_ENDPOINT_URL=https://localhost:" + port, "SSL_CERT_FILE=" + e.CAFile()}, e.TaskEnv...)
		e.runner = &fargate.Process{Region: e.Region, TaskEnv: env}
		return nil
	}
	vpc, err := fargate.NewVPC()
	if err != nil {
		return err
	}
	e.VPC = vpc
	runner, err := fargate.NewNamespaces(vpc, e.Region, e.CAFile())
	if err != nil {
		return err
	}
	runner.TaskEnv, runner.Limits = e.TaskEnv, e.Limits
	e.runner = runner
	if e.Runtime != "" {
		e.runner = &fargate.OCI{Namespaces: runner, Runtime: e.Runtime}
	}
	inside, err := vpc.Listen("tcp", net.JoinHostPort(vpc.Resolver.String(), "443"))
	if err != nil {
		return err
	}
	e.Edge.Serve(inside)
	return nil
}

// Addr is the one port's address: host:port.
func (e *Emulator) Addr() string { return e.addr.String() }

// URL is what AWS_ENDPOINT_URL is set to.
func (e *Emulator) URL() string { return "https://" + e.Addr() }

// ProxyURL is what HTTPS_PROXY is set to, for tools that insist on the real host names.
func (e *Emulator) ProxyURL() string { return "http://" + e.Addr() }

// CAFile is the file that SSL_CERT_FILE and AWS_CA_BUNDLE are set to.
func (e *Emulator) CAFile() string { return filepath.Join(e.dir, "ca.pem") }

// ToolEnv is the environment in which AWS's and other tools work against the emulator: through AWS_ENDPOINT_URL, or
// (for those that do not know it) under the real host names through the intercepting proxy.
func (e *Emulator) ToolEnv(proxy bool) []string {
	env := []string{
		"AWS_ACCESS_KEY_ID=" + AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + SecretAccessKey,
		"AWS_REGION=" + e.Region, "AWS_DEFAULT_REGION=" + e.Region, "AWS_EC2_METADATA_DISABLED=true",
		"SSL_CERT_FILE=" + e.CAFile(), "AWS_CA_BUNDLE=" + e.CAFile(),
	}
	if proxy {
		return append(env, "HTTPS_PROXY="+e.ProxyURL())
	}
	return append(env, "AWS_ENDPOINT_URL="+e.URL())
}

// Close stops everything: tasks, network, listeners.
func (e *Emulator) Close() {
	if e.ECS != nil {
		e.ECS.Close()
	}
	if e.Gateway != nil {
		e.Gateway.Close()
	}
	if e.Edge != nil {
		e.Edge.Close()
	}
	if e.runner != nil {
		e.runner.Close() //nolint:errcheck // files of a temporary directory
	}
	if e.VPC != nil {
		e.VPC.Close() //nolint:errcheck // it goes with the process
	}
	if e.dir != "" {
		os.RemoveAll(e.dir)
	}
}
