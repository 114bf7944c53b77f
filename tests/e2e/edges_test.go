package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"

	"golang.org/x/sys/unix"
)

// What peers at the relay's edges can do to everybody's sessions: the gateway's connections that are closed at once, floods on
// the control channel, targets that are closed and go on sending, fixed relays between two fast ends, descriptors.

// A data channel that is closed as soon as it opens, every time: it is not reopened 50 times a second, and it works again once
// the gateway does.
func TestEdgeDataChannelIsClosedAsItOpens(t *testing.T) {
	s := isolated(t, nil)
	d := s.open(way{where: "remote"})
	c, err := s.connect(d)
	s.must(err)
	s.must(ask(c, 1000, 1000, 1))
	opened := d.session.Stats().Agent.Opened
	s.Gateway.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Bye: time.Millisecond}})
	time.Sleep(10 * time.Second)
	// Windows of 100 ms, doubling up to 5 s: eight or so on the average.
	if n := d.session.Stats().Agent.Opened - opened; n < 3 || n > 30 {
		t.Errorf("%d connections in 10 s, want about 8", n)
	}
	s.Gateway.SetFaults(gateway.Faults{})
	s.inTime(20*time.Second, "a transfer afterwards", func() error { return ask(c, 1_000_000, 1_000_000, 2) })
}

// And when that goes on for two minutes the session is over, its user learns why, and the task idles out.
func TestEdgeDataChannelNeverWorksAgain(t *testing.T) {
	s := isolated(t, map[string]string{"ECS_TST_IDLE_TIMEOUT": "3s"})
	d := s.open(way{where: "remote"})
	s.converse(d)
	time.Sleep(time.Second) // what the first connection has carried is acknowledged on it
	s.Gateway.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Bye: time.Millisecond}})
	took := s.eventually("the end of the session", 150*time.Second, func() bool { return len(s.events("session ended")) == 1 })
	s.within("the session ended", took, 115*time.Second, 130*time.Second)
	s.eventually("the reason", 5*time.Second, func() bool {
		return strings.Contains(d.session.Stats().Output, "no working connection to Session Manager for 120 s")
	})
	s.stopped(s.task, 20*time.Second)
	if n := d.session.Stats().Agent.Opened; n > 120 {
		t.Errorf("%d connections in two minutes", n)
	}
}

// One unknown name, one broken TLS record, one error of the service while a data channel reconnects: none ends the session.
func TestEdgeReconnectMeetsWhatPasses(t *testing.T) {
	for name, fault := range map[string]edge.Fault{
		"500":                      {Action: "CreateDataChannel", Effect: edge.EffectError, Status: 500, Code: "InternalServerError"},
		"429":                      {Action: "CreateDataChannel", Effect: edge.EffectError, Status: 429, Code: "ThrottlingException"},
		"reset":                    {Action: "CreateDataChannel", Effect: edge.EffectResetBefore},
		"hung up on the websocket": {Action: "OpenDataChannel", Effect: edge.EffectResetBefore},
	} {
		t.Run(name, func(t *testing.T) {
			s := isolated(t, nil)
			d := s.open(way{where: "remote"})
			c, err := s.connect(d)
			s.must(err)
			fault.Service, fault.Times = "ssmmessages", 3
			s.Edge.Faults.Add(fault)
			s.Gateway.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Bye: time.Second}})
			s.inTime(30*time.Second, "a transfer meanwhile", func() error { return ask(c, 2_000_000, 2_000_000, 3) })
			s.eventually("a new connection", 20*time.Second, func() bool { return d.session.Stats().Agent.Opened > 1 })
			s.must(ask(c, 1000, 1000, 4))
		})
	}
}

// And what the API refuses is final: the session ends at once, its user learns why.
func TestEdgeReconnectIsRefused(t *testing.T) {
	s := isolated(t, nil)
	d := s.open(way{where: "remote"})
	s.Edge.Faults.Add(edge.Fault{Service: "ssmmessages", Action: "CreateDataChannel", Effect: edge.EffectError, Status: 400,
		Code: "BadRequest", Message: "Session is already terminated"})
	s.Gateway.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Bye: time.Millisecond}})
	s.eventually("the end", 5*time.Second, func() bool { return len(s.events("session ended")) == 1 })
	s.eventually("the reason", 5*time.Second, func() bool {
		return strings.Contains(d.session.Stats().Output, "Session is already terminated")
	})
}

