package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway/agenttest"
	"fumidai/tests/emulator/stream"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
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
		Socks    bool
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
	env := append([]string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH")}, s.toolEnv()...)
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
	t.Parallel()
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
	t.Parallel()
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

// The story: a service at 0, one command, nothing left.
func TestForwardStartsTheService(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.scale(0)
	s.stopped(s.task, 20*time.Second)
	cmd := s.forwardCommand("--service", "gate", "-L", s.remote.to("0"), "--", "true")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := s.ECS.ServiceState(cluster, "gate").DesiredCount; n != 1 {
		t.Errorf("desired count %d", n)
	}
	s.wantNoSession()
}

// Without a command nobody starts what is at 0 by accident, and a service that never gets a task says why.
func TestForwardWithoutATask(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.scale(0)
	s.stopped(s.task, 20*time.Second)
	s.fails(1, []string{"no task of service gate of cluster default runs (desired count 0, pending 0)"}, "--service", "gate", "-L", s.remote.to("0"))
	s.fails(1, []string{"service nobody of cluster default: ", "Service not found"}, "--service", "nobody", "-L", s.remote.to("0"))
	s.fails(1, []string{"no task of task "}, "--id", strings.Repeat("0", 32), "-L", s.remote.to("0"))
	s.wantNoSession()
}

// fails runs it to a failure that says all of this.
func (s *site) fails(status int, says []string, args ...string) {
	s.Helper()
	out, err := s.forwardCommand(args...).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != status {
		s.Errorf("fumidai forward %q: %v, want exit status %d: %s", args, err, status, out)
	}
	for _, text := range says {
		if !strings.Contains(string(out), text) {
			s.Errorf("fumidai forward %q does not say %q, but: %s", args, text, out)
		}
	}
}

func (s *site) scale(n int32) {
	s.Helper()
	_, err := s.sdk.UpdateService(ctx, &sdk.UpdateServiceInput{Service: aws.String("gate"), DesiredCount: aws.Int32(n)})
	s.must(err)
}

// A taken port, a target that does not answer, one that may not be dialled: the reason, and no command.
func TestForwardFailures(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer taken.Close() //nolint:errcheck // a test's
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	command := []string{"--", "sh", "-c", "echo it ran"}
	s.fails(125, []string{"can't listen on 127.0.0.1:" + port, "in use"}, append([]string{"--service", "gate", "-L", s.remote.to(port)}, command...)...)
	if n := len(s.Gateway.Sessions("")); n != 0 {
		t.Errorf("a taken port cost %d sessions", n)
	}
	nobody := endpoint{s.remote.host, "1"}
	s.fails(125, []string{s.remote.host + ":1 does not answer: ", "refused"}, append([]string{"--service", "gate", "-L", nobody.to("0")}, command...)...)
	s.fails(125, []string{"169.254.170.2", "may not be dialled"}, append([]string{"--service", "gate", "-L", "0:169.254.170.2:80"}, command...)...)
	s.fails(125, []string{"no-such-host.internal"}, append([]string{"--service", "gate", "-L", "0:no-such-host.internal:80"}, command...)...)
	s.fails(127, []string{"cannot run no-such-command"}, "--service", "gate", "-L", s.remote.to("0"), "--", "no-such-command")
	s.wantNoSession()
}

// A warehouse that resumes while it is waited for.
func TestForwardWaitsForTheTarget(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	l, err := s.VPC.NS().Listen("tcp", net.JoinHostPort(s.remote.host, "0"))
	s.must(err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s.must(l.Close())
	f := s.startForward("--service", "gate", "--wait-for-target", "30s", "-L", endpoint{s.remote.host, port}.to("0"))
	f.event("progress", 10*time.Second)
	time.Sleep(time.Second)
	l, err = s.VPC.NS().Listen("tcp", net.JoinHostPort(s.remote.host, port))
	s.must(err)
	defer l.Close() //nolint:errcheck // a test's
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go question(c)
		}
	}()
	f.becomes().asks(0, 1000, 1000)
}

