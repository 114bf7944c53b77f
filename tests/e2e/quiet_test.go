package e2e

import (
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
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