// With 64 descriptors: sessions and streams are refused with a reason, and the control channel returns whatever they do.
func TestEdgeFewDescriptors(t *testing.T) {
	s := isolated(t, nil)
	keeper := processes(s.task.Container(0).PID())[0]
	few := unix.Rlimit{Cur: 64, Max: 64}
	s.must(unix.Prlimit(keeper, unix.RLIMIT_NOFILE, &few, nil))
	s.must(syscall.Kill(s.relay(), syscall.SIGKILL)) // the next one has the limit from the start
	s.eventually("a new relay", 20*time.Second, func() bool { return s.Gateway.Target(s.target).Opened == 2 })

	d := s.open(way{where: "remote"})
	var failed, opened int
	var dialled sync.WaitGroup
	var mu sync.Mutex
	for range 60 {
		dialled.Add(1)
		go func() {
			defer dialled.Done()
			_, err := s.connect(d)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			} else {
				opened++
			}
		}()
	}
	s.inTime(10*time.Second, "60 connections", func() error { dialled.Wait(); return nil })
	if opened < 5 || failed < 20 {
		t.Errorf("%d connections were opened, %d refused", opened, failed)
	}
	s.event("stream closed", map[string]any{"target": ""})

	// The streams' share is used up: a session that is new still finds room, until theirs is, too.
	refused := ""
	var sessions []*dialer
	for range 20 {
		o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(s.remote.host, s.remote.port))
		s.must(err)
		session := s.Gateway.Session(o.SessionID)
		sessions = append(sessions, &dialer{session: session})
		s.eventually("a connection or a refusal", 10*time.Second, func() bool {
			return session.Stats().Agent.Opened > 0 || session.Task() != nil
		})
		if task := session.Task(); task != nil {
			refused = task.Output
			break
		}
	}
	if !strings.Contains(refused, "too few free file descriptors") {
		t.Errorf("after %d sessions the next is told %q", len(sessions), refused)
	}
	for i := 3; i < 6; i++ {
		s.Gateway.CutControl(s.target)
		s.eventually("the control channel", 10*time.Second, func() bool { return s.Gateway.Target(s.target).Opened == i })
	}
	s.Gateway.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Bye: time.Millisecond}})
	time.Sleep(time.Second)
	s.Gateway.SetFaults(gateway.Faults{})
	s.Gateway.CutControl(s.target)
	s.eventually("the control channel", 10*time.Second, func() bool { return s.Gateway.Target(s.target).Opened == 6 })
	if n := len(s.events("relay is gone")); n != 1 {
		t.Errorf("%d relays were lost, want the one that was killed", n)
	}
	t.Log(fmt.Sprintf("%d connections, %d refused; %d sessions, then: %s", opened, failed, len(sessions), refused))
}

// beside measures the round trips of an honest session while something else goes on, and returns the longest.
func (s *site) beside(d *dialer, what func()) time.Duration {
	s.Helper()
	c, err := s.connect(d)
	s.must(err)
	done := make(chan struct{})
	go func() { defer close(done); what() }()
	var longest time.Duration
	for i := uint32(0); ; i++ {
		began := time.Now()
		s.inTime(20*time.Second, "a round trip", func() error { return ask(c, 10, 10, i) })
		longest = max(longest, time.Since(began))
		select {
		case <-done:
			return longest
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *site) wantOneRelay() {
	s.Helper()
	if n := len(s.events("relay is gone")); n != 0 {
		s.Errorf("%d relays were lost", n)
	}
}

// Streams that are closed while their targets send as fast as they can, and read nothing.
func TestEdgeClosedStreamsOfTargetsThatGoOn(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_MAX_MESSAGES_PER_SECOND": "900"})
	hose := s.serve(func(c net.Conn) {
		for chunk := make([]byte, 64<<10); ; {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	honest := s.open(way{where: "remote"})
	o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(hose.host, hose.port))
	s.must(err)
	c, err := client.Open(s.Context(), o)
	s.must(err)
	t.Cleanup(c.Close)
	longest := s.beside(honest, func() {
		var streams []io.ReadWriteCloser
		for range 30 {
			stream, err := c.Dial()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = stream.Write(make([]byte, 200_000))
			streams = append(streams, stream)
		}
		for _, stream := range streams {
			_ = stream.Close()
		}
		time.Sleep(6 * time.Second)
	})
	s.wantOneRelay()
	t.Logf("longest round trip of the other session: %v", longest)
	if longest > time.Second {
		t.Errorf("the other session waited for %v", longest)
	}
}

// Many streams that are closed, of targets that never close: their connections are bounded.
func TestEdgeClosedStreamsAreBounded(t *testing.T) {
	s := isolated(t, nil)
	sink := s.serve(func(c net.Conn) {
		time.Sleep(time.Minute) // neither reads nor closes
	})
	o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(sink.host, sink.port))
	s.must(err)
	c, err := client.Open(s.Context(), o)
	s.must(err)
	t.Cleanup(c.Close)
	relay, most := s.relay(), 0
	for range 15 {
		for range 200 { // far less than 1,000 at once: all are opened
			stream, err := c.Dial()
			s.must(err)
			_, err = stream.Write([]byte("x"))
			s.must(err)
			s.must(stream.Close())
		}
		time.Sleep(100 * time.Millisecond)
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", relay))
		s.must(err)
		most = max(most, len(open))
	}
	t.Logf("%d descriptors at most", most)
	if most < 1000 || most > 1024+200 {
		t.Errorf("%d descriptors, want about 1,024", most)
	}
	s.wantOneRelay()
	s.converse(s.open(way{where: "remote"}))
	s.must(c.Terminate())
	// What the log leaves out of such a flood is counted, and the session's own line has the sum.
	s.event("session ended", map[string]any{"session": o.SessionID, "streams": 3000, "bytes_to_target": 3000})
	s.eventually("each stream in the log, or counted", 5*time.Second, func() bool {
		lines := len(s.events("stream closed"))
		for _, e := range s.events("lines with one message came too fast and were left out") {
			if e["message"] == "stream closed" {
				lines += int(e["lines"].(float64))
			}
		}
		for _, e := range s.events("log lines were dropped: nobody read stderr") { // on a busy machine
			lines += int(e["lines"].(float64))
		}
		return lines >= 3000
	})
}

// 1,500 sessions that are started at once and refused: each user learns why, and so does the user of a session that ran.
func TestEdgeManyRefusedSessions(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_MAX_SESSIONS": "1"})
	ran := s.open(way{where: "remote"})
	s.converse(ran)
	ids := make(chan string, 1500)
	var starting sync.WaitGroup
	for range 50 {
		starting.Add(1)
		go func() {
			defer starting.Done()
			for range 30 {
				o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(s.remote.host, s.remote.port))
				if err != nil {
					t.Error(err)
					return
				}
				ids <- o.SessionID
			}
		}()
	}
	starting.Wait()
	close(ids)
	s.must(ran.client.Terminate())
	s.eventually("the report of the session that ran", 5*time.Second, func() bool { return ran.session.Task() != nil })
	untold := 0
	for id := range ids {
		session := s.Gateway.Session(id)
		for end := time.Now().Add(10 * time.Second); session.Task() == nil && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if task := session.Task(); task == nil || !strings.Contains(task.Output, "1 sessions are open") {
			untold++
		}
	}
	if untold > 0 {
		t.Errorf("%d of 1,500 users were not told why", untold)
	}
	if lost := s.events("the service did not acknowledge the end of a session"); len(lost) > 0 {
		t.Errorf("reports were lost: %v", lost)
	}
	s.wantOneRelay()
}

// A failover: the name's answer changes, and the next stream goes to the new address, however long the session has been open.
func TestTargetFailover(t *testing.T) {
	s := isolated(t, nil)
	says := func(word string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, word)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	old := s.serve(says("old"))
	host, err := s.VPC.Host()
	s.must(err)
	l, err := s.VPC.NS().Listen("tcp", net.JoinHostPort(host.String(), old.port))
	s.must(err)
	s.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go says("new")(c)
		}
	}()
	s.VPC.DNS.Set("failover.example", netip.MustParseAddr(old.host))
	d := s.openAt(endpoint{"failover.example", old.port})
	for _, word := range []string{"old", "old", "new", "new"} {
		if word == "new" {
			s.VPC.DNS.Set("failover.example", host)
		}
		s.inTime(5*time.Second, "the server's word", func() error {
			c, err := d.dial()
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // a test's
			said := make([]byte, len(word))
			if _, err := io.ReadFull(c, said); err != nil {
				return err
			}
			if string(said) != word {
				return fmt.Errorf("the %s server was reached, not the %s one", said, word)
			}
			return nil
		})
	}
}

