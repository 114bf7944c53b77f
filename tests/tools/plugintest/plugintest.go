// Package plugintest runs AWS's session-manager-plugin as the AWS CLI and ecsta run it.
package plugintest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/tools"
)

// Options of a run.
type Options struct {
	Session client.Options // StartSession's answer
	Target  string
	Region  string
	// Endpoint is argv[6], where ResumeSession is asked for; ecsta puts ECS's there. "": argv ends before it, and the
	// environment decides.
	Endpoint string
	Env      []string // AWS_* and the CA
	// CLI are arguments of the AWS CLI, which then starts the session and the plugin; Session, Target and Endpoint are not used.
	CLI []string
	// Stdio says that the session is one over standard input and output (AWS-StartSSHSession), not a local port.
	Stdio bool
	// Path is another program of that name, ours for one; "": AWS's.
	Path string
	// Request is argv[5]; "": with the target only, as ecsta gives it.
	Request string
	Profile string // argv[4]
}

// Plugin is a running plugin.
type Plugin struct {
	Port   string // it listens on, on localhost
	Stdin  io.WriteCloser
	Stdout io.ReadCloser // with Stdio; it begins with what the plugin says to people

	cmd    *exec.Cmd
	dir    string
	exited chan struct{}
	mu     sync.Mutex
	output strings.Builder
	grown  chan struct{}
}

// Start runs the plugin and, unless it is over standard streams, waits until it listens. It is killed with the context.
func Start(ctx context.Context, o Options) (*Plugin, error) {
	path, err := o.Path, error(nil)
	if path == "" {
		path, err = tools.Find("session-manager-plugin")
	}
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "plugin-") // for its socket, which it leaves behind when killed
	if err != nil {
		return nil, err
	}
	answer, _ := json.Marshal(map[string]string{"SessionId": o.Session.SessionID, "StreamUrl": o.Session.StreamURL,
		"TokenValue": o.Session.Token})
	request, _ := json.Marshal(map[string]string{"Target": o.Target})
	if o.Request != "" {
		request = []byte(o.Request)
	}
	argv := []string{string(answer), o.Region, "StartSession", o.Profile, string(request)}
	if o.Endpoint != "" {
		argv = append(argv, o.Endpoint)
	}
	env := append([]string{"HOME=" + dir, "TMPDIR=" + dir, "PATH=" + filepath.Dir(path) + ":" + os.Getenv("PATH")}, o.Env...)
	if o.CLI != nil {
		if path, err = tools.Find("aws"); err != nil {
			return nil, err
		}
		argv = o.CLI
	}
	p := &Plugin{cmd: exec.CommandContext(ctx, path, argv...), dir: dir, exited: make(chan struct{}), grown: make(chan struct{}, 1)}
	p.cmd.Env, p.cmd.Dir = env, dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = tail{p}, tail{p}
	var theirs *os.File
	if o.Stdio { // a pipe of our own: nothing of what it wrote is lost when it ends
		if p.Stdout, theirs, err = os.Pipe(); err == nil {
			p.cmd.Stdout = theirs
		}
	}
	if err == nil {
		p.Stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if theirs != nil {
		_ = theirs.Close()
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	go p.reap()
	if o.Stdio {
		return p, nil
	}
	if err := p.WaitOutput("Waiting for connections...", 20*time.Second); err != nil {
		p.Kill()
		return nil, err
	}
	_, rest, _ := strings.Cut(p.Output(), "Port ")
	p.Port, _, _ = strings.Cut(rest, " ")
	return p, nil
}

// tail collects what is written.
type tail struct{ p *Plugin }

func (w tail) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	w.p.output.Write(b)
	w.p.mu.Unlock()
	select {
	case w.p.grown <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *Plugin) reap() {
	_ = p.cmd.Wait()
	_ = os.RemoveAll(p.dir)
	close(p.exited)
}

// Output is what it has said so far (with Stdio: on standard error).
func (p *Plugin) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// WaitOutput waits until it has said something.
func (p *Plugin) WaitOutput(text string, timeout time.Duration) error {
	late := time.After(timeout)
	for !strings.Contains(p.Output(), text) {
		select {
		case <-p.grown:
		case <-p.exited:
			if !strings.Contains(p.Output(), text) {
				return fmt.Errorf("the plugin has ended without %q: %s", text, p.Output())
			}
		case <-late:
			return fmt.Errorf("the plugin has not said %q within %v: %s", text, timeout, p.Output())
		}
	}
	return nil
}

// Dial connects to the local port.
func (p *Plugin) Dial() (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort("localhost", p.Port), 5*time.Second)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// Interrupt sends SIGINT, as Ctrl-C does, to the CLI as well, if there is one: it ends the session and exits.
func (p *Plugin) Interrupt() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT) }

// Exited is closed once it has ended.
func (p *Plugin) Exited() <-chan struct{} { return p.exited }

// PID is the process's, the CLI's with one.
func (p *Plugin) PID() int { return p.cmd.Process.Pid }

// ExitCode is its exit status once it has ended.
func (p *Plugin) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Kill ends it at once.
func (p *Plugin) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}
