package gateway

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/websocket"
)

// Status of a session, as DescribeSessions names it.
type Status string

// A session's life: Connecting until both ends are there, Connected or Disconnected by whether they are, Terminating from
// the order to end until the agent's agent_task_complete (or the grace), then Terminated, or Failed if the agent said so.
const (
	Connecting   Status = "Connecting"
	Connected    Status = "Connected"
	Disconnected Status = "Disconnected"
	Terminating  Status = "Terminating"
	Terminated   Status = "Terminated"
	Failed       Status = "Failed"
)

// role is one end of a session.
type role int

const (
	agentSide role = iota
	clientSide
)

func (r role) String() string { return [...]string{"agent", "client"}[r] }
func (r role) peer() role     { return 1 - r }

// Session is one session and the relay between its two data channels.
type Session struct {
	g          *Gateway
	ID         string
	Target     string
	Owner      string
	ownerID    string // its aws:userid, which the session's tag has
	Reason     string
	Document   string
	Parameters map[string][]string
	Started    time.Time // by the host's clock
	query      string    // of its stream URL

	sides        [2]side
	lastActivity atomic.Int64 // monotonic enough: nanoseconds since an arbitrary start
	began        time.Time

	coming sync.Mutex // one end comes or goes at a time, so that the last of start and pause that is sent is the true one

	mu         sync.Mutex
	status     Status
	ended      time.Time
	endingAt   time.Time // of the order to end
	output     string    // what the client was or will be told
	task       *TaskComplete
	clientID   [2]string
	violations []string
}

// side is one end's place in the relay.
type side struct {
	s       *Session
	role    role
	channel atomic.Pointer[channel]
	line    line // the way from this side to the other

	mu       sync.Mutex // order of what waits and what goes out directly
	waiting  [][]byte
	everCame bool

	meterMu sync.Mutex
	meter   meter
	maxSeq  int64
	paused  bool      // cut off, and on the way out
	stats   SideStats // those not counted below

	opened, dropped, held, dataBytes atomic.Int64
}

// SideStats are the counters of one end of a session: what it sent and what happened to it.
type SideStats struct {
	Opened       int   // data channels opened
	StreamData   int64 // stream data messages it sent, resends included
	Resent       int64 // of these, with a sequence number not above one already seen
	Acknowledges int64
	PayloadBytes int64 // payload of stream data, resends included
	MostInWindow int   // the most messages the rate limit counted in any window
	CutOffs      int   // how often it was cut off for exceeding the limit
	Pauses       int   // pause_publication it was sent
	Dropped      int64 // messages for it that came while it was away
	Held         int64 // messages that were kept for it while it was away
	Lost         int64 // by faults, on the way from it
	Duplicated   int64
	Reordered    int64
}

// SessionStats is a snapshot of a session.
type SessionStats struct {
	ID, Target, Document string
	Status               Status
	Output               string
	Agent, Client        SideStats
	Violations           []string
}

// TaskComplete is an agent's report of a session's end.
type TaskComplete struct {
	SchemaVersion    int
	TaskID           string `json:"TaskId"`
	Topic            string
	FinalTaskStatus  string
	IsRoutingFailure bool
	InstanceID       string `json:"InstanceId"`
	Output           string
	RetryNumber      int
}

const maxViolations = 50

func newSession(g *Gateway, id, target, owner, reason, document string, parameters map[string][]string) *Session {
	s := &Session{g: g, ID: id, Target: target, Owner: owner, Reason: reason, Document: document, Parameters: parameters,
		Started: g.cfg.Now(), began: time.Now(), status: Connecting, query: agentQuery}
	if !g.settings.Load().PlainURLs {
		s.query += "&cell-number=" + cellNumber()
	}
	faults := g.faults.Load()
	for i := range s.sides {
		end := &s.sides[i]
		end.s, end.role, end.maxSeq = s, role(i), -1
		end.line.dice = &g.dice
		end.line.space.L = &end.line.mu
		other := &s.sides[role(i).peer()]
		end.line.deliver = func(b []byte) { other.deliver(b) }
		end.line.plan.Store(faults.line(role(i), id))
	}
	return s
}

func (s *Session) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.g.logf("session %s: violation: %s", s.ID, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, text)
	}
}

