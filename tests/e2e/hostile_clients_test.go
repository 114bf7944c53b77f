package e2e

import (
	"io"
	"net"
	"testing"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/smux"
)

// What hostile clients do to a relay.

// Messages that come before the one that is due: when that comes, all of them are processed at once, unless something prevents it.
func TestHostileEarlyMessages(t *testing.T) {
	const streams = 900
	early := 1500
	if long {
		early = 6000
	}
	s := smallest(t, nil)
	b := s.honestly()
	r := s.raw(s.serve(discard), nil)
	s.must(r.WaitReady(10 * time.Second))
	openStreams(r, streams, "")
	time.Sleep(2 * time.Second) // they are dialled
	due := r.Reserve(1)
	speed, n := newPace(rate), 0
	for range early {
		var f client.Frames
		for len(f.Payloads) < 2 { // until one is full
			f.Add(smux.PSH, client.StreamID(n%streams), []byte{'x'})
			n++
		}
		speed.wait()
		r.Send(agentmsg.Output, f.Payloads[0])
	}
	r.SendAs(due, agentmsg.Output, smux.AppendFrame(nil, smux.NOP, 0, nil))
	time.Sleep(5 * time.Second)
	b.ended()
	b.leave(r)
	b.settled(20 * time.Second)
}

// A client that does not acknowledge HandshakeComplete: what is to be sent again waits, and so must the processor.
func TestHostileNoAcknowledgementOfTheHandshake(t *testing.T) {
	t.Parallel()
	s := smallest(t, nil)
	r := s.raw(s.remote, func(m *message) bool { return m.PayloadType != agentmsg.HandshakeComplete })
	s.must(r.WaitReady(10 * time.Second))
	s.wantNearlyIdle()
}

// Clients as AWS's that are gone without a word after acknowledgements of theirs were lost: they would not have acknowledged
// again, and now nothing may be sent to them.
func TestHostileClientsThatAreKilled(t *testing.T) {
	t.Parallel()
	s := smallest(t, nil)
	at := s.serve(echoBytes)
	for i := range 8 {
		seen := map[int64]bool{}
		r := s.raw(at, func(m *message) bool {
			first := !seen[m.Sequence]
			seen[m.Sequence] = true
			return first
		})
		s.must(r.WaitReady(10 * time.Second))
		openStreams(r, 3, "x")
		time.Sleep(100 * time.Millisecond)
		honest := s.Gateway.Faults()
		s.Gateway.SetFaults(gateway.Faults{ClientToAgent: gateway.Line{LoseAcks: 1}})
		r.Send(agentmsg.Output, smux.AppendFrame(nil, smux.PSH, client.StreamID(0), []byte("z")))
		time.Sleep(200 * time.Millisecond)
		s.Gateway.SetFaults(honest)
		time.Sleep(time.Duration(150*i) * time.Millisecond)
		r.Close()
	}
	time.Sleep(5 * time.Second)
	s.wantNearlyIdle()
}

// wantNearlyIdle checks that the relay uses next to nothing of the processor while nothing happens.
func (s *site) wantNearlyIdle() {
	s.Helper()
	over := 20 * time.Second
	if long {
		over = time.Minute
	}
	if used := share(s.relayPID(), over); used > .01 {
		s.Errorf("the relay used %.1f%% of a core over %v in which nothing happened", 100*used, over)
	}
}

// Many short streams: the log does not grow with each of them, and says how much it has left out.
func TestHostileLogVolume(t *testing.T) {
	const most = 64 << 10 // bytes a second
	s := smallest(t, nil)
	b := s.honestly()
	r := s.raw(s.serve(discard), nil)
	s.must(r.WaitReady(10 * time.Second))
	before, began := len(s.task.Output()), time.Now()
	var f client.Frames
	for i := range 10_000 {
		f.Add(smux.SYN, client.StreamID(i), nil)
		f.Add(smux.FIN, client.StreamID(i), nil)
	}
	sendAll(r, f.Payloads, 40)
	grown := len(s.task.Output()) - before
	perSecond := float64(grown) / time.Since(began).Seconds()
	t.Logf("%d bytes of log, %.0f a second", grown, perSecond)
	if perSecond > most {
		t.Errorf("the log grew by %.0f bytes a second", perSecond)
	}
	omitted := 0.0
	for _, e := range s.events("lines with one message came too fast and were left out") {
		omitted += e["lines"].(float64)
	}
	if omitted < 1000 {
		t.Errorf("the log says that %.0f lines were left out", omitted)
	}
	b.ended()
}

// More streams at once than a session may have: each is answered or refused at once.
func TestHostileTooManyStreams(t *testing.T) {
	const streams = 1200
	s := smallest(t, nil)
	at := s.serve(func(c net.Conn) {
		_, _ = c.Write([]byte{'!'})
		discard(c)
	})
	b := s.honestly()
	d := s.openAt(at)
	var all []*smux.Stream
	for range streams {
		c, err := d.client.Mux.Open()
		s.must(err)
		all = append(all, c)
	}
	answered, refused, silent := 0, 0, 0
	deadline := time.Now().Add(15 * time.Second)
	for _, c := range all {
		_ = c.SetReadDeadline(deadline)
		switch n, err := c.Read(make([]byte, 1)); {
		case n == 1:
			answered++
		case err == io.EOF:
			refused++
		default:
			silent++
		}
	}
	t.Logf("of %d streams %d were answered, %d refused, %d neither", streams, answered, refused, silent)
	if silent > 0 || answered < 900 {
		t.Errorf("of %d streams %d were answered, %d refused, %d neither", streams, answered, refused, silent)
	}
	b.ended()
}
