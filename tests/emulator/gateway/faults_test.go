package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/gateway/agenttest"
	"fumidai/tests/emulator/smux"
	"fumidai/tests/emulator/websocket"
)

// agentChannels waits until the agent's end of the first session has been opened so often.
func (w *world) agentChannels(n int) {
	w.t.Helper()
	within(w.t, 20*time.Second, "data channels", func() error {
		for w.gw.Sessions("")[0].Stats().Agent.Opened < n {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}

// A data channel that is closed, or whose bytes stop making sense, a few milliseconds after it has opened, each time.
func TestChannelsThatEndAtOnce(t *testing.T) {
	for name, faults := range map[string]gateway.Channel{
		"close":       {Bye: 5 * time.Millisecond},
		"going away":  {Bye: 5 * time.Millisecond, CloseCode: websocket.CloseGoingAway, CloseReason: "restarting"},
		"bad records": {BreakTLS: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := w.open(listen(t, echo))
			w.gw.SetFaults(gateway.Faults{AgentChannel: faults})
			w.agentChannels(4)
			w.gw.SetFaults(gateway.Faults{})
			s, err := c.Dial()
			if err != nil {
				t.Fatal(err)
			}
			within(t, 10*time.Second, "100 kB afterwards", func() error { return exchange(s, 1, 100_000) })
			w.settled()
		})
	}
	t.Run("control", func(t *testing.T) {
		w := newWorld(t)
		w.gw.SetFaults(gateway.Faults{ControlChannel: gateway.Channel{Bye: 5 * time.Millisecond}})
		within(t, 20*time.Second, "control channels", func() error {
			for w.gw.Target(target).Opened < 3 {
				time.Sleep(time.Millisecond)
			}
			return nil
		})
	})
}

// Control channels end about hourly, too.
func TestControlChannelHasALife(t *testing.T) {
	w := newWorld(t)
	w.gw.Set(func(s *gateway.Settings) { s.ChannelLife = 100 * time.Millisecond })
	within(t, 5*time.Second, "another control channel", func() error {
		for w.gw.Target(target).Opened < 2 {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}

// One message waits; what is sent after it comes after it.
func TestLateMessage(t *testing.T) {
	w := newWorld(t)
	w.gw.SetFaults(gateway.Faults{AgentToClient: gateway.Line{LateType: agentmsg.HandshakeComplete, LateBy: 300 * time.Millisecond}})
	began := time.Now()
	c := w.open(listen(t, echo))
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("the handshake was complete after %v", took)
	}
	s, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	within(t, 5*time.Second, "a byte", func() error { return exchange(s, 1, 1) })
	if took := time.Since(began); took > 200*time.Millisecond {
		t.Errorf("another message was late, too: %v", took)
	}
	w.settled()
}

// Whatever is changed on the way to an agent or a client, there is no panic, here or there, and a new session works.
func TestMutations(t *testing.T) {
	w := newWorld(t)
	port := listen(t, echo)
	w.gw.SetFaults(gateway.Faults{Seed: 1, AgentChannel: gateway.Channel{Mutate: .2}, ClientChannel: gateway.Channel{Mutate: .2}})
	disturbed := 0
	for i := range 20 {
		o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {port}})
		if err != nil {
			t.Fatal(err)
		}
		o.HandshakeTimeout = 300 * time.Millisecond
		c, err := client.Open(w.ctx, o)
		if err != nil {
			disturbed++
			continue
		}
		ended := time.AfterFunc(300*time.Millisecond, c.Close)
		if s, err := c.Dial(); err == nil && exchange(s, uint64(i), 50_000) != nil {
			disturbed++
		}
		ended.Stop()
		c.Close()
	}
	if disturbed == 0 {
		t.Error("nothing has been disturbed")
	}
	w.gw.SetFaults(gateway.Faults{})
	s, err := w.open(port).Dial()
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "a session afterwards", func() error { return exchange(s, 1, 100_000) })
}

func TestFloodOfTheControlChannel(t *testing.T) {
	w := newWorld(t)
	stop := w.gw.FloodControl(target, &agentmsg.Message{Type: agentmsg.AgentTaskAck, ID: agentmsg.NewUUID(), Payload: []byte(`{}`)},
		&agentmsg.Message{Type: "of no known type", ID: agentmsg.NewUUID(), Payload: []byte(strings.Repeat("x", 1000))})
	s, err := w.open(listen(t, echo)).Dial()
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "a session meanwhile", func() error { return exchange(s, 1, 100_000) })
	if n := stop(); n < 1000 {
		t.Errorf("%d messages were sent", n)
	}
	if n := w.gw.Target(target).Opened; n != 1 {
		t.Errorf("%d control channels", n)
	}
}