// Stats is a snapshot of the session's counters.
func (s *Session) Stats() SessionStats {
	st := SessionStats{ID: s.ID, Target: s.Target, Document: s.Document, Agent: s.sides[agentSide].snapshot(),
		Client: s.sides[clientSide].snapshot()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Status, st.Output, st.Violations = s.status, s.output, append([]string(nil), s.violations...)
	return st
}

func (e *side) snapshot() SideStats {
	e.meterMu.Lock()
	st := e.stats
	st.MostInWindow = e.meter.most
	e.meterMu.Unlock()
	st.Opened, st.Dropped, st.Held = int(e.opened.Load()), e.dropped.Load(), e.held.Load()
	st.PayloadBytes = e.dataBytes.Load()
	st.Lost, st.Duplicated, st.Reordered = e.line.lost.Load(), e.line.duplicated.Load(), e.line.reordered.Load()
	return st
}

// Status of the session.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Task is the agent's report of the end, nil before it.
func (s *Session) Task() *TaskComplete {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.task
}

// Ended says whether the session is over or about to be.
func (s *Session) Ended() bool {
	st := s.Status()
	return st == Terminating || st == Terminated || st == Failed
}

// Cut resets one end's websocket ("agent" or "client"), as a broken network would.
func (s *Session) Cut(end string) {
	if c := s.sides[roleOf(end)].channel.Load(); c != nil {
		c.conn.Abort()
	}
}

// Bye closes one end's websocket as the service does once an hour.
func (s *Session) Bye(end string) {
	if c := s.sides[roleOf(end)].channel.Load(); c != nil {
		c.conn.CloseWith(websocket.CloseNormal, "Bye")
	}
}

// Ping sends one end a ping.
func (s *Session) Ping(end string) {
	if c := s.sides[roleOf(end)].channel.Load(); c != nil {
		_ = c.conn.SendUrgent(websocket.Ping, []byte("are you there"))
	}
}

// Stall stops or resumes the reading of one end's websocket.
func (s *Session) Stall(end string, on bool) {
	if c := s.sides[roleOf(end)].channel.Load(); c != nil {
		if on {
			c.fuse.Stall()
		} else {
			c.fuse.Resume()
		}
	}
}

// Attached says whether one end's websocket is open.
func (s *Session) Attached(end string) bool { return s.sides[roleOf(end)].channel.Load() != nil }

// Send puts a message of the test's own making into one end's data channel.
func (s *Session) Send(end string, m *agentmsg.Message) {
	s.sides[roleOf(end)].say(agentmsg.Append(nil, m))
}

func roleOf(end string) role {
	if end == "client" {
		return clientSide
	}
	return agentSide
}

// attach makes a channel the one of a side; an older one is replaced.
func (s *Session) attach(r role, c *channel, clientID string) {
	s.coming.Lock()
	defer s.coming.Unlock()
	e := &s.sides[r]
	s.mu.Lock()
	if s.clientID[r] != "" && s.clientID[r] != clientID {
		s.mu.Unlock()
		s.violation("%s: reconnected with another ClientId", r)
		s.mu.Lock()
	}
	s.clientID[r] = clientID
	s.mu.Unlock()

	if old := e.channel.Load(); old != nil {
		old.conn.CloseWith(websocket.CloseNormal, "replaced")
	}
	e.mu.Lock()
	e.opened.Add(1)
	e.everCame = true
	for _, b := range e.waiting {
		_ = c.send(b, true)
	}
	e.waiting = nil
	e.channel.Store(c)
	e.mu.Unlock()

	s.mu.Lock()
	if (s.status == Connecting || s.status == Disconnected) && s.sides[r.peer()].channel.Load() != nil {
		s.status = Connected
	}
	s.mu.Unlock()
	s.publication(r)
}

func (e *side) cameEver() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.everCame
}

// publication tells both ends whether to send: start once both are there, pause to whoever comes while the other has gone.
func (s *Session) publication(came role) {
	if s.g.settings.Load().NoPublication {
		return
	}
	peer := &s.sides[came.peer()]
	switch {
	case peer.channel.Load() != nil:
		s.sides[agentSide].publish(agentmsg.StartPublication)
		s.sides[clientSide].publish(agentmsg.StartPublication)
	case peer.cameEver():
		s.sides[came].publish(agentmsg.PausePublication)
	}
}