// Several forwards and several sessions: one tunnel, each connection to its own target.
func TestForwardSeveral(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	other := s.serve(func(c net.Conn) { _, _ = c.Write([]byte("the other one\n")) })
	socket := s.TempDir() + "/.s.PGSQL.5432"
	f := s.startForward("--service", "gate", "--sessions", "3", "--drain", "500ms", "-L", s.remote.to("0"), "-L", other.to("0"), "-L", other.to(socket)).becomes()
	s.eventually("three sessions", 5*time.Second, func() bool { return len(s.Gateway.Sessions("")) == 3 })
	f.asks(0, 300_000, 3_000_000)
	line, _ := bufio.NewReader(f.dial(1)).ReadString('\n')
	if line != "the other one\n" {
		t.Errorf("the second forward says %q", line)
	}
	info, err := os.Stat(socket)
	s.must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v", info.Mode())
	}
	c, err := net.Dial("unix", socket)
	s.must(err)
	if line, _ = bufio.NewReader(c).ReadString('\n'); line != "the other one\n" {
		t.Errorf("the socket says %q", line)
	}
	s.must(f.cmd.Process.Signal(syscall.SIGTERM))
	f.ends(5*time.Second, 0)
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left")
	}
	s.wantNoSession()
}

// Hourly Byes, cut connections: local connections do not notice.
func TestForwardConnectionsSurvive(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-L", s.remote.to("0")).becomes()
	c := f.dial(0)
	f.inTime(5*time.Second, "the server's first word", func() error { return await(c) })
	for i := range 6 {
		session := s.Gateway.Sessions("")[0]
		done := make(chan error, 1)
		go func() { done <- ask(c, 500_000, 2_000_000, 0x100) }()
		time.Sleep(10 * time.Millisecond)
		if i%2 == 0 {
			session.Bye("client")
		} else {
			session.Cut("client")
		}
		f.inTime(30*time.Second, "a conversation", func() error { return <-done })
	}
	if n := len(s.Gateway.Sessions("")); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// A session that the service has ended is replaced for the next connection; a task that is gone is replaced by the next.
func TestForwardReplaces(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-L", s.remote.to("0")).becomes()
	f.asks(0, 1000, 1000)
	s.Gateway.Sessions("")[0].Terminate()
	f.event("session", 5*time.Second)
	f.asks(0, 1000, 1000)
	_, err := s.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(s.task.ID())})
	s.must(err)
	s.stopped(s.task, 40*time.Second)
	f.asks(0, 1000, 1000)
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
}

// Killed: the port is free at once, the command dies.
func TestForwardKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	cmd := s.forwardCommand("--service", "gate", "-L", s.remote.to("0"), "--", "sh", "-c", "echo $$; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	s.must(err)
	s.must(cmd.Start())
	var pid int
	_, err = fmt.Fscan(out, &pid)
	s.must(err)
	s.must(cmd.Process.Kill())
	_ = cmd.Wait()
	s.eventually("the command's end", 2*time.Second, func() bool { return syscall.Kill(pid, 0) != nil })
}

// The command gets the signals, and the session ends with it.
func TestForwardSignals(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, number := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		cmd := s.forwardCommand("--service", "gate", "-L", s.remote.to("0"), "--", "sh", "-c",
			"trap 'exit 5' TERM INT HUP; echo ready; while :; do sleep .05; done")
		out, err := cmd.StdoutPipe()
		s.must(err)
		s.must(cmd.Start())
		var word string
		_, err = fmt.Fscan(out, &word)
		s.must(err)
		s.must(cmd.Process.Signal(number))
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 5 {
			t.Errorf("%v: exit status %d", number, got)
		}
		s.wantNoSession()
	}
}

// referenceSite is a task whose sessions the emulator's reference agent serves, as AWS's agent would.
func referenceSite(t *testing.T, version string, stream stream.Config) *site {
	t.Helper()
	w := newWorld(t, func(o *emulator.Options) { o.Namespaces = false })
	s := siteOf(w)
	task := w.service("gate", map[string]string{"FUMIDAI_RELAY": "off", "ECS_TST_INITIAL_WAIT_TIME": "10m"})
	signer := *s.api
	signer.Credentials = aws.Credentials{AccessKeyID: emulator.AccessKeyID, SecretAccessKey: emulator.SecretAccessKey}
	agenttest.Start(s.Context(), agenttest.Options{BaseURL: s.api.URL, Target: task.Target(), Version: version, Stream: stream,
		Sign: func(r *http.Request, body []byte) { _ = signer.Sign(r, body, "ssmmessages") }})
	return s.servedBy(task)
}