// A gateway that reads nothing of a channel: the agent's writes stop, and go on when the fault ends.
func TestDeafGateway(t *testing.T) {
	w := newWorld(t)
	c := w.open(listen(t, echo))
	s, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "before", func() error { return exchange(s, 1, 1000) })
	w.gw.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Deaf: true}})
	done := make(chan error, 1)
	go func() { done <- exchange(s, 2, 1000) }()
	select {
	case err := <-done:
		t.Errorf("the gateway reads: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	w.gw.SetFaults(gateway.Faults{})
	within(t, 10*time.Second, "afterwards", func() error { return <-done })
}

// What is sent to a side that has never come is lost: the handshake is late by the agent's timeout, and complete all the same.
func TestMessagesToASideThatHasNotComeAreLost(t *testing.T) {
	w := newWorld(t)
	w.gw.Set(func(s *gateway.Settings) { s.Away = gateway.AwayDrop })
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {listen(t, echo)}})
	if err != nil {
		t.Fatal(err)
	}
	session := w.gw.Session(o.SessionID)
	within(t, 5*time.Second, "the loss", func() error {
		for session.Stats().Client.Dropped == 0 {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	c, err := client.Open(w.ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "a session", func() error { return exchange(s, 1, 100_000) })
}

// A client's signed opening is checked; an unsigned one is refused on demand.
func TestSignedClients(t *testing.T) {
	w := newWorld(t)
	w.gw.Set(func(s *gateway.Settings) { s.RefuseUnsigned = true })
	port := listen(t, echo)
	start := func() client.Options {
		o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {port}})
		if err != nil {
			t.Fatal(err)
		}
		o.Resume = nil
		return o
	}
	refused := func(o client.Options) {
		t.Helper()
		_, err := client.Open(w.ctx, o)
		var e *websocket.DialError
		if !errors.As(err, &e) || e.Status != http.StatusForbidden {
			t.Errorf("got %v", err)
		}
	}
	old := start()
	old.Version = "1.2.650.0"
	refused(old)
	wrong := start()
	wrong.Sign = func(r *http.Request) error {
		signer := *w.api
		signer.Credentials.SecretAccessKey = "another"
		return signer.Sign(r, nil, "ssmmessages")
	}
	refused(wrong)
	c, err := client.Open(w.ctx, start())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	w.settled()
}

// The query of a stream URL goes back as it was handed out.
func TestQueryOfTheStreamURL(t *testing.T) {
	w := newWorld(t)
	port := listen(t, echo)
	for _, plain := range []bool{true, false} {
		w.gw.Set(func(s *gateway.Settings) { s.PlainURLs = plain })
		o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {port}})
		if err != nil {
			t.Fatal(err)
		}
		if _, query, _ := strings.Cut(o.StreamURL, "?"); (query == "role=publish_subscribe") != plain || !plain && !strings.Contains(query, "cell-number=AAEA") {
			t.Errorf("the query is %q", query)
		}
		o.Resume = nil
		escaped := o
		escaped.StreamURL = strings.ReplaceAll(o.StreamURL, "+", "%2B")
		if !plain {
			if _, err := client.Open(w.ctx, escaped); err == nil {
				t.Error("an escaped query was taken")
			}
		}
		c, err := client.Open(w.ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

// The remote-host document is refused where the agent is too old for it; the other one is not.
func TestOldAgent(t *testing.T) {
	w := newWorld(t, func(o *agenttest.Options) { o.Version = "3.1.1373.99" })
	_, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSessionToRemoteHost", map[string][]string{"host": {"127.0.0.1"}, "portNumber": {"1"}})
	var e *client.APIError
	if !errors.As(err, &e) || e.Status != 400 || !strings.Contains(e.Message, "3.1.1374.0") {
		t.Errorf("got %v", err)
	}
	if _, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {"1"}}); err != nil {
		t.Error(err)
	}
}