// detach takes a channel that has ended out of a side.
func (s *Session) detach(r role, c *channel) {
	s.coming.Lock()
	defer s.coming.Unlock()
	e := &s.sides[r]
	if !e.channel.CompareAndSwap(c, nil) {
		return
	}
	s.mu.Lock()
	if s.status == Connected {
		s.status = Disconnected
	}
	s.mu.Unlock()
	if !s.g.settings.Load().NoPublication && !s.Ended() {
		s.sides[r.peer()].publish(agentmsg.PausePublication)
	}
}

// publish sends start_publication or pause_publication. Neither PayloadLength nor PayloadDigest is that of the payload:
// so the service sends them.
func (e *side) publish(kind string) {
	payload, _ := json.Marshal(map[string]any{"SchemaVersion": 1, "MessageType": kind, "MessageId": agentmsg.NewUUID().String(),
		"SessionId": e.s.ID, "CreateData": time.Now().UTC().Format(time.RFC3339Nano)})
	b := agentmsg.Append(nil, &agentmsg.Message{Type: kind, ID: agentmsg.NewUUID(), Payload: payload})
	b[80] ^= 0xff
	b[118], b[119] = 0x7f, 0xff
	if kind == agentmsg.PausePublication {
		e.meterMu.Lock()
		e.stats.Pauses++
		e.meterMu.Unlock()
	}
	e.say(b)
}

// say sends something of the gateway's own, whether or not the end reads.
func (e *side) say(b []byte) {
	if c := e.channel.Load(); c != nil {
		_ = c.send(b, true)
	}
}

func (s *Session) activity() { s.lastActivity.Store(int64(time.Since(s.began))) }

// relay reads one end's channel until it ends, passing on what is for the other end.
func (s *Session) relay(r role, c *channel) error {
	e := &s.sides[r]
	for {
		op, b, err := c.conn.Next()
		if err != nil {
			return err
		}
		if op != websocket.Binary {
			s.violation("%s: a %d-byte message that is not binary", r, len(b))
			continue
		}
		if len(b) < agentmsg.HeaderBytes {
			s.violation("%s: an agent message of %d bytes", r, len(b))
			continue
		}
		e.take(b, c)
	}
}

// take handles one message of this end.
func (e *side) take(b []byte, c *channel) {
	settings := e.s.g.settings.Load()
	kind := agentmsg.TypeOf(b)
	if settings.Check {
		e.check(kind, b)
	}
	isAck := kind == agentmsg.Acknowledge
	switch {
	case kind == agentmsg.OutputStreamData && e.role == agentSide, kind == agentmsg.InputStreamData && e.role == clientSide:
		e.countData(b, c, settings)
	case isAck:
		e.countAck(c, settings)
	case kind == agentmsg.AgentSessionState && e.role == agentSide:
		return // for the service itself
	default:
		e.s.violation("%s: message type %q on a data channel", e.role, kind)
		return
	}
	if e.line.active() {
		e.line.push(b, isAck)
		return
	}
	e.s.sides[e.role.peer()].deliver(b)
}

func (e *side) countData(b []byte, c *channel, settings *Settings) {
	e.s.activity()
	e.dataBytes.Add(int64(len(b) - agentmsg.HeaderBytes))
	seq := agentmsg.SequenceOf(b)
	e.meterMu.Lock()
	e.stats.StreamData++
	if seq <= e.maxSeq {
		e.stats.Resent++
	} else {
		e.maxSeq = seq
	}
	over := e.meterLocked(settings)
	e.meterMu.Unlock()
	if over {
		e.cutOff(c, settings)
	}
}

func (e *side) countAck(c *channel, settings *Settings) {
	e.meterMu.Lock()
	e.stats.Acknowledges++
	over := settings.Limit.CountAcks && e.meterLocked(settings)
	e.meterMu.Unlock()
	if over {
		e.cutOff(c, settings)
	}
}

// meterLocked counts a message and says whether the limit is exceeded.
func (e *side) meterLocked(settings *Settings) bool {
	inside := e.meter.add(time.Now(), settings.Limit.Window)
	return !settings.Limit.Lifted && inside > settings.Limit.Messages && !e.paused
}

