package e2e

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/smux"
)

// What hostile targets, and clients that use them, do to a relay.

// rate is what a client of AWS's sends a second at most.
const rate = 900

// pour sends as fast as it can and reads nothing.
func pour(c net.Conn) {
	var zeros [64 << 10]byte
	for {
		if _, err := c.Write(zeros[:]); err != nil {
			return
		}
	}
}

// openStreams opens so many streams of a raw session, each with a first byte if it has one.
func openStreams(r *client.Raw, n int, first string) {
	var f client.Frames
	for i := range n {
		f.Add(smux.SYN, client.StreamID(i), nil)
		if first != "" {
			f.Add(smux.PSH, client.StreamID(i), []byte(first))
		}
	}
	sendAll(r, f.Payloads, rate)
}

// sendAll sends payloads in order, so many a second.
func sendAll(r *client.Raw, payloads [][]byte, perSecond int) {
	pace := newPace(perSecond)
	for _, p := range payloads {
		pace.wait()
		r.Send(agentmsg.Output, p)
	}
}

// Streams that are closed while their targets send as fast as they can: what comes is still read, to be dropped.
func TestHostileClosedStreamsOfTargetsThatSend(t *testing.T) {
	s := smallest(t, nil)
	b := s.honestly()
	r := s.raw(s.serve(pour), nil)
	s.must(r.WaitReady(10 * time.Second))
	openStreams(r, 30, "")
	time.Sleep(time.Second)
	var f client.Frames
	for i := range 30 {
		f.Add(smux.FIN, client.StreamID(i), nil)
	}
	sendAll(r, f.Payloads, rate)
	time.Sleep(6 * time.Second)
	b.ended()
	b.leave(r)
	b.settled(10 * time.Second)
}

// Nobody is hostile: a large transfer between two fast ends through a fixed forward.
func TestHostileFixedForward(t *testing.T) {
	var sink endpoint
	s := smallest(t, nil, func(s *site, env map[string]string) {
		sink = s.serve(pour)
		env["FUMIDAI_LISTEN"] += ",15440=" + net.JoinHostPort(sink.host, sink.port)
	})
	b := s.honestly()
	ns, err := fargate.NetNSOf(s.task.Container(0).PID())
	s.must(err)
	defer ns.Close() //nolint:errcheck // a test's
	c, err := ns.Dial("tcp", "127.0.0.1:15440")
	s.must(err)
	var moved atomic.Int64
	go func() {
		buffer := make([]byte, 256<<10)
		for {
			n, err := c.Read(buffer)
			if moved.Add(int64(n)); err != nil {
				return
			}
		}
	}()
	limit := 8 * time.Second
	if long {
		limit = 30 * time.Second
	}
	time.Sleep(limit)
	rate := float64(moved.Load()) / 1e6 / limit.Seconds()
	t.Logf("%.0f MB/s through the fixed forward", rate)
	if rate < 20 {
		t.Errorf("only %.0f MB/s passed", rate)
	}
	b.ended()
	_ = c.Close()
	b.settled(10 * time.Second)
}

// With few descriptors sessions are refused or streams fail; the control channel always comes back.
func TestHostileFewDescriptors(t *testing.T) {
	t.Parallel()
	s := smallest(t, nil, func(s *site, _ map[string]string) { s.openFiles = 64 })
	at := s.serve(echoBytes)
	var why []string
	for range 8 {
		o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(at.host, at.port))
		s.must(err)
		o.HandshakeTimeout = 5 * time.Second
		c, err := client.Open(s.Context(), o)
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		s.Cleanup(c.Close)
		for range 20 {
			_, err := c.Mux.Open()
			s.must(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Logf("refused: %q", why)
	time.Sleep(time.Second)
	pid := s.relayPID()
	for i := range 3 {
		s.Gateway.CutControl(s.target)
		s.eventually("the control channel", 8*time.Second, func() bool { return s.Gateway.Target(s.target).Opened == 2+i && s.Gateway.Connected(s.target) })
	}
	if now := s.relayPID(); now != pid {
		t.Errorf("the relay was replaced: %d is %d now", pid, now)
	}
	if used := share(pid, 3*time.Second); used > .05 {
		t.Errorf("it uses %.0f%% of a core", 100*used)
	}
}

// More streams than a session may have, each closed at once, to a target that reads a byte now and then: what is left of them
// must not take the descriptors that others need.
func TestHostileLingeringStreams(t *testing.T) {
	s := smallest(t, nil, func(s *site, _ map[string]string) { s.openFiles = 4096 })
	slow := s.serve(func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		var one [1]byte
		for {
			if _, err := c.Read(one[:]); err != nil {
				return
			}
			time.Sleep(1900 * time.Millisecond)
		}
	})
	at := s.serve(echoBytes)
	b := s.honestly()
	d := s.openAt(at)
	r := s.raw(slow, nil)
	s.must(r.WaitReady(10 * time.Second))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var f client.Frames
		for i := range 5000 {
			f.Add(smux.SYN, client.StreamID(i), nil)
			f.Add(smux.PSH, client.StreamID(i), []byte("0123456789"))
			f.Add(smux.FIN, client.StreamID(i), nil)
		}
		sendAll(r, f.Payloads, rate)
	}()
	most, failed := 0, 0
	for began := time.Now(); time.Since(began) < 6*time.Second; time.Sleep(20 * time.Millisecond) {
		most = max(most, descriptors(b.pid))
		if took, err := s.firstByte(d); err != nil || took > 2*time.Second {
			failed++
			t.Logf("another's new connection after %v: %v, %v", time.Since(began).Round(time.Millisecond), took, err)
		}
	}
	<-done
	t.Logf("the relay had up to %d descriptors", most)
	if failed > 0 {
		t.Errorf("%d new connections of others failed", failed)
	}
	b.ended()
	b.leave(r)
	b.settled(40 * time.Second)
}
