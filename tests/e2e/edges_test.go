package e2e

import (
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"
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