// cutOff is what the service does to whoever sends too much: an agent gets pause_publication and is closed a little later,
// a client is closed at once.
func (e *side) cutOff(c *channel, settings *Settings) {
	e.meterMu.Lock()
	already := e.paused
	e.paused = true
	if !already {
		e.stats.CutOffs++
	}
	e.meterMu.Unlock()
	if already {
		return
	}
	e.s.g.logf("session %s: %s exceeds the rate limit", e.s.ID, e.role)
	limit := settings.Limit
	end := func() {
		c.conn.CloseWith(limit.CloseCode, limit.CloseReason)
		e.meterMu.Lock()
		e.paused = false
		e.meter = meter{most: e.meter.most, total: e.meter.total}
		e.meterMu.Unlock()
	}
	if e.role == clientSide {
		end()
		return
	}
	e.publish(agentmsg.PausePublication)
	time.AfterFunc(limit.CloseAfter, end)
}

// check compares a message with what a correct end sends.
func (e *side) check(kind string, b []byte) {
	if err := agentmsg.Check(b); err != nil {
		e.s.violation("%s: %s: %v", e.role, kind, err)
		return
	}
	m, err := agentmsg.Parse(b)
	if err != nil {
		e.s.violation("%s: %v", e.role, err)
		return
	}
	switch kind {
	case agentmsg.OutputStreamData, agentmsg.InputStreamData:
		large := len(m.Payload) > agentmsg.MaxPayloadBytes &&
			m.PayloadType != agentmsg.HandshakeRequest && m.PayloadType != agentmsg.HandshakeResponse
		// An agent empties what a client that has disconnected no longer wants.
		empty := len(m.Payload) == 0 && (e.role == clientSide || m.PayloadType != agentmsg.Output)
		if large || empty || m.Sequence < 0 {
			e.s.violation("%s: stream data %d with a payload of %d bytes", e.role, m.Sequence, len(m.Payload))
		}
		syn := m.Sequence == 0
		if e.role == agentSide && (m.Flags == agentmsg.SYN) != syn {
			e.s.violation("agent: stream data %d with flags %d", m.Sequence, m.Flags)
		}
	case agentmsg.Acknowledge:
		var ack struct {
			AcknowledgedMessageType           string
			AcknowledgedMessageID             string `json:"AcknowledgedMessageId"`
			AcknowledgedMessageSequenceNumber *int64
			IsSequentialMessage               *bool
		}
		if !plainAck(m.Payload) && (json.Unmarshal(m.Payload, &ack) != nil || ack.AcknowledgedMessageSequenceNumber == nil ||
			ack.IsSequentialMessage == nil || len(ack.AcknowledgedMessageID) != 36) {
			e.s.violation("%s: acknowledge with payload %q", e.role, m.Payload)
		}
		if m.Flags != agentmsg.SYN|agentmsg.FIN {
			e.s.violation("%s: acknowledge with flags %d", e.role, m.Flags)
		}
	case agentmsg.AgentSessionState:
		var state struct {
			SchemaVersion int
			SessionState  string
			SessionID     string `json:"SessionId"`
		}
		if json.Unmarshal(m.Payload, &state) != nil || state.SchemaVersion != 1 || state.SessionID != e.s.ID ||
			state.SessionState != "Connected" && state.SessionState != "Terminating" || m.Flags != 3 || m.Sequence != 0 {
			e.s.violation("%s: agent_session_state %q, flags %d, sequence %d", e.role, m.Payload, m.Flags, m.Sequence)
		}
	}
}

// plainAck recognises the acknowledge everybody writes, so that checking one does not cost more than relaying it.
func plainAck(p []byte) bool {
	const a, b, c = `{"AcknowledgedMessageType":"`, `","AcknowledgedMessageId":"`, `","AcknowledgedMessageSequenceNumber":`
	rest, ok := cut(p, a)
	if !ok || len(rest) < 17 {
		return false
	}
	name := "output_stream_data"
	if rest[0] == 'i' {
		name = "input_stream_data"
	}
	if rest, ok = cut(rest, name); !ok {
		return false
	}
	if rest, ok = cut(rest, b); !ok || len(rest) < 36 {
		return false
	}
	if rest, ok = cut(rest[36:], c); !ok {
		return false
	}
	digits := 0
	for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
		digits++
	}
	return digits > 0 && string(rest[digits:]) == `,"IsSequentialMessage":true}`
}

