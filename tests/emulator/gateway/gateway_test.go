package gateway_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/gateway/agenttest"
	"fumidai/tests/emulator/stream"
	"fumidai/tests/emulator/websocket"
)

const target = "ecs:default_0123456789abcdef0123456789abcdef_0123456789abcdef0123456789abcdef-1234567890"

// world is an emulator, an agent, and what they forward to.
type world struct {
	t     testing.TB
	emu   *emulator.Emulator
	gw    *gateway.Gateway
	api   *client.API
	agent *agenttest.Agent
	ctx   context.Context
	role  aws.Credentials
}

func newWorld(t testing.TB, adjust ...func(*agenttest.Options)) *world {
	t.Helper()
	w := newEmptyWorld(t)
	w.startAgent(w.ctx, adjust...)
	if err := w.gw.WaitConnected(target, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	return w
}

func newEmptyWorld(t testing.TB) *world {
	t.Helper()
	level := slog.LevelWarn
	if os.Getenv("GATEWAY_LOG") != "" {
		level = slog.LevelDebug
	}
	emu, err := emulator.Start(emulator.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		emu.Close()
	})
	w := &world{t: t, emu: emu, gw: emu.Gateway, ctx: ctx}
	w.api = &client.API{URL: "http://" + emu.Addr(), Region: emu.Region,
		Credentials: aws.Credentials{AccessKeyID: emulator.AccessKeyID, SecretAccessKey: emulator.SecretAccessKey}}
	key := emu.Edge.Keys.Temporary(edge.Principal{ARN: "arn:aws:sts::123456789012:assumed-role/task/0123456789abcdef"}, time.Now().Add(time.Hour))
	w.role = aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.Token}
	w.gw.Set(func(s *gateway.Settings) { s.Limit.Lifted = true })
	return w
}

func (w *world) startAgent(ctx context.Context, adjust ...func(*agenttest.Options)) {
	signer := client.API{Region: w.emu.Region, Credentials: w.role}
	o := agenttest.Options{BaseURL: "http://" + w.emu.Addr(), Target: target,
		Sign: func(r *http.Request, body []byte) { _ = signer.Sign(r, body, "ssmmessages") }}
	for _, f := range adjust {
		f(&o)
	}
	w.agent = agenttest.Start(ctx, o)
}

