package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file is about `fumidai forward`: the other end of the tunnel, by the same binary.

// forward is a run of it.
type forward struct {
	*site
	cmd    *exec.Cmd
	exited chan struct{}
	ready  readyEvent

	mu     sync.Mutex
	out    bytes.Buffer // standard output
	said   bytes.Buffer // standard error
	events chan string
}

// readyEvent is what the ready file and the ready event say.
type readyEvent struct {
	Event        string
	PID          int
	Task         string
	AgentVersion string `json:"agent_version"`
	Forwards     []struct {
		Port     int
		Path     string
		Host     string
		HostPort int `json:"host_port"`
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// forwardEnv is the environment of a client: AWS's endpoints lead to the emulator.
func (s *site) forwardEnv(more ...string) []string {
	home := s.TempDir()
	env := append([]string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH")}, s.ToolEnv(false)...)
	return append(env, more...)
}

func (s *site) forwardCommand(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, append([]string{"forward", "--cluster", cluster, "--region", s.Region}, args...)...)
	cmd.Env = s.forwardEnv()
	return cmd
}

// startForward starts it, with events on standard output.
func (s *site) startForward(args ...string) *forward {
	s.Helper()
	f := &forward{site: s, exited: make(chan struct{})}
	f.cmd = s.forwardCommand(append([]string{"--output", "json"}, args...)...)
	f.cmd.Stdout, f.cmd.Stderr = lockedWriter{&f.mu, &f.out}, lockedWriter{&f.mu, &f.said}
	s.must(f.cmd.Start())
	s.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		<-f.exited
		if s.Failed() {
			s.Logf("fumidai forward %q says %s%s", args, f.output(), &f.said)
		}
	})
	go func() {
		_ = f.cmd.Wait()
		close(f.exited)
	}()
	return f
}

func (f *forward) output() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.out.String()
}

// event waits for one of this kind.
func (f *forward) event(kind string, limit time.Duration) string {
	f.Helper()
	for late := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		lines := bufio.NewScanner(strings.NewReader(f.output()))
		for lines.Scan() {
			var e struct{ Event string }
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event == kind {
				return lines.Text()
			}
		}
		select {
		case <-f.exited:
			late = time.Time{}
		default:
		}
		if time.Now().After(late) {
			f.Fatalf("no event %q within %v, but %s", kind, limit, f.output())
		}
	}
}

// becomes waits until it is ready.
func (f *forward) becomes() *forward {
	f.Helper()
	f.must(json.Unmarshal([]byte(f.event("ready", 30*time.Second)), &f.ready))
	return f
}

// dial opens a connection through a forward.
func (f *forward) dial(i int) net.Conn {
	f.Helper()
	c, err := net.DialTimeout("tcp", fmt.Sprintf("localhost:%d", f.ready.Forwards[i].Port), 5*time.Second)
	f.must(err)
	f.Cleanup(func() { _ = c.Close() })
	return c
}

// asks has one conversation with the server of most tests.
func (f *forward) asks(i int, up, down int64) {
	f.Helper()
	c := f.dial(i)
	f.inTime(20*time.Second, "the server's first word", func() error { return await(c) })
	f.inTime(30*time.Second, "a conversation", func() error { return ask(c, up, down, 0x100) })
	f.must(c.Close())
}

// ends waits for the exit status.
func (f *forward) ends(limit time.Duration, status int) {
	f.Helper()
	select {
	case <-f.exited:
	case <-time.After(limit):
		f.Fatalf("after %v it still runs", limit)
	}
	if got := f.cmd.ProcessState.ExitCode(); got != status {
		f.Errorf("exit status %d, want %d", got, status)
	}
}

// wantNoSession checks that nothing is left at the service.
func (s *site) wantNoSession() {
	s.Helper()
	for _, session := range s.Gateway.Sessions("") {
		if !session.Ended() {
			s.Errorf("session %s is left", session.Stats().ID)
		}
	}
}

func (e endpoint) to(local string) string { return local + ":" + net.JoinHostPort(e.host, e.port) }

// One forward, our agent, until it is interrupted.
func TestForwardUntilInterrupted(t *testing.T) {
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-L", s.remote.to("0")).becomes()
	if f.ready.Task != s.task.ID() || f.ready.PID != f.cmd.Process.Pid {
		t.Errorf("ready says %+v", f.ready)
	}
	for range 3 {
		f.asks(0, 100_000, 2_000_000)
	}
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
}

// A command's exit status is ours, and it is told the ports.
func TestForwardCommand(t *testing.T) {
	s := newSite(t, nil)
	cmd := s.forwardCommand("--service", "gate", "-L", s.remote.to("0"), "--", "sh", "-c",
		`printf '%s %s\n' "$FUMIDAI_PORT_`+s.remote.port+`" "$FUMIDAI_ADDR_`+s.remote.port+`"; exit 7`)
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("exit status %d, %v: %s", cmd.ProcessState.ExitCode(), err, err.(*exec.ExitError).Stderr)
	}
	var port, addr string
	if n, _ := fmt.Sscan(string(out), &port, &addr); n != 2 || addr != "127.0.0.1:"+port {
		t.Errorf("the command says %q", out)
	}
	s.wantNoSession()
}