func cut(p []byte, prefix string) ([]byte, bool) {
	if len(p) < len(prefix) || string(p[:len(prefix)]) != prefix {
		return nil, false
	}
	return p[len(prefix):], true
}

// deliver passes a message of the other end to this one, or does with it what the away policy says.
func (e *side) deliver(b []byte) {
	if c := e.channel.Load(); c != nil {
		if c.send(b, false) == nil {
			return
		}
	}
	settings := e.s.g.settings.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.channel.Load(); c != nil && c.send(b, true) == nil {
		return // it came back in between
	}
	keep := settings.Away == AwayHold || settings.Away == AwayHoldFirst && !e.everCame
	if keep && len(e.waiting) < settings.AwayMessages {
		e.waiting = append(e.waiting, append([]byte(nil), b...))
		e.held.Add(1)
		return
	}
	e.dropped.Add(1)
}

// order is the order to end a session: both ends get channel_closed, the client with the reason.
func (s *Session) order(output string) {
	s.mu.Lock()
	if s.status == Terminating || s.status == Terminated || s.status == Failed {
		s.mu.Unlock()
		return
	}
	s.status, s.endingAt, s.output = Terminating, time.Now(), output
	s.mu.Unlock()
	s.sayClosed(clientSide, output)
	if s.sides[agentSide].channel.Load() != nil {
		s.sayClosed(agentSide, output)
		return
	}
	s.g.sendControl(s.Target, s.closedMessage(agentSide, ""))
}

func (s *Session) closedMessage(to role, output string) []byte {
	id := agentmsg.NewUUID()
	destination := s.Target
	if to == clientSide {
		s.mu.Lock()
		destination = s.clientID[clientSide]
		s.mu.Unlock()
	}
	payload, _ := json.Marshal(struct {
		MessageType, MessageId, DestinationId, SessionId string
		SchemaVersion                                    int
		CreatedDate, Output                              string
	}{agentmsg.ChannelClosed, id.String(), destination, s.ID, 1, strconv.FormatInt(time.Now().UnixMilli(), 10), output})
	return agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.ChannelClosed, ID: id, PayloadType: agentmsg.ClosedPayloadType,
		Payload: payload})
}

func (s *Session) sayClosed(to role, output string) { s.sides[to].say(s.closedMessage(to, output)) }

// Terminate ends the session as TerminateSession does.
func (s *Session) Terminate() { s.order("") }

// complete takes the agent's report: the session is over, and its output is what the client gets to know.
func (s *Session) complete(task *TaskComplete) {
	s.mu.Lock()
	first := s.task == nil
	ordered := s.status == Terminating
	if first {
		s.task = task
		s.status = Terminated
		if task.FinalTaskStatus == "Failed" {
			s.status = Failed
		}
		s.ended = s.g.cfg.Now()
		if s.endingAt.IsZero() {
			s.endingAt = time.Now()
		}
		if task.Output != "" {
			s.output = task.Output
		}
	}
	s.mu.Unlock()
	if first && !ordered {
		s.sayClosed(clientSide, task.Output)
	}
}

// housekeep ends what is idle or overdue.
func (s *Session) housekeep(now time.Time, settings *Settings) {
	s.mu.Lock()
	status, ending, done := s.status, s.endingAt, !s.ended.IsZero()
	s.mu.Unlock()
	if !ending.IsZero() {
		grace := now.Sub(ending) >= settings.TerminateGrace
		if grace && status == Terminating {
			s.mu.Lock()
			s.status, s.ended = Terminated, s.g.cfg.Now()
			s.mu.Unlock()
		}
		for i := range s.sides {
			if c := s.sides[i].channel.Load(); c != nil && grace {
				c.conn.CloseWith(websocket.CloseNormal, "")
			}
		}
		if done && grace {
			return
		}
	}
	for i := range s.sides {
		if c := s.sides[i].channel.Load(); c != nil {
			c.housekeep(now, settings.ChannelLife)
		}
	}
	idle := now.Sub(s.began) - time.Duration(s.lastActivity.Load())
	if ending.IsZero() && settings.IdleTimeout > 0 && idle >= settings.IdleTimeout {
		s.order(fmt.Sprintf("Session timed out: nothing was sent for %v", settings.IdleTimeout))
	}
}