// An id may begin with any role session name: an e-mail address, for one.
func TestSessionIDsWithOddCharacters(t *testing.T) {
	w := newWorld(t)
	key := w.emu.Edge.Keys.Temporary(edge.Principal{ARN: "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_User_0123456789abcdef/a.b+c=d,e@example.com"}, time.Now().Add(time.Hour))
	w.api.Credentials.AccessKeyID, w.api.Credentials.SecretAccessKey, w.api.Credentials.SessionToken = key.AccessKeyID, key.SecretAccessKey, key.Token
	c := w.open(listen(t, echo))
	session := w.gw.Sessions("")[0]
	if !strings.HasPrefix(session.ID, "a.b+c=d,e@example.com-") {
		t.Fatalf("the session is %s", session.ID)
	}
	s, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	for i, lose := range []func(){func() {}, func() { session.Bye("agent") }, func() { session.Bye("client") }, func() { session.Cut("agent"); session.Cut("client") }} {
		lose()
		within(t, 10*time.Second, "a conversation", func() error { return exchange(s, uint64(i), 10_000) })
	}
	if err := w.api.Terminate(context.Background(), session.ID); err != nil {
		t.Fatal(err)
	}
	<-c.End.Done()
	w.settled()
}

// Refusals of the service that look like bad requests.
func TestRefusalsThatLookLikeBadRequests(t *testing.T) {
	w := newEmptyWorld(t)
	first, second := gateway.Unauthorized("CreateControlChannel"), gateway.NotAuthenticated("CreateControlChannel")
	first.Times, second.Times = 1, 1
	w.emu.Edge.Faults.Add(first)
	w.emu.Edge.Faults.Add(second)
	w.startAgent(w.ctx)
	if err := w.gw.WaitConnected(target, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	var statuses []int
	for _, c := range w.emu.Edge.Recorder.Calls(edge.ByAction("ssmmessages", "CreateControlChannel")) {
		statuses = append(statuses, c.Status)
	}
	if len(statuses) != 3 || statuses[0] != 400 || statuses[1] != 400 || statuses[2] != 201 {
		t.Errorf("%v", statuses)
	}
}

// A client that sends out of order and acknowledges what it likes.
func TestRawClient(t *testing.T) {
	w := newWorld(t)
	o, err := w.api.Start(w.ctx, target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {listen(t, echo)}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := client.OpenRaw(w.ctx, o, func(m *agentmsg.Message) bool { return m.PayloadType != agentmsg.Output })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.WaitReady(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	var f client.Frames
	f.Add(smux.SYN, client.StreamID(0), nil)
	f.Add(smux.PSH, client.StreamID(0), []byte("abc"))
	due := r.Reserve(1)
	r.Send(agentmsg.Output, smux.AppendFrame(nil, smux.PSH, client.StreamID(0), []byte("def")))
	time.Sleep(50 * time.Millisecond)
	if _, bytes := r.Received(); bytes > 1000 {
		t.Errorf("%d bytes have come before anything was due", bytes)
	}
	before, _ := r.Received()
	r.SendAs(due, agentmsg.Output, f.Payloads[0])
	within(t, 5*time.Second, "the echo, again and again", func() error {
		for n := before; n < before+3; n, _ = r.Received() {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	if err := w.api.Terminate(w.ctx, o.SessionID); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the end", func() error {
		for r.Open() {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	if !strings.Contains(r.Closed(), agentmsg.ChannelClosed) {
		t.Errorf("it ended with %q", r.Closed())
	}
}
