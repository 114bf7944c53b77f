package fargate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process runs containers as plain child processes: no root needed, no isolation given. A task's endpoints are at a
// loopback port of their own, and it reaches the emulator through AWS_ENDPOINT_URL. Paths of the image's files are
// replaced by the real ones where they are a whole argument. Workers of all tasks are in one /proc: a task may take
// another's for its own.
type Process struct {
	// TaskEnv is added to every container's environment: AWS_ENDPOINT_URL, SSL_CERT_FILE.
	TaskEnv []string
	Region  string
}

// Provision implements Runner.
func (p *Process) Provision(taskID string) (Sandbox, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &processSandbox{runner: p, local: l, taskID: taskID}, nil
}

// Close implements Runner.
func (p *Process) Close() error { return nil }

// outputDelay is how long the output of a container that has ended is waited for.
const outputDelay = 500 * time.Millisecond

type processSandbox struct {
	runner *Process
	local  net.Listener
	taskID string
}

func (s *processSandbox) Local() net.Listener { return s.local }
func (s *processSandbox) LocalURL() string    { return "http://" + s.local.Addr().String() }
func (s *processSandbox) LinkLocal() bool     { return false }
func (s *processSandbox) Env() []string       { return s.runner.TaskEnv }
func (s *processSandbox) Close() error        { return s.local.Close() }

// Network invents an address: the task has none of its own.
func (s *processSandbox) Network() Network {
	sum := sha256.Sum256([]byte(s.taskID))
	address := netip.AddrFrom4([4]byte{10, 0, sum[0], 10 + sum[1]%200})
	subnet, _ := address.Prefix(24)
	return newNetwork(address, subnet, netip.AddrFrom4([4]byte{10, 0, 0, 2}), s.runner.Region)
}

func newNetwork(address netip.Addr, subnet netip.Prefix, dns netip.Addr, region string) Network {
	b := address.As4()
	return Network{
		Address: address, Subnet: subnet.Masked(), DNS: dns,
		MAC:      fmt.Sprintf("06:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]),
		Hostname: fmt.Sprintf("ip-%d-%d-%d-%d.%s.compute.internal", b[0], b[1], b[2], b[3], region),
	}
}

func (s *processSandbox) Run(spec Spec) (Container, error) {
	args := realPaths(spec, spec.Args)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = spec.Env
	cmd.Stdout, cmd.Stderr = spec.Stdout, spec.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputDelay
	c := &processContainer{cmd: cmd, spec: spec, done: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go c.wait()
	return c, nil
}

// realPaths replaces paths of the image's files by those of this machine.
func realPaths(spec Spec, args []string) []string {
	real := make([]string, len(args))
	for i, arg := range args {
		real[i] = arg
		if host, ok := spec.Image.Files[arg]; ok {
			real[i] = host
		}
	}
	return real
}

// processContainer is a container whose first process is a child of ours, with or without namespaces.
type processContainer struct {
	cmd  *exec.Cmd
	spec Spec
	done chan struct{}

	mu      sync.Mutex
	workers []*os.Process
}

// wait waits for the first process (and a moment for its output: orphans may hold the pipes open for ever).
func (c *processContainer) wait() {
	c.cmd.Wait() //nolint:errcheck // the status is in ProcessState
	close(c.done)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.workers {
		w.Kill() //nolint:errcheck // it may have ended
	}
}

func (c *processContainer) PID() int              { return c.cmd.Process.Pid }
func (c *processContainer) Done() <-chan struct{} { return c.done }
func (c *processContainer) ExitCode() int         { return exitCode(c.cmd.ProcessState) }

func (c *processContainer) Signal(sig syscall.Signal) error { return c.cmd.Process.Signal(sig) }

func (c *processContainer) Kill() {
	syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
}

func (c *processContainer) Exec(ctx context.Context, args []string, output io.Writer) (int, error) {
	return c.exec(ctx, realPaths(c.spec, args), output, nil, nil)
}

// exec runs a command from a thread that enter, if there is one, has taken elsewhere.
func (c *processContainer) exec(ctx context.Context, args []string, output io.Writer, as *syscall.Credential, enter func() error) (int, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.spec.Env, output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	cmd.WaitDelay = outputDelay
	errs := make(chan error)
	go onOwnThread(func() {
		if enter != nil {
			if err := enter(); err != nil {
				errs <- err
				return
			}
		}
		errs <- cmd.Start()
	})
	if err := <-errs; err != nil {
		return 0, err
	}
	cmd.Wait() //nolint:errcheck // the status is in ProcessState
	return exitCode(cmd.ProcessState), ctx.Err()
}

func (c *processContainer) Worker(args ...string) (*os.Process, error) {
	return c.startWorker(args, nil)
}

// startWorker starts a worker, in other namespaces if enter (which runs on the thread that forks) goes there.
func (c *processContainer) startWorker(args []string, enter func() error) (*os.Process, error) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: args, Env: []string{workerEnv}, Stderr: &bytes.Buffer{}}
	errs := make(chan error)
	go onOwnThread(func() {
		if enter != nil {
			if err := enter(); err != nil {
				errs <- err
				return
			}
		}
		err := cmd.Start()
		errs <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // the thread stays until then: the worker dies with it
		}
	})
	if err := <-errs; err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers = append(c.workers, cmd.Process)
	return cmd.Process, nil
}
