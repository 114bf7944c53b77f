package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fumidai/tests/emulator/ecs"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/tools"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// This file is about ecsta, and AWS's client under it.

// ecsta is one version of it, at a site.
type ecsta struct {
	*site
	version string
	path    string
	env     []string
}

// newEcsta finds a version. It reaches the emulator by AWS_ENDPOINT_URL, or under AWS's own names through a proxy.
func (s *site) newEcsta(version string, proxy bool) *ecsta {
	s.Helper()
	e := &ecsta{site: s, version: version, path: tools.Path(s.T, "ecsta-"+version)}
	home := s.TempDir() // ecsta finds the plugin in PATH
	s.must(os.Symlink(tools.Path(s.T, "session-manager-plugin"), filepath.Join(home, "session-manager-plugin")))
	e.env = append([]string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + home + ":" + os.Getenv("PATH")}, s.ToolEnv(proxy)...)
	return e
}

func (e *ecsta) command(c context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c, e.path, append([]string{"--cluster", cluster, "--region", e.Region, "--output", "json"}, args...)...)
	cmd.Env = e.env
	return cmd
}

// lostAnswer is what the versions of 2023 say of some answers on a busy machine (edge's leastLatency has the reason).
const lostAnswer = "use of closed network connection"

func (e *ecsta) run(args ...string) string {
	e.Helper()
	for try := 1; ; try++ {
		limited, cancel := context.WithTimeout(ctx, 20*time.Second)
		cmd := e.command(limited, args...)
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		err := cmd.Run()
		cancel()
		if err == nil {
			return out.String()
		}
		if try == 5 || !strings.Contains(said.String(), lostAnswer) {
			e.Fatalf("ecsta %q: %v: %s%s", args, err, &out, &said)
		}
	}
}

// forwarding is a running `ecsta portforward`.
type forwarding struct {
	*ecsta
	cmd    *exec.Cmd
	port   string
	exited chan struct{}

	mu   sync.Mutex
	said bytes.Buffer
}

func (f *forwarding) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.Write(p)
}

func (f *forwarding) output() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.String()
}

// wait waits until the plugin or ecsta has said something.
func (f *forwarding) wait(text string, limit time.Duration) {
	f.Helper()
	if !f.says(text, limit) {
		f.Fatalf("not said within %v: %q, but: %s", limit, text, f.output())
	}
}

func (f *forwarding) says(text string, limit time.Duration) bool {
	late := time.After(limit)
	for !strings.Contains(f.output(), text) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-f.exited:
			return strings.Contains(f.output(), text)
		case <-late:
			return false
		}
	}
	return true
}

func (e *ecsta) forward(args ...string) *forwarding {
	e.Helper()
	args = append([]string{"portforward", "--id", e.task.ID(), "--local-port", "0"}, args...)
	f := e.startForward(args)
	for try := 1; !f.says("Waiting for connections...", 15*time.Second); try++ {
		if try == 5 || !strings.Contains(f.output(), lostAnswer) {
			f.Fatalf("ecsta %q says %s", args, f.output())
		}
		f = e.startForward(args)
	}
	_, rest, _ := strings.Cut(f.output(), "Port ")
	f.port, _, _ = strings.Cut(rest, " ")
	return f
}

func (e *ecsta) startForward(args []string) *forwarding {
	e.Helper()
	f := &forwarding{ecsta: e, cmd: e.command(ctx, args...), exited: make(chan struct{})}
	f.cmd.Stdout, f.cmd.Stderr = f, f
	e.must(f.cmd.Start())
	e.Cleanup(func() {
		_ = f.cmd.Process.Kill() // its terminal closes, and the plugin ends with it
		<-f.exited
	})
	go func() {
		_ = f.cmd.Wait()
		close(f.exited)
	}()
	return f
}

func (f *forwarding) dial() net.Conn {
	f.Helper()
	c, err := net.DialTimeout("tcp", "localhost:"+f.port, 5*time.Second)
	f.must(err)
	f.Cleanup(func() { _ = c.Close() })
	f.inTime(10*time.Second, "the server's first word", func() error { return await(c) })
	return c
}

func (f *forwarding) ended(limit time.Duration) {
	f.Helper()
	select {
	case <-f.exited:
	case <-time.After(limit):
		f.Fatalf("after %v it still runs, and has said %s", limit, f.output())
	}
}

// The article's version and newer ones, each reaching the emulator both ways (0.4.1 knows no AWS_ENDPOINT_URL).
func TestEcsta(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.4.1", "0.4.3", "0.8.2"} {
		for way, proxy := range map[string]bool{"endpoint": false, "proxy": true} {
			if version == "0.4.1" && !proxy {
				continue
			}
			t.Run(version+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, map[string]string{"FUMIDAI_STOP_TIMEOUT": "7s"}) // sessions get 2 s of it
				if s.task == nil {
					t.Skip("the reference agent is not a task")
				}
				e := s.newEcsta(version, proxy)
				e.testInquiry()
				e.testForward("AWS-StartPortForwardingSessionToRemoteHost", "--remote-host", e.remote.host, "--remote-port", e.remote.port)
				e.testForward("AWS-StartPortForwardingSession", "--remote-port", e.fixed)
				e.testLogs()
				e.testStop()
				e.wantNothingMissing()
			})
		}
	}
}

