package e2e

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"
)

// solo is the binary outside ECS: no metadata, no credentials, no API. As root it is PID 1 of namespaces of its own, so
// that tests beside it don't see each other's processes.
type solo struct {
	*testing.T
	fargate.Container
	log     string // the agent's log, on this machine
	out     output
	started time.Time
}

type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// prepare makes a place for one; nothing has started, so that a test can lay out the log first.
func prepare(t *testing.T) (*solo, func(env []string, args ...string)) {
	t.Helper()
	s := &solo{T: t}
	dir := t.TempDir()
	w := &fargate.Process{Region: "ap-northeast-1"}
	var runner fargate.Runner = w
	s.log = filepath.Join(dir, "agent.log")
	seen := s.log
	if os.Getuid() == 0 {
		vpc, err := fargate.NewVPC()
		if err != nil {
			t.Fatal(err)
		}
		front, err := edge.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { front.Close(); vpc.Close() })
		ca := filepath.Join(dir, "ca.pem")
		if err := front.CA.WriteFile(ca); err != nil {
			t.Fatal(err)
		}
		namespaces, err := fargate.NewNamespaces(vpc, "ap-northeast-1", ca)
		if err != nil {
			t.Fatal(err)
		}
		runner, seen = namespaces, "/log/agent.log"
	}
	sandbox, err := runner.Provision("solo")
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(sandbox.Local(), http.NotFoundHandler()) //nolint:errcheck // until the end
	t.Cleanup(func() {
		if s.Container != nil {
			s.Kill()
			<-s.Done()
		}
		sandbox.Close()
		runner.Close()
		if t.Failed() {
			t.Logf("it wrote:\n%s", s.out.String())
		}
	})
	return s, func(env []string, args ...string) {
		t.Helper()
		img, _ := image("")
		env = append([]string{"ECS_TST_SSM_AGENT_LOG_LOCATION=" + seen}, env...)
		if !strings.Contains(strings.Join(env, " "), "FUMIDAI_RELAY=") {
			env = append(env, "FUMIDAI_RELAY=off")
		}
		s.started = time.Now()
		s.Container, err = sandbox.Run(fargate.Spec{Image: img, Args: append([]string{"/fumidai"}, args...), Env: env, ReadOnlyRoot: true,
			Mounts: []fargate.Mount{{Source: dir, Target: "/log"}}, Stdout: &s.out, Stderr: &s.out})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// run starts one at once.
func run(t *testing.T, env []string, args ...string) *solo {
	t.Helper()
	s, start := prepare(t)
	start(env, args...)
	return s
}

// ends waits for the end and checks when it came and with what status.
func (s *solo) ends(least, most time.Duration, code int) {
	s.Helper()
	select {
	case <-s.Done():
	case <-time.After(time.Until(s.started.Add(most))):
		s.Fatalf("still there after %v", most)
	}
	if took := time.Since(s.started); took < least {
		s.Errorf("ended after %v, before %v", took, least)
	}
	if s.ExitCode() != code {
		s.Errorf("exit code %d, want %d", s.ExitCode(), code)
	}
}

// runsAt checks that it still runs so long after its start.
func (s *solo) runsAt(d time.Duration) {
	s.Helper()
	select {
	case <-s.Done():
		s.Fatalf("ended after %v, should be there at %v", time.Since(s.started), d)
	case <-time.After(time.Until(s.started.Add(d))):
	}
}

func (s *solo) wantOutput(words ...string) {
	s.Helper()
	for _, w := range words {
		if !strings.Contains(s.out.String(), w) {
			s.Errorf("nothing says %q", w)
		}
	}
}

// line appends a line to the agent's log.
func (s *solo) line(format string, args ...any) {
	s.Helper()
	s.raw(time.Now().UTC().Format("2006-01-02 15:04:05 ") + fmt.Sprintf(format, args...) + "\n")
}

func (s *solo) raw(text string) {
	s.Helper()
	f, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		defer f.Close()
		_, err = f.WriteString(text)
	}
	if err != nil {
		s.Fatal(err)
	}
}

const (
	opened = "INFO [ssm-session-worker] [%s] [DataBackend] [pluginName=Port] Opening websocket connection"
	closed = "INFO [ssm-session-worker] [%s] Session worker closed"
)

// awake gives the binary a moment to be there and reading.
const awake = 500 * time.Millisecond