// A target's host that vanishes while data is on its way to it: after two minutes the log says so, and the users' connections
// end, whatever their client. A client of ours is told why.
func TestTargetVanishes(t *testing.T) {
	if testing.Short() {
		t.Skip("two minutes")
	}
	s := isolated(t, nil)
	ns, address, err := s.VPC.Machine()
	s.must(err)
	s.Cleanup(func() { _ = ns.Close() })
	s.remote = s.serveOn(ns, address.String(), echoBytes)
	ends := make(chan error)
	ours := s.startForward("--service", family, "-L", s.remote.to("0"), "--log-level", "info").becomes()
	var clients []io.ReadWriter
	for _, w := range []way{{where: "remote"}, {plugin: true, where: "remote"}} {
		c, err := s.open(w).dial()
		s.must(err)
		clients = append(clients, c)
	}
	clients = append(clients, ours.dial(0))
	for i, c := range clients {
		s.inTime(10*time.Second, "an echo", func() error { return echo(c, "hello") })
		go func() {
			time.Sleep(time.Second)
			_, err := c.Write([]byte("into the void"))
			if err == nil {
				_, err = io.Copy(io.Discard, c)
			}
			if i == 2 && errors.Is(err, syscall.ECONNRESET) { // which says more than a proper end
				err = nil
			}
			ends <- err
		}()
	}
	s.must(ns.Unplug())
	for range clients {
		select {
		case err := <-ends:
			if err != nil {
				t.Errorf("a user's connection ended with %v, want its end", err)
			}
		case <-time.After(170 * time.Second):
			t.Fatal("a user's connection does not end")
		}
	}
	const why = "the peer's host has not answered for two minutes"
	closed := s.events("stream closed")
	for _, event := range closed {
		if event["why"] != why {
			t.Errorf("the log says %v", event)
		}
	}
	if len(closed) != len(clients) {
		t.Errorf("%d streams were closed", len(closed))
	}
	s.eventually("our client to say why", 5*time.Second, func() bool {
		ours.mu.Lock()
		defer ours.mu.Unlock()
		return strings.Contains(ours.said.String(), why)
	})
}