// AWS's agent at the other end: a session for each forward, and connections spread over several.
func TestForwardToAWSAgent(t *testing.T) {
	t.Parallel()
	s := referenceSite(t, "", stream.Config{})
	other := s.serve(func(c net.Conn) { _, _ = c.Write([]byte("the other one\n")) })
	f := s.startForward("--service", "gate", "--sessions", "2", "-L", s.remote.to("0"), "-L", other.to("0")).becomes()
	s.eventually("four sessions", 5*time.Second, func() bool { return len(s.Gateway.Sessions("")) == 4 })
	for range 4 {
		f.asks(0, 300_000, 1_000_000)
	}
	line, _ := bufio.NewReader(f.dial(1)).ReadString('\n')
	if line != "the other one\n" {
		t.Errorf("the second forward says %q", line)
	}
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
	s.fails(1, []string{s.remote.host + ":1 does not answer"}, "--service", "gate", "-L", endpoint{s.remote.host, "1"}.to("0"))
	s.wantNoSession()
}

// An agent from before the multiplexer: one connection at a time. It dials again when something is said.
func TestForwardToAnOldAgent(t *testing.T) {
	t.Parallel()
	s := referenceSite(t, "3.0.100.0", stream.Config{})
	at := s.serve(echoBytes)
	f := s.startForward("--service", "gate", "-L", at.to("0")).becomes()
	for range 3 {
		c := f.dial(0)
		go func() { _, _ = io.CopyN(c, noise(1), 300_000) }()
		f.inTime(20*time.Second, "an echo", func() error {
			_, err := io.CopyN(io.Discard, c, 300_000)
			return err
		})
		s.must(c.Close())
	}
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
}

// Standard input and output as one connection, with pipes and with files.
func TestForwardStdio(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	at := s.serve(func(c net.Conn) {
		sum := sha256.New()
		n, _ := io.Copy(sum, c) // up to the half-close
		_, _ = fmt.Fprintf(c, "%d %x\n", n, sum.Sum(nil))
		_, _ = io.CopyN(c, noise(7), 1_000_000)
	})
	input := make([]byte, 1_500_000)
	_, _ = io.ReadFull(noise(3), input)
	want := append([]byte(fmt.Sprintf("%d %x\n", len(input), sha256.Sum256(input))), make([]byte, 1_000_000)...)
	_, _ = io.ReadFull(noise(7), want[len(want)-1_000_000:])
	run := func(in io.Reader, out io.Writer) {
		cmd := s.forwardCommand("--service", "gate", "-W", net.JoinHostPort(at.host, at.port))
		var said bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
		if err := cmd.Run(); err != nil || said.Len() > 0 {
			t.Errorf("%v: %s", err, &said)
		}
		s.wantNoSession()
	}
	var out bytes.Buffer
	run(bytes.NewReader(input), &out)
	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf("with pipes %d bytes came back, want %d", out.Len(), len(want))
	}
	dir := s.TempDir()
	s.must(os.WriteFile(dir+"/in", input, 0o600))
	in, err := os.Open(dir + "/in")
	s.must(err)
	defer in.Close() //nolint:errcheck // a test's
	file, err := os.Create(dir + "/out")
	s.must(err)
	run(in, file)
	s.must(file.Close())
	if got, _ := os.ReadFile(dir + "/out"); !bytes.Equal(got, want) {
		t.Errorf("with files %d bytes came back, want %d", len(got), len(want))
	}
}

// Calls that fail often, in every way that may pass: it becomes ready all the same, and leaves nothing.
func TestForwardUnreliableCalls(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, service := range []string{"ecs", "ssm"} {
		s.Edge.Faults.Add(edge.ServerError(service, "", .2))
		s.Edge.Faults.Add(edge.Throttling(service, "", .2))
		s.Edge.Faults.Add(edge.Fault{Service: service, Probability: .2, Effect: edge.EffectResetBefore})
	}
	for range 3 {
		f := s.startForward("--service", "gate", "-L", s.remote.to("0")).becomes()
		f.asks(0, 100_000, 100_000)
		s.must(f.cmd.Process.Signal(syscall.SIGINT))
		f.ends(10*time.Second, 0)
	}
	// TerminateSession may have failed, but the flag has ended them.
	s.wantNoSession()
}