// open starts a session to a local port and opens it.
func (w *world) open(port string, adjust ...func(*client.Options)) *client.Client {
	w.t.Helper()
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSessionToRemoteHost",
		map[string][]string{"host": {"127.0.0.1"}, "portNumber": {port}, "localPortNumber": {"0"}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range adjust {
		f(&o)
	}
	c, err := client.Open(w.ctx, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// settled asserts that nobody broke the protocol.
func (w *world) settled() {
	w.t.Helper()
	for _, s := range w.gw.Sessions("") {
		if v := s.Stats().Violations; len(v) > 0 {
			w.t.Errorf("session %s: violations: %q", s.ID, v)
		}
	}
	if v := w.gw.Target(target).Violations; len(v) > 0 {
		w.t.Errorf("control channel: violations: %q", v)
	}
}

// report tells where a transfer has got to.
func (w *world) report(c *client.Client) {
	if c != nil {
		w.t.Logf("client end: %+v, unacknowledged %d", c.End.Counters(), c.End.Unacknowledged())
	}
	for _, s := range w.agent.Sessions() {
		w.t.Logf("agent end: %+v, unacknowledged %d", s.End.Counters(), s.End.Unacknowledged())
	}
	for _, s := range w.gw.Sessions("") {
		w.t.Logf("gateway: %+v", s.Stats())
	}
}

// listen serves connections one function each, on loopback; it returns the port.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // a test's
				serve(c)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var s [32]byte
	s[0], s[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

// exchange sends n random bytes through a connection and expects them back unchanged.
func exchange(s io.ReadWriter, seed uint64, n int) error {
	sent := random(seed, n)
	failed := make(chan error, 1)
	go func() {
		_, err := s.Write(sent)
		failed <- err
	}()
	got := make([]byte, n)
	if _, err := io.ReadFull(s, got); err != nil {
		return fmt.Errorf("after reading: %w", err)
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if sha256.Sum256(got) != sha256.Sum256(sent) {
		return errors.New("bytes came back changed")
	}
	return nil
}

func within(t testing.TB, d time.Duration, what string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(d):
		t.Fatalf("%s: not done after %v", what, d)
	}
}

func TestSizesBothModes(t *testing.T) {
	w := newWorld(t)
	port := listen(t, echo)
	for _, version := range []string{client.DefaultVersion, "1.1.50.0"} {
		c := w.open(port, func(o *client.Options) { o.Version = version })
		if (c.Mux == nil) != (version == "1.1.50.0") || c.CustomerMessage != "reference agent" {
			t.Fatalf("version %s: multiplexed %v, message %q", version, c.Mux != nil, c.CustomerMessage)
		}
		for i, n := range []int{1, 1023, 1024, 1025, 32767, 32768, 32769, 65535, 65536, 65537, 10 << 20} {
			s, err := c.Dial()
			if err != nil {
				t.Fatal(err)
			}
			within(t, 20*time.Second, fmt.Sprintf("version %s, %d bytes", version, n), func() error { return exchange(s, uint64(i), n) })
			if c.Mux != nil {
				_ = s.Close()
			}
		}
	}
	w.settled()
}

// All the same through TLS, as the relay and the tools come.
func TestTLS(t *testing.T) {
	w := newWorld(t)
	w.api.URL, w.api.TLS = w.emu.URL(), &tls.Config{RootCAs: w.emu.Edge.CA.Pool()}
	c := w.open(listen(t, echo))
	s, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "20 MB each way", func() error { return exchange(s, 1, 20<<20) })
	w.settled()
}

func TestManyStreams(t *testing.T) {
	w := newWorld(t)
	c := w.open(listen(t, echo))
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			s, err := c.Dial()
			if err == nil {
				err = exchange(s, uint64(i), 50_000)
				_ = s.Close()
			}
			if err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		}()
	}
	within(t, 30*time.Second, "200 streams", func() error { wait.Wait(); return nil })
	w.settled()
}

func TestHalfClose(t *testing.T) {
	w := newWorld(t)
	port := listen(t, func(c net.Conn) { // answers once the question is complete
		question, _ := io.ReadAll(c)
		_, _ = fmt.Fprintf(c, "%x", sha256.Sum256(question))
	})
	c := w.open(port, func(o *client.Options) { o.HalfClose = true })
	s, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	question := random(1, 100_000)
	within(t, 10*time.Second, "the answer", func() error {
		if _, err := s.Write(question); err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		answer, err := io.ReadAll(s)
		if want := fmt.Sprintf("%x", sha256.Sum256(question)); err == nil && string(answer) != want {
			return fmt.Errorf("got %q, want %q", answer, want)
		}
		return err
	})
}

// Every fault at 1%, each alone and all together: nothing lost, nothing duplicated, no session lost.
func TestFaults(t *testing.T) {
	all := gateway.Line{LoseData: .01, LoseAcks: .01, DuplicateData: .01, DuplicateAcks: .01, ReorderData: .01, ReorderAcks: .01}
	cases := map[string]gateway.Faults{
		"lose data":              {AgentToClient: gateway.Line{LoseData: .01}, ClientToAgent: gateway.Line{LoseData: .01}},
		"lose acknowledgements":  {AgentToClient: gateway.Line{LoseAcks: .01}, ClientToAgent: gateway.Line{LoseAcks: .01}},
		"double":                 {AgentToClient: gateway.Line{DuplicateData: .01, DuplicateAcks: .01}, ClientToAgent: gateway.Line{DuplicateData: .01, DuplicateAcks: .01}},
		"reorder":                {AgentToClient: gateway.Line{ReorderData: .01, ReorderAcks: .01}, ClientToAgent: gateway.Line{ReorderData: .01, ReorderAcks: .01}},
		"delay":                  {AgentToClient: gateway.Line{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}},
		"cut the agent":          {AgentChannel: gateway.Channel{CutBytes: 400_000, CutSpread: .5}},
		"cut the client":         {ClientChannel: gateway.Channel{CutBytes: 400_000, CutSpread: .5}},
		"cut both, all together": {AgentToClient: all, ClientToAgent: all, AgentChannel: gateway.Channel{CutBytes: 1_000_000}, ClientChannel: gateway.Channel{CutBytes: 1_000_000}},
		"the hourly close":       {AgentChannel: gateway.Channel{Bye: 200 * time.Millisecond}, ClientChannel: gateway.Channel{Bye: 300 * time.Millisecond}},
		"stalls":                 {AgentChannel: gateway.Channel{StallEvery: 300_000, StallFor: 50 * time.Millisecond}, ClientChannel: gateway.Channel{StallEvery: 300_000, StallFor: 50 * time.Millisecond}},
		"expired tokens":         {ExpireTokens: .5, AgentChannel: gateway.Channel{CutBytes: 1_000_000}, ClientChannel: gateway.Channel{CutBytes: 1_000_000}},
	}
	for name, faults := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.open(listen(t, echo))
			faults.Seed = 7
			w.gw.SetFaults(faults)
			began := time.Now()
			for i := 0; i < 3 || time.Since(began) < time.Second; i++ {
				s, err := c.Dial()
				if err != nil {
					t.Fatal(err)
				}
				stuck := time.AfterFunc(10*time.Second, func() { w.report(c) })
				within(t, 20*time.Second, "3 MB each way", func() error { return exchange(s, uint64(i), 3<<20) })
				stuck.Stop()
				_ = s.Close()
			}
			st := w.gw.Sessions("")[0].Stats()
			t.Logf("agent %+v", st.Agent)
			t.Logf("client %+v", st.Client)
			hit := st.Agent.Lost + st.Agent.Duplicated + st.Agent.Reordered + st.Client.Lost + int64(st.Agent.Opened+st.Client.Opened-2)
			if hit == 0 && name != "delay" && name != "stalls" && name != "expired tokens" {
				t.Error("the fault has not happened")
			}
			w.settled()
		})
	}
}