func TestLogAbsentAtTheStart(t *testing.T) {
	t.Parallel()
	s := run(t, nil, "--initial-wait-time=4s", "--idle-timeout=2s")
	time.Sleep(2 * time.Second)
	s.line(opened, "late")
	s.runsAt(6 * time.Second) // beyond the initial wait: the session was seen
	s.line(closed, "late")
	s.ends(7500*time.Millisecond, 8*time.Second+slack, 0)
}

func TestLogRotatedAndTruncated(t *testing.T) {
	t.Parallel()
	s, start := prepare(t)
	s.line("INFO [amazon-ssm-agent] amazon-ssm-agent - v3.2.1705.0")
	start(nil, "--initial-wait-time=3s", "--idle-timeout=2s")
	time.Sleep(awake)
	s.line(opened, "first")
	time.Sleep(awake)
	if err := os.Rename(s.log, s.log+".1"); err != nil {
		t.Fatal(err)
	}
	s.line(closed, "first") // in the new file
	s.line(opened, "second")
	time.Sleep(2 * time.Second)
	if err := os.Truncate(s.log, 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	s.line(closed, "second")
	s.runsAt(time.Since(s.started) + 1500*time.Millisecond)
	s.ends(6*time.Second, 7*time.Second+slack, 0)
}

func TestPartialLines(t *testing.T) {
	t.Parallel()
	s := run(t, nil, "--initial-wait-time=3s", "--idle-timeout=2s")
	time.Sleep(awake)
	s.line(opened, "one")
	s.raw("2023-11-17 07:09:48 INFO [ssm-session-worker] [one] Session wor")
	time.Sleep(2 * time.Second)
	s.raw("ker closed\n")
	time.Sleep(awake)
	s.line(opened, "two")
	s.runsAt(6 * time.Second)
	s.raw("2023-11-17 07:09:48 info [ssm-session-worker] [two] session WORKER closed") // no newline ever
	s.ends(7500*time.Millisecond, 10*time.Second+slack, 0)
}

// TestWorkerGoneUnlogged: a session whose process is gone is over even though the log never says so.
func TestWorkerGoneUnlogged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: without namespaces workers belong to everybody")
	}
	t.Parallel()
	s := run(t, nil, "--initial-wait-time=3s", "--idle-timeout=2s")
	worker, err := s.Worker("/managed-agents/execute-command/ssm-session-worker", "crashed")
	if err != nil {
		t.Fatal(err)
	}
	s.line(opened, "crashed")
	s.runsAt(6 * time.Second)
	worker.Kill()
	s.ends(8*time.Second, 8*time.Second+slack, 0)
}

// TestWorkerWithoutLog: a session whose process exists is active even if there is no log at all.
func TestWorkerWithoutLog(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: without namespaces workers belong to everybody")
	}
	t.Parallel()
	s := run(t, nil, "--initial-wait-time=3s", "--idle-timeout=2s")
	worker, err := s.Worker("/managed-agents/execute-command/ssm-session-worker", "unlogged")
	if err != nil {
		t.Fatal(err)
	}
	s.runsAt(6 * time.Second)
	worker.Kill()
	s.ends(7500*time.Millisecond, 8*time.Second+slack, 0)
}

func TestSIGINTEndsAsIdleDoes(t *testing.T) {
	t.Parallel()
	s := run(t, nil)
	s.runsAt(awake)
	if err := s.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.ends(awake, awake+slack, 0)
}

func TestSIGTERMForwarded(t *testing.T) {
	t.Parallel()
	s := run(t, nil, "--", "/dummy", "term=5", "wait")
	s.runsAt(awake)
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(awake, awake+slack, 5)
	s.wantOutput("terminated")
}

func TestStubbornCommandIsKilled(t *testing.T) {
	t.Parallel()
	s := run(t, []string{"FUMIDAI_STOP_GRACE=1s"}, "--", "/dummy", "ignore", "wait")
	s.runsAt(awake)
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.ends(awake+time.Second, awake+time.Second+slack, 137)
}

func TestOutsideECSItWrapsAndEnds(t *testing.T) {
	t.Parallel()
	s := run(t, []string{"ECS_TST_STOP_TASK=true", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO=true", "FUMIDAI_END_DEADLINE=3s"}, "/dummy", "sleep=1s", "exit=3")
	s.ends(time.Second, 5*time.Second+slack, 3)
}

func TestKeepAliveOutlivesItsCommand(t *testing.T) {
	t.Parallel()
	s := run(t, nil, "--keep-alive-task", "--initial-wait-time=3s", "--", "/dummy", "exit=3")
	s.runsAt(2 * time.Second)
	s.ends(3*time.Second, 3*time.Second+slack, 0)
}