// What is refused is said at once, with the action that is missing.
func TestForwardDenied(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.api.Credentials = s.user("arn:aws:iam::123456789012:user/nobody")
	began := time.Now()
	s.fails(125, []string{"AccessDeniedException", "your credentials lack ecs:ListTasks"}, "--service", "gate", "-L", s.remote.to("0"), "--", "true")
	s.fails(1, []string{"your credentials lack ecs:DescribeTasks"}, "--id", s.task.ID(), "-L", s.remote.to("0"))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
}

// The gateway is away for seconds, with everything under way.
func TestForwardGatewayAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "--sessions", "2", "-L", s.remote.to("0")).becomes()
	s.eventually("two sessions", 5*time.Second, func() bool { return len(s.Gateway.Sessions("")) == 2 })
	c := f.dial(0)
	f.inTime(5*time.Second, "the server's first word", func() error { return await(c) })
	for range 2 {
		done := make(chan error, 1)
		go func() { done <- ask(c, 1_000_000, 3_000_000, 0x100) }()
		time.Sleep(20 * time.Millisecond)
		s.Gateway.Restart(3 * time.Second)
		f.inTime(60*time.Second, "a conversation", func() error { return <-done })
	}
}

// The relay in the task dies: its sessions are over, the next connection gets a new one.
func TestForwardRelayDies(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-L", s.remote.to("0")).becomes()
	f.asks(0, 1000, 1000)
	s.must(syscall.Kill(s.relayPID(), syscall.SIGKILL))
	s.eventually("the next connection", 30*time.Second, func() bool {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("localhost:%d", f.ready.Forwards[0].Port), time.Second)
		if err != nil {
			return false
		}
		defer c.Close() //nolint:errcheck // a test's
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		return await(c) == nil && ask(c, 1000, 1000, 0x100) == nil
	})
}

// Many connections at once, more than a session takes: the others wait.
func TestForwardManyConnections(t *testing.T) {
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "--max-messages-per-second", "0", "-L", s.remote.to("0")).becomes()
	var wait crowd
	for range 1200 {
		wait.run(func() {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("localhost:%d", f.ready.Forwards[0].Port), 10*time.Second)
			if err == nil {
				defer c.Close() //nolint:errcheck // a test's
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				if err = await(c); err == nil {
					err = ask(c, 2000, 20_000, 0x100)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	s.eventually("the end of all descriptors", 10*time.Second, func() bool { return descriptors(f.cmd.Process.Pid) < 30 })
}

// Much more than AWS's agent takes at once, upwards: all of it arrives.
func TestForwardUploadToAWSAgent(t *testing.T) {
	t.Parallel()
	s := referenceSite(t, "", stream.Config{})
	f := s.startForward("--service", "gate", "--max-messages-per-second", "0", "-L", s.remote.to("0")).becomes()
	c := f.dial(0)
	f.inTime(10*time.Second, "the server's first word", func() error { return await(c) })
	f.inTime(2*time.Minute, "200 MB up", func() error { return ask(c, 200_000_000, 1000, 0x100) })
}

// One of several sessions ends while a connection is open: it goes on over the others, and the session is replaced.
func TestForwardReplacesOneOfSeveral(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "--sessions", "3", "-L", s.remote.to("0")).becomes()
	alive := func() (n int) {
		for _, session := range s.Gateway.Sessions("") {
			if !session.Ended() {
				n++
			}
		}
		return n
	}
	s.eventually("three sessions", 5*time.Second, func() bool { return alive() == 3 })
	c := f.dial(0)
	f.inTime(5*time.Second, "the server's first word", func() error { return await(c) })
	for i := range 3 {
		done := make(chan error, 1)
		go func() { done <- ask(c, 1_000_000, 3_000_000, 0x100) }()
		time.Sleep(10 * time.Millisecond)
		s.Gateway.Sessions("")[i].Terminate()
		f.inTime(30*time.Second, "a conversation", func() error { return <-done })
		s.eventually("three sessions again", 10*time.Second, func() bool { return alive() == 3 && len(s.Gateway.Sessions("")) == 4+i })
	}
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
}