func TestTokensAreUsedOnce(t *testing.T) {
	w := newWorld(t)
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	o.Resume = nil
	c, err := client.Open(w.ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := client.Open(w.ctx, o); err == nil {
		t.Error("a used token opened a data channel")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	refused := func(code string, targetID, document string, parameters map[string][]string) {
		t.Helper()
		_, err := w.api.Start(w.ctx, targetID, document, parameters)
		var e *client.APIError
		if !errors.As(err, &e) || e.Code != code || e.Status != 400 {
			t.Errorf("%s %v: got %v, want %s", document, parameters, err, code)
		}
	}
	const remote = "AWS-StartPortForwardingSessionToRemoteHost"
	refused("TargetNotConnected", "ecs:default_x_y", remote, map[string][]string{"portNumber": {"1"}})
	refused("InvalidDocument", target, "No-Such", nil)
	refused("ValidationException", target, remote, map[string][]string{"portNumber": {"0"}})
	refused("ValidationException", target, remote, map[string][]string{"portNumber": {"65536"}})
	refused("ValidationException", target, remote, map[string][]string{"portNumber": {"1", "2"}})
	refused("ValidationException", target, remote, map[string][]string{"host": {"a b;c"}})
	refused("ValidationException", target, "AWS-StartPortForwardingSession", map[string][]string{"host": {"db.internal"}})
	if got := len(w.emu.Edge.Recorder.Calls(edge.ByAction("ssm", "StartSession"))); got != 7 {
		t.Errorf("%d StartSession calls recorded", got)
	}
}

func TestStatusAndTermination(t *testing.T) {
	w := newWorld(t)
	c := w.open(listen(t, echo))
	id := w.gw.Sessions("")[0].ID
	var sessions struct{ Sessions []map[string]any }
	if err := w.api.Call(w.ctx, "DescribeSessions", map[string]any{"State": "Active"}, &sessions); err != nil || len(sessions.Sessions) != 1 ||
		sessions.Sessions[0]["Status"] != "Connected" {
		t.Fatalf("DescribeSessions: %v %v", sessions, err)
	}
	var status struct{ Status string }
	for _, id := range []string{target, "ecs:default_x_y"} {
		if err := w.api.Call(w.ctx, "GetConnectionStatus", map[string]any{"Target": id}, &status); err != nil ||
			(status.Status == "connected") != (id == target) {
			t.Errorf("GetConnectionStatus: %s: %v %v", id, status, err)
		}
	}
	if err := w.api.Terminate(w.ctx, id); err != nil {
		t.Fatal(err)
	}
	<-c.End.Done()
	within(t, 5*time.Second, "agent_task_complete", func() error {
		for w.gw.Session(id).Status() != gateway.Terminated {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	if token, err := w.api.Resume(w.ctx, id); token != "" || err != nil {
		t.Errorf("ResumeSession of an ended session: %q %v", token, err)
	}
	w.settled()
}

func TestReasonOfAFailureReachesTheClient(t *testing.T) {
	w := newWorld(t, func(o *agenttest.Options) {
		o.Probe = func(host, port string) error { return fmt.Errorf("no route to %s:%s, says the probe", host, port) }
	})
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {"5439"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Open(w.ctx, o)
	var closed *stream.ClosedError
	if err == nil || !errors.As(err, &closed) && !errors.Is(err, stream.ErrEnded) {
		t.Fatalf("got %v", err)
	}
	if st := w.gw.Sessions("")[0].Stats(); st.Status != gateway.Failed || st.Output != "no route to localhost:5439, says the probe" {
		t.Errorf("session %+v", st)
	}
}

func TestIdleSessionEnds(t *testing.T) {
	w := newWorld(t)
	w.gw.Set(func(s *gateway.Settings) { s.IdleTimeout = 300 * time.Millisecond })
	c := w.open(listen(t, echo))
	s, _ := c.Dial()
	for range 5 { // activity keeps it alive
		time.Sleep(100 * time.Millisecond)
		if err := exchange(s, 1, 10); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	<-c.End.Done()
	var closed *stream.ClosedError
	if d := time.Since(began); d < 250*time.Millisecond || d > 2*time.Second || !errors.As(c.End.Err(), &closed) ||
		!strings.Contains(closed.Output, "timed out") {
		t.Errorf("ended after %v: %v", d, c.End.Err())
	}
}

func TestSecondControlChannelReplacesTheFirst(t *testing.T) {
	w := newEmptyWorld(t)
	firstCtx, endFirst := context.WithCancel(w.ctx)
	defer endFirst()
	w.startAgent(firstCtx)
	if err := w.gw.WaitConnected(target, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	w.startAgent(w.ctx)
	within(t, 5*time.Second, "the second control channel", func() error {
		for w.gw.Target(target).Opened < 2 {
			time.Sleep(time.Millisecond)
		}
		endFirst()
		return nil
	})
	time.Sleep(50 * time.Millisecond)
	if err := w.gw.WaitConnected(target, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	s, err := w.open(listen(t, echo)).Dial()
	if err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "a session", func() error { return exchange(s, 1, 1000) })
}

func TestStartMessageComesFirstAndTwice(t *testing.T) {
	w := newEmptyWorld(t)
	w.gw.Set(func(s *gateway.Settings) { s.HoldStart, s.StartCopies = 5*time.Second, 2 })
	opened := make(chan *client.Client)
	port := listen(t, echo)
	go func() { opened <- w.open(port) }()
	time.Sleep(50 * time.Millisecond)
	w.startAgent(w.ctx)
	c := <-opened
	s, _ := c.Dial()
	within(t, 5*time.Second, "a session", func() error { return exchange(s, 1, 1000) })
	if n := len(w.agent.Sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestRestart(t *testing.T) {
	w := newWorld(t)
	c := w.open(listen(t, echo))
	s, _ := c.Dial()
	done := make(chan error, 1)
	go func() { done <- exchange(s, 1, 100<<20) }()
	for range 3 {
		time.Sleep(50 * time.Millisecond)
		w.gw.Restart(20 * time.Millisecond)
	}
	within(t, 30*time.Second, "100 MB across restarts", func() error { return <-done })
	if st := w.gw.Sessions("")[0].Stats(); st.Agent.Opened < 2 || st.Client.Opened < 2 {
		t.Errorf("restarts not noticed: %+v", st)
	}
	if err := w.gw.WaitConnected(target, 10*time.Second); err != nil {
		t.Error(err)
	}
	w.settled()
}

// The service's rate limit: an end that keeps to it is never cut off, one that does not is, and recovers.
func TestRateLimit(t *testing.T) {
	run := func(agentPace, clientPace, size int) gateway.SessionStats {
		bulk := func(c net.Conn) { _, _ = io.Copy(c, bytes.NewReader(random(3, size))) }
		w := newWorld(t, func(o *agenttest.Options) { o.Stream.MaxPerWindow = agentPace })
		w.gw.Set(func(s *gateway.Settings) { s.Limit.Lifted = false })
		c := w.open(listen(t, bulk), func(o *client.Options) { o.Stream.MaxPerWindow = clientPace })
		s, _ := c.Dial()
		within(t, 30*time.Second, "the transfer", func() error {
			got, err := io.ReadAll(s)
			if err == nil && !bytes.Equal(got, random(3, size)) {
				err = fmt.Errorf("%d bytes, not those sent", len(got))
			}
			return err
		})
		w.settled()
		return w.gw.Sessions("")[0].Stats()
	}
	t.Run("kept", func(t *testing.T) {
		st := run(1900, 1900, 6<<20)
		if st.Agent.CutOffs != 0 || st.Agent.MostInWindow > 1900 || st.Agent.MostInWindow < 1500 {
			t.Errorf("%+v", st.Agent)
		}
	})
	t.Run("exceeded", func(t *testing.T) {
		st := run(0, 0, 100<<20)
		if st.Agent.CutOffs == 0 || st.Agent.Pauses == 0 || st.Agent.Opened < 2 || st.Agent.MostInWindow <= 2000 {
			t.Errorf("%+v", st.Agent)
		}
	})
}

// What start_publication, pause_publication and channel_closed look like is a pitfall of its own.
func TestServiceMessagesAreAsOdd(t *testing.T) {
	w := newWorld(t)
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {"1"}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := websocket.Dial(w.ctx, o.StreamURL, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Abort()
	_ = conn.Send(websocket.Text, fmt.Appendf(nil, `{"MessageSchemaVersion":"1.0","RequestId":%q,"TokenValue":%q,"ClientId":%q,"ClientVersion":"1.2.3.0"}`,
		agentmsg.NewUUID(), o.Token, agentmsg.NewUUID()))
	seen := map[string]bool{}
	terminate := sync.OnceFunc(func() { _ = w.api.Terminate(w.ctx, o.SessionID) })
	for !seen[agentmsg.ChannelClosed] {
		_, b, err := conn.Next()
		if err != nil {
			t.Fatalf("%v; seen %v", err, seen)
		}
		m, err := agentmsg.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		seen[m.Type] = true
		switch m.Type {
		case agentmsg.StartPublication, agentmsg.PausePublication:
			if agentmsg.Check(b) == nil {
				t.Errorf("%s has the right length and digest", m.Type)
			}
		case agentmsg.ChannelClosed:
			if m.PayloadType != 261 {
				t.Errorf("channel_closed: payload type %d", m.PayloadType)
			}
		}
		if seen[agentmsg.StartPublication] && !seen[agentmsg.PausePublication] {
			w.gw.Sessions("")[0].Cut("agent")
		} else if seen[agentmsg.PausePublication] {
			terminate()
		}
	}
	if !seen[agentmsg.StartPublication] || !seen[agentmsg.PausePublication] {
		t.Errorf("seen %v", seen)
	}
}
