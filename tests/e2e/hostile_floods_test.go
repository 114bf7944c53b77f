package e2e

import (
	"net"
	"testing"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/smux"
)

// What one user with many sessions does to the others, in a task of a quarter of a core and 512 MiB.

// rawSessions opens so many sessions that do only what they are told, at most a few at a time.
func (s *site) rawSessions(n int, at endpoint, ack func(*message) bool) []*client.Raw {
	s.Helper()
	sessions := make([]*client.Raw, n)
	for i := range sessions {
		sessions[i] = s.raw(at, ack)
	}
	for _, r := range sessions {
		s.must(r.WaitReady(20 * time.Second))
	}
	return sessions
}

// Sessions with everything full: targets that send without end and read nothing, and a client that acknowledges nothing and
// sends all it may.
func TestHostileFullSessions(t *testing.T) {
	const sessions, streams = 38, 100
	s := smallest(t, nil)
	full := s.rawSessions(sessions, s.serve(pour), func(m *message) bool { return m.PayloadType != agentmsg.Output })
	b := s.honestly()
	// 38 times 900 messages a second up are three times what a quarter of a core can carry, so all wait. This is about memory,
	// and about nobody's being cut off.
	b.limit = 2 * time.Second
	var all crowd
	for _, r := range full {
		all.run(func() {
			openStreams(r, streams, "")
			var f client.Frames
			for i := range 9000 {
				f.Add(smux.PSH, client.StreamID(i%streams), make([]byte, 1000))
			}
			sendAll(r, f.Payloads, rate)
		})
	}
	most, sockets := int64(0), int64(0)
	for began := time.Now(); time.Since(began) < 15*time.Second; time.Sleep(50 * time.Millisecond) {
		most, sockets = max(most, s.group().Memory()), max(sockets, s.group().SocketMemory())
	}
	all.Wait()
	t.Logf("the task had up to %d MiB, its sockets up to %d MiB", most>>20, sockets>>20)
	if most > 450<<20 {
		t.Errorf("of 512 MiB the task used %d", most>>20)
	}
	b.ended()
	for _, r := range full {
		b.leave(r)
	}
	b.settled(40 * time.Second)
}

// Streams of one byte, opened and closed as fast as the service lets a client.
func TestHostileFloodOfShortStreams(t *testing.T) {
	const sessions, perSecond = 30, 40
	s := smallest(t, nil)
	flood := s.rawSessions(sessions, s.serve(discard), nil)
	b := s.honestly()
	var all crowd
	for _, r := range flood {
		all.run(func() {
			pace := newPace(perSecond)
			for i := range 8 * perSecond {
				pace.wait()
				var f client.Frames
				f.Add(smux.SYN, client.StreamID(i), nil)
				f.Add(smux.PSH, client.StreamID(i), []byte{'x'})
				f.Add(smux.FIN, client.StreamID(i), nil)
				r.Send(agentmsg.Output, f.Payloads[0])
			}
		})
	}
	all.Wait()
	b.ended()
	for _, r := range flood {
		b.leave(r)
	}
	b.settled(40 * time.Second)
}

// Targets that read nothing: what their kernels have not taken is in ours, and must not stay there when the session is gone.
func TestHostileUnreadTargets(t *testing.T) {
	const streams, most = 50, 64 << 20
	s := smallest(t, nil)
	b := s.honestly()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	at := s.serve(func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		<-release
	})
	r := s.raw(at, nil)
	s.must(r.WaitReady(10 * time.Second))
	openStreams(r, streams, "")
	var f client.Frames
	for i := range 12000 {
		f.Add(smux.PSH, client.StreamID(i%streams), make([]byte, 1000))
	}
	sendAll(r, f.Payloads, rate)
	grown := s.group().SocketMemory()
	t.Logf("the sockets hold %d KiB", grown>>10)
	if grown > most {
		t.Errorf("targets that read nothing cost %d MiB", grown>>20)
	}
	b.ended()
	b.leave(r)
	if long { // half a minute in which they take nothing more
		b.settled(70 * time.Second)
	}
}
