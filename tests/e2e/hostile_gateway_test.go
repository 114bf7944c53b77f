package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
)

// A gateway that sends on the control channel without pause.
func TestHostileControlChannelWithoutPause(t *testing.T) {
	s := smallest(t, nil)
	b := s.honestly()
	stop := s.Gateway.FloodControl(s.target, &message{Type: agentmsg.AgentTaskAck, ID: agentmsg.NewUUID(), Payload: []byte(`{"SchemaVersion":1}`)},
		&message{Type: agentmsg.ControlChannelReady, ID: agentmsg.NewUUID(), Payload: []byte(`{"SchemaVersion":1}`)},
		&message{Type: "of no known type", ID: agentmsg.NewUUID(), Payload: []byte(strings.Repeat("x", 1000))})
	time.Sleep(6 * time.Second)
	t.Logf("%d messages", stop())
	b.ended()
	if n := s.Gateway.Target(s.target).Opened; n != 1 {
		t.Errorf("%d control channels were opened", n)
	}
}

// A gateway that reads nothing of the control channel, while there is much to report.
func TestHostileControlChannelThatIsNotRead(t *testing.T) {
	s := smallest(t, nil)
	b := s.honestly()
	honest := share(b.pid, 2*time.Second)
	s.Gateway.SetFaults(gateway.Faults{ControlChannel: gateway.Channel{Deaf: true}})
	base := "http://" + s.Addr()
	for range 1500 {
		_, err := s.Gateway.StartSession(base, "arn:aws:iam::123456789012:user/flood", s.target, toRemoteHost, "", remoteHost("169.254.170.2", "80"))
		s.must(err)
	}
	time.Sleep(3 * time.Second)
	if used := share(b.pid, 4*time.Second); used > honest+.03 {
		t.Errorf("the relay used %.1f%% of a core while nobody reads its reports, and %.1f%% for the honest session", 100*used, 100*honest)
	}
	b.ended()
}

// Messages that no correct client or gateway sends, in many sessions.
func TestHostileMutations(t *testing.T) {
	sessions := 60
	if long {
		sessions = 3000
	}
	s := smallest(t, nil)
	b := s.honestly()
	at := s.serve(func(c net.Conn) {
		go func() { _, _ = c.Write(make([]byte, 20_000)) }()
		discard(c)
	})
	honest := s.Gateway.Sessions("")[0].ID
	s.Gateway.SetFaults(gateway.Faults{Seed: 1, Spare: honest, AgentChannel: gateway.Channel{Mutate: .1}})
	var wait crowd
	gate := make(chan struct{}, 4)
	speed := newPace(6) // so that the processor is not what is tested
	for range sessions {
		speed.wait()
		gate <- struct{}{}
		wait.run(func() {
			defer func() { <-gate }()
			o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(at.host, at.port))
			if err != nil {
				t.Error(err)
				return
			}
			o.HandshakeTimeout, o.Resume = 500*time.Millisecond, nil
			c, err := client.Open(s.Context(), o)
			if err != nil {
				_ = s.api.Terminate(s.Context(), o.SessionID)
				return
			}
			ended := time.AfterFunc(500*time.Millisecond, c.Close)
			for range 5 {
				if x, err := c.Dial(); err == nil {
					_, _ = x.Write(make([]byte, 20_000))
				}
			}
			<-c.End.Done()
			ended.Stop()
			_ = s.api.Terminate(s.Context(), o.SessionID)
		})
	}
	wait.Wait()
	b.ended()
}
