package e2e

import (
	be "encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/proxy"
)

// Sessions in which nothing moves.

// A query that says nothing for longer than the service waits.
func TestQuietSessionIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string]string{"FUMIDAI_KEEP_ALIVE": "1s"})
	s.Gateway.Set(func(g *gateway.Settings) { g.IdleTimeout = 4 * time.Second })
	d := s.open(way{where: "remote"})
	c, err := d.dial()
	s.must(err)
	time.Sleep(8 * time.Second)
	if d.session.Stats().Status != "Connected" {
		t.Fatalf("the session ended: %+v", d.session.Stats())
	}
	_ = c.Close()
	ended := s.eventually("the end of a session without connections", 10*time.Second, func() bool { return d.session.Stats().Status != "Connected" })
	s.within("a session without connections ended", ended, 2*time.Second, 8*time.Second)
}

// Without FUMIDAI_KEEP_ALIVE it ends, and the log says what helps.
func TestQuietSessionEndsAndIsExplained(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.Gateway.Set(func(g *gateway.Settings) { g.IdleTimeout = 61 * time.Second })
	d := s.open(way{where: "remote"})
	_, err := d.dial()
	s.must(err)
	s.eventually("the end", 75*time.Second, func() bool { return len(s.events("session ended")) == 1 })
	s.event("the service ended a session in which nothing moved; FUMIDAI_KEEP_ALIVE keeps such sessions",
		map[string]any{"session": d.session.ID})
}

// A proxy that cuts what has been quiet for less than the 54 s between two pings: after two cuts of each connection none is left.
func TestQuietTunnelsAreCutByAProxy(t *testing.T) {
	const quiet = 8 * time.Second
	s := isolated(t, map[string]string{"NO_PROXY": "169.254.170.2"}, func(s *site, env map[string]string) {
		through, at := s.connectProxy()
		through.Fail(proxy.Fault{Quiet: quiet})
		env["HTTPS_PROXY"] = "http://" + net.JoinHostPort(at.host, at.port)
	})
	d := s.open(way{where: "remote"})
	c, err := s.connect(d)
	s.must(err)
	const line = "quiet connections are cut on the way: pinging sooner"
	s.eventually("both channels to learn it", 60*time.Second, func() bool { return len(s.events(line)) == 2 })
	s.event(line, map[string]any{"channel": "control"})
	s.event(line, map[string]any{"channel": d.session.ID})
	s.eventually("both channels to be back", 10*time.Second, func() bool {
		return s.Gateway.Connected(s.target) && d.session.Attached("agent")
	})
	lost := func() int {
		return len(s.events("control channel is down, trying again")) + len(s.events("data channel lost, connecting anew"))
	}
	before := lost()
	time.Sleep(3 * quiet)
	if lost() != before || before != 4 {
		t.Errorf("%d connections were lost, then %d, want 4", before, lost())
	}
	s.must(ask(c, 1000, 3000, 0x100))
}

// Old clients close their multiplexer when nothing comes for 30 s; newer ones need nothing.
func TestQuietOldClientsGetNOPs(t *testing.T) {
	t.Parallel()
	wants := map[string]bool{"1.1.70.0": true, "1.2.312.0": true, "1.2.331.0": true, "1.2.339.0": false, "1.2.804.0": false}
	s := newSite(t, nil)
	sessions, before := map[string]*dialer{}, map[string]int64{}
	for version := range wants {
		sessions[version] = s.open(way{where: "remote"}, func(o *client.Options) { o.Version = version })
		s.converse(sessions[version])
	}
	time.Sleep(time.Second)
	for version, d := range sessions {
		before[version] = d.session.Stats().Agent.StreamData
	}
	time.Sleep(12 * time.Second)
	for version, d := range sessions {
		if got := d.session.Stats().Agent.StreamData > before[version]; got != wants[version] {
			t.Errorf("client %s: got NOPs: %v, want %v", version, got, wants[version])
		}
	}
}

// goneTask is a task whose client has died without a word, with a connection open to a target that goes on sending, or before
// it opened any (its local port was taken). It returns the session and when the client was last there.
func goneTask(s *site, connected bool) (session *gateway.Session, gone time.Time) {
	s.Helper()
	r := s.raw(s.remote, nil)
	s.must(r.WaitReady(10 * time.Second))
	if connected {
		var header [20]byte
		be.BigEndian.PutUint64(header[8:], 100_000)
		openStreams(r, 1, string(header[:]))
		s.eventually("the target's bytes", 5*time.Second, func() bool { _, n := r.Received(); return n > 10_000 })
	}
	r.Close()
	return s.Gateway.Session(r.SessionID), time.Now()
}

// A client that died without a word, or whose local port was taken: the service ends its session, keep-alive or not. The
// task's idle time begins then, or with the last connection, or with the last byte.
func TestQuietDeadClients(t *testing.T) {
	const serviceIdle, idle = 5 * time.Second, 2 * time.Second
	for _, test := range []struct {
		by        string
		connected bool
		least     time.Duration
	}{
		{"session", false, serviceIdle + idle}, {"session", true, serviceIdle + idle},
		{"stream", false, idle}, {"stream", true, serviceIdle + idle},
		{"bytes", false, idle}, {"bytes", true, idle},
	} {
		t.Run(fmt.Sprintf("%s, connected %v", test.by, test.connected), func(t *testing.T) {
			s := isolated(t, map[string]string{"FUMIDAI_IDLE_BY": test.by, "FUMIDAI_KEEP_ALIVE": "1s", "ECS_TST_INITIAL_WAIT_TIME": "3s",
				"ECS_TST_IDLE_TIMEOUT": fmt.Sprint(idle)})
			s.Gateway.Set(func(g *gateway.Settings) { g.IdleTimeout = serviceIdle })
			_, gone := goneTask(s, test.connected)
			s.stopped(s.task, 20*time.Second)
			s.within("ended", s.task.State().StoppingAt.Sub(gone), test.least-time.Second, test.least+3*time.Second+slack)
			s.wantEnded(family, 0)
		})
	}
}

// The same where the service does not say that the client has gone, and counts all that an agent sends as activity, resends
// included: after two minutes of silence nothing is resent any more.
func TestQuietDeadClientWithoutPauses(t *testing.T) {
	for _, connected := range []bool{false, true} {
		t.Run(fmt.Sprintf("connected %v", connected), func(t *testing.T) {
			if testing.Short() {
				t.Skip("two minutes")
			}
			s := isolated(t, map[string]string{"FUMIDAI_KEEP_ALIVE": "1s"})
			s.Gateway.Set(func(g *gateway.Settings) { g.IdleTimeout, g.NoPublication = 10*time.Second, true })
			session, gone := goneTask(s, connected)
			s.eventually("the session's end", 150*time.Second, session.Ended)
			t.Logf("ended after %v", time.Since(gone).Round(time.Second))
		})
	}
}

// What the client had not acknowledged arrives when it comes back after that time.
func TestQuietClientComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("two minutes")
	}
	t.Parallel()
	s := newSite(t, nil)
	s.Gateway.Set(func(g *gateway.Settings) { g.NoPublication = true })
	d := s.open(way{where: "remote"})
	c, err := s.connect(d)
	s.must(err)
	d.session.Stall("client", true)
	done := make(chan error, 1)
	go func() { done <- ask(c, 1000, 3_000_000, 0x100) }()
	time.Sleep(125 * time.Second)
	d.session.Stall("client", false)
	s.inTime(20*time.Second, "the rest", func() error { return <-done })
}