func (e *ecsta) testInquiry() {
	type task struct {
		TaskArn, LastStatus string
		Containers          []struct{ Name, RuntimeId string }
	}
	for _, args := range [][]string{{"list"}, {"list", "--service", family}, {"list", "--family", family}, {"describe", "--id", e.task.ID()}} {
		answer := json.NewDecoder(strings.NewReader(e.run(args...))) // objects, one after the other
		var got []task
		for {
			var one task
			err := answer.Decode(&one)
			if errors.Is(err, io.EOF) {
				break
			}
			e.must(err)
			got = append(got, one)
		}
		state := e.task.State()
		if len(got) != 1 || got[0].TaskArn != e.task.ARN() || got[0].LastStatus != "RUNNING" || len(got[0].Containers) != 1 ||
			got[0].Containers[0].RuntimeId != *state.Containers[0].RuntimeId {
			e.Errorf("ecsta %q: %+v", args, got)
		}
	}
	if out := e.run("list", "--family", "another"); strings.TrimSpace(out) != "" {
		e.Errorf("of another family there are %s", out)
	}
}

// A tunnel as a person makes one, ended with Ctrl-C.
func (e *ecsta) testForward(document string, args ...string) {
	e.Helper()
	f := e.forward(args...)
	f.wait("Reached ", 5*time.Second) // the relay's banner
	e.wantLatestEnd(f.output())
	c := f.dial()
	f.inTime(20*time.Second, "100 kB up, 2 MB down", func() error { return ask(c, 100_000, 2_000_000, 0x100) })
	s := e.session()
	if st := s.Stats(); st.Document != document {
		e.Errorf("a session of %s, want %s", st.Document, document)
	}
	e.must(f.cmd.Process.Signal(os.Interrupt))
	f.ended(8 * time.Second)
	if e.stopsPlugin() {
		e.inTime(5*time.Second, "the session's end", func() error {
			for !s.Ended() {
				time.Sleep(10 * time.Millisecond)
			}
			return nil
		})
	}
}

// wantLatestEnd checks the time the banner gives: the end of the task's life, not of a wait that is over with this session.
func (e *ecsta) wantLatestEnd(said string) {
	e.Helper()
	_, rest, _ := strings.Cut(said, "at the latest at ")
	text, _, _ := strings.Cut(rest, "Z.")
	told, err := time.Parse(time.RFC3339, text+"Z")
	if want := e.task.State().StartedAt.Add(24 * time.Hour); err != nil || told.Sub(want).Abs() > time.Minute {
		e.Errorf("the banner gives %q, want about %v: %v", text, want, err)
	}
}

// stopsPlugin tells whether this version asks the plugin to end, which then ends the session; older ones kill it.
func (e *ecsta) stopsPlugin() bool { return e.version > "0.5" }

// session is the newest one.
func (e *ecsta) session() *gateway.Session {
	all := e.Gateway.Sessions(e.target)
	newest := all[0]
	for _, s := range all {
		if !s.Ended() && s.Attached("client") {
			newest = s
		}
	}
	return newest
}

func (e *ecsta) testLogs() {
	out := e.run("logs", "--id", e.task.ID(), "--duration", "10m")
	out = strings.ReplaceAll(out, `\"`, `"`) // newer versions put each line into an object
	want := []string{"ecs-task-self-terminator", `"msg":"control channel is open"`, `"document":"AWS-StartPortForwardingSessionToRemoteHost"`,
		`"document":"AWS-StartPortForwardingSession"`}
	if e.stopsPlugin() {
		want = append(want, `"bytes_to_target":100020,"bytes_to_client":2000042`)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			e.Errorf("no %s in the log:\n%s", w, out)
		}
	}
}

// The task is stopped while somebody uses it: they are told so, and lose nothing that was under way within the time there is.
func (e *ecsta) testStop() {
	f := e.forward("--remote-host", e.remote.host, "--remote-port", e.remote.port)
	c, session := f.dial(), e.session()
	e.run("stop", "--id", e.task.ID(), "--force")
	e.inTime(5*time.Second, "SIGTERM", func() error {
		for !strings.Contains(e.task.Output(), "no new sessions") {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	e.inTime(5*time.Second, "what was under way", func() error { return ask(c, 1000, 300_000, 0x200) })
	f.ended(15 * time.Second)
	// The plugin prints it; but ecsta does not always read what the plugin says last.
	if got := session.Stats().Output; got != "the task ends: ECS is stopping this task" {
		e.Errorf("the user was told %q, ecsta said %s", got, f.output())
	}
	e.stopped(e.task, 10*time.Second)
	state := e.task.State()
	if state.StopCode != types.TaskStopCodeUserInitiated || !strings.Contains(aws.ToString(state.StoppedReason), "user action") ||
		aws.ToInt32(state.Containers[0].ExitCode) != 0 {
		e.Errorf("stopped by %s: %q, exit status %d", state.StopCode, aws.ToString(state.StoppedReason), aws.ToInt32(state.Containers[0].ExitCode))
	}
	// The service puts another in its place, as ECS does: nothing has asked for fewer.
	if !e.ECS.Until(10*time.Second, func() bool { return len(e.ECS.Tasks(ecs.InService(family))) == 2 }) {
		e.Error("the service has no new task")
	}
}

// wantNothingMissing checks that the emulator knew all that it was asked.
func (e *ecsta) wantNothingMissing() {
	for _, r := range e.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Status >= 400 }) {
		e.Errorf("%s %s: %d %s", r.Service, r.Action, r.Status, r.Error)
	}
}
