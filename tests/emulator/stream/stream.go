// Package stream is the reliable half of a data channel for test peers of both roles: numbered messages of at most 1,024
// bytes, acknowledged singly, resent when overdue, delivered in order and once, across as many websockets as it takes.
//
//	Send ─► window ─► (pace) ─► websocket ─► …      acknowledge ─► takes out of the window
//	Next ◄─ queue  ◄─ in order ◄─ early ones kept ◄─ websocket
//
// It never stops reading the websocket of its own accord: what it has no room for is not acknowledged, and the other side
// sends it again. So its own acknowledgements always arrive, and full queues in both directions do not deadlock.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/websocket"
)

// ErrEnded is what Dial returns when there is nothing to reconnect to any more.
var ErrEnded = errors.New("the session has ended")

// ClosedError is the end by channel_closed.
type ClosedError struct{ Output string }

func (e *ClosedError) Error() string { return "channel_closed: " + e.Output }

// Config of an End.
type Config struct {
	Agent bool // the agent's role; else the client's
	// Dial opens the websocket and sends the token. It is called again after each loss.
	Dial func(ctx context.Context) (*websocket.Conn, error)
	// Window is how many messages may be unacknowledged; 0: 4096.
	Window int
	// MaxPerWindow paces: at most so many stream messages, resends included, in any 2 s; 0: no limit.
	MaxPerWindow int
	// QueueBytes bounds what has been received and not taken by Next; 0: 4 MiB.
	QueueBytes int
	// IgnoreOld makes it ignore, without acknowledging, what it has processed before: AWS's client does.
	IgnoreOld bool
	// GiveUp takes a message that has been resent five times while others were acknowledged for arrived: AWS's client does
	// not acknowledge again what it has processed before.
	GiveUp bool
	// OnOpen is called after each successful Dial, before anything is sent again.
	OnOpen func(c *websocket.Conn)
}

// Counters of an End.
type Counters struct {
	Sent, Resent, Acknowledged         int64
	Received, Old, Early, Refused      int64
	Connections, Pauses, Malformed     int64
	SmoothedRTT, RetransmissionTimeout time.Duration
}

// Item is one message from the peer; consecutive Output payloads are joined.
type Item struct {
	Type uint32
	Data []byte
}

const (
	earlyMessages  = 10000 // as AWS's client keeps
	granularity    = 10 * time.Millisecond
	maxTimeout     = time.Second
	initialTimeout = 200 * time.Millisecond
	joinBytes      = 64 << 10
	resendBurst    = 128 // messages each 10 ms
	giveUp         = 5   // resends of one message while others are acknowledged
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = 2 * time.Second
)

// End is one end of a data channel.
type End struct {
	cfg              Config
	sendType, inType string
	ctx              context.Context
	cancel           context.CancelFunc
	conn             atomic.Pointer[websocket.Conn]
	pace             pacer

	sendMu sync.Mutex // order of sequence numbers on the wire

	mu       sync.Mutex
	room     sync.Cond // the window has room, or the end
	base     int64     // oldest unacknowledged
	next     int64     // next to be sent
	slots    []slot
	srtt     float64
	rttvar   float64
	timeout  time.Duration
	newest   time.Time // when the youngest message acknowledged so far was sent
	paused   bool
	finished error

	inMu     sync.Mutex
	arrived  sync.Cond
	expected int64
	early    map[int64]Item
	queue    []Item
	queued   int

	stalled atomic.Bool

	sent, resent, acked, received, old, earlyCount, refused, connections, pauses, malformed atomic.Int64
}

type slot struct {
	frame   []byte
	sent    time.Time // zero: never on any connection
	resends int
	tries   int // of these, since the connection or the peer last came back
	acked   bool
}

// New makes an end and connects it; the first Dial's error is returned.
func New(ctx context.Context, cfg Config) (*End, error) {
	if cfg.Window == 0 {
		cfg.Window = 4096
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 4 << 20
	}
	e := &End{cfg: cfg, slots: make([]slot, cfg.Window), early: map[int64]Item{}, timeout: initialTimeout,
		srtt: float64(100 * time.Millisecond), pace: pacer{most: cfg.MaxPerWindow}}
	e.room.L, e.arrived.L = &e.mu, &e.inMu
	e.ctx, e.cancel = context.WithCancel(ctx)
	e.sendType, e.inType = agentmsg.InputStreamData, agentmsg.OutputStreamData
	if cfg.Agent {
		e.sendType, e.inType = e.inType, e.sendType
	}
	c, err := cfg.Dial(e.ctx)
	if err != nil {
		e.cancel()
		return nil, err
	}
	e.install(c)
	go e.run(c)
	go e.resendLoop()
	context.AfterFunc(e.ctx, func() { e.finish(context.Cause(e.ctx)) })
	return e, nil
}

func (e *End) install(c *websocket.Conn) {
	e.connections.Add(1)
	if e.cfg.OnOpen != nil {
		e.cfg.OnOpen(c)
	}
	e.mu.Lock()
	for seq := e.base; seq < e.next; seq++ { // everything unacknowledged goes out again on the new connection
		s := &e.slots[seq%int64(len(e.slots))]
		s.sent, s.tries = time.Time{}, 0
	}
	e.mu.Unlock()
	e.conn.Store(c)
}

// Done is closed at the end of the session.
func (e *End) Done() <-chan struct{} { return e.ctx.Done() }

// Err is why it ended, nil before.
func (e *End) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.finished
}

// Counters so far.
func (e *End) Counters() Counters {
	e.mu.Lock()
	srtt, timeout := time.Duration(e.srtt), e.timeout
	e.mu.Unlock()
	return Counters{e.sent.Load(), e.resent.Load(), e.acked.Load(), e.received.Load(), e.old.Load(), e.earlyCount.Load(),
		e.refused.Load(), e.connections.Load(), e.pauses.Load(), e.malformed.Load(), srtt, timeout}
}

// Stall stops (or resumes) the reading of the websocket: the peer's TCP fills up.
func (e *End) Stall(on bool) { e.stalled.Store(on) }

// Cut resets the websocket; it is opened again.
func (e *End) Cut() {
	if c := e.conn.Load(); c != nil {
		c.Abort()
	}
}

// Unacknowledged is the number of messages sent and not acknowledged.
func (e *End) Unacknowledged() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next - e.base
}

// Flush waits until everything sent has been acknowledged.
func (e *End) Flush(timeout time.Duration) error {
	for end := time.Now().Add(timeout); e.Unacknowledged() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d messages still unacknowledged after %v", e.Unacknowledged(), timeout)
		}
		if e.Err() != nil {
			return e.Err()
		}
	}
	return nil
}

// Close ends it; what is unacknowledged is lost (see Flush).
func (e *End) Close() {
	e.finish(ErrEnded)
}

func (e *End) finish(err error) {
	e.mu.Lock()
	if e.finished == nil {
		e.finished = err
	}
	e.room.Broadcast()
	e.mu.Unlock()
	e.inMu.Lock()
	e.arrived.Broadcast()
	e.inMu.Unlock()
	e.cancel()
	if c := e.conn.Load(); c != nil {
		c.CloseWith(websocket.CloseNormal, "")
	}
}

// run reads websocket after websocket.
func (e *End) run(c *websocket.Conn) {
	for {
		e.read(c)
		e.conn.CompareAndSwap(c, nil)
		if e.Err() != nil {
			return
		}
		if c = e.reconnect(); c == nil {
			return
		}
		e.install(c)
		e.resendOverdue()
	}
}

func (e *End) reconnect() *websocket.Conn {
	for pause := reconnectFirst; ; pause = min(2*pause, reconnectMost) {
		c, err := e.cfg.Dial(e.ctx)
		if err == nil {
			return c
		}
		if errors.Is(err, ErrEnded) || e.ctx.Err() != nil {
			e.finish(err)
			return nil
		}
		select {
		case <-e.ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (e *End) read(c *websocket.Conn) {
	var out, scratch []byte
	for {
		for e.stalled.Load() && e.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		op, b, err := c.Next()
		if err != nil {
			return
		}
		m, err := agentmsg.Parse(b)
		if op != websocket.Binary || err != nil {
			e.malformed.Add(1)
			continue
		}
		switch m.Type {
		case e.inType:
			if agentmsg.Check(b) != nil {
				e.malformed.Add(1)
				continue
			}
			e.resume()
			if e.accept(&m) {
				out, scratch = agentmsg.AppendAcknowledge(out[:0], &m, scratch)
				_ = c.SendUrgent(websocket.Binary, out)
			}
		case agentmsg.Acknowledge:
			e.resume()
			if seq, ok := agentmsg.AcknowledgedSequence(m.Payload); ok {
				e.acknowledged(seq)
			} else {
				e.malformed.Add(1)
			}
		case agentmsg.PausePublication:
			e.pauses.Add(1)
			e.mu.Lock()
			e.paused = true
			e.mu.Unlock()
		case agentmsg.StartPublication:
			e.resume()
		case agentmsg.ChannelClosed:
			var in struct{ Output string }
			_ = json.Unmarshal(m.Payload, &in)
			e.finish(&ClosedError{in.Output})
			return
		default:
			e.malformed.Add(1)
		}
	}
}

func (e *End) resume() {
	e.mu.Lock()
	if e.paused {
		e.paused = false
		for seq := e.base; seq < e.next; seq++ {
			e.slots[seq%int64(len(e.slots))].tries = 0
		}
		e.room.Broadcast()
	}
	e.mu.Unlock()
}

// accept takes a stream message in and says whether to acknowledge it.
func (e *End) accept(m *agentmsg.Message) bool {
	e.inMu.Lock()
	defer e.inMu.Unlock()
	switch {
	case m.Sequence < e.expected:
		e.old.Add(1)
		return !e.cfg.IgnoreOld
	case m.Sequence > e.expected: // not counted against the queue: it must never keep out the one it waits for
		if _, known := e.early[m.Sequence]; !known {
			if len(e.early) >= earlyMessages {
				e.refused.Add(1)
				return false
			}
			e.earlyCount.Add(1)
			e.early[m.Sequence] = Item{m.PayloadType, append([]byte(nil), m.Payload...)}
		}
		return true
	case e.queued >= e.cfg.QueueBytes:
		e.refused.Add(1)
		return false
	}
	e.enqueue(m.PayloadType, m.Payload)
	for len(e.early) > 0 {
		item, ok := e.early[e.expected]
		if !ok {
			break
		}
		delete(e.early, e.expected)
		e.enqueue(item.Type, item.Data)
	}
	e.arrived.Signal()
	return true
}

func (e *End) enqueue(kind uint32, data []byte) {
	e.expected++
	e.received.Add(1)
	e.queued += len(data)
	if n := len(e.queue); kind == agentmsg.Output && n > 0 && e.queue[n-1].Type == kind &&
		len(e.queue[n-1].Data)+len(data) <= cap(e.queue[n-1].Data) {
		e.queue[n-1].Data = append(e.queue[n-1].Data, data...)
		return
	}
	size := len(data)
	if kind == agentmsg.Output && len(e.queue) > 0 {
		size = joinBytes
	}
	e.queue = append(e.queue, Item{kind, append(make([]byte, 0, size), data...)})
}

// Next returns what the peer sent, in order; it blocks until there is something.
func (e *End) Next() (Item, error) {
	e.inMu.Lock()
	defer e.inMu.Unlock()
	for len(e.queue) == 0 {
		if err := e.Err(); err != nil {
			return Item{}, err
		}
		e.arrived.Wait()
	}
	item := e.queue[0]
	e.queue[0] = Item{}
	e.queue = e.queue[1:]
	e.queued -= len(item.Data)
	return item, nil
}

// acknowledged takes a message out of the window.
func (e *End) acknowledged(seq int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if seq < e.base || seq >= e.next {
		return
	}
	s := &e.slots[seq%int64(len(e.slots))]
	if s.acked {
		return
	}
	s.acked = true
	e.acked.Add(1)
	if s.sent.After(e.newest) {
		e.newest = s.sent
	}
	if s.resends == 0 && !s.sent.IsZero() {
		e.sample(float64(time.Since(s.sent)))
	}
	e.advance()
}

// advance moves the window past what has been acknowledged; e.mu is held.
func (e *End) advance() {
	moved := false
	for e.base < e.next && e.slots[e.base%int64(len(e.slots))].acked {
		e.base++
		moved = true
	}
	if moved {
		e.room.Broadcast()
	}
}

func (e *End) sample(rtt float64) {
	e.rttvar = 0.75*e.rttvar + 0.25*math.Abs(e.srtt-rtt)
	e.srtt = 0.875*e.srtt + 0.125*rtt
	e.timeout = min(maxTimeout, time.Duration(e.srtt+math.Max(float64(granularity), 4*e.rttvar)))
}

// Send sends one message; it blocks while the window is full or the peer has asked for a pause.
func (e *End) Send(payloadType uint32, payload []byte) error {
	if len(payload) == 0 {
		return errors.New("stream: an empty message")
	}
	e.sendMu.Lock()
	defer e.sendMu.Unlock()
	e.mu.Lock()
	for (e.next-e.base >= int64(len(e.slots)) || e.paused) && e.finished == nil {
		e.room.Wait()
	}
	if e.finished != nil {
		err := e.finished
		e.mu.Unlock()
		return err
	}
	seq := e.next
	flags := uint64(0)
	if e.cfg.Agent && seq == 0 {
		flags = agentmsg.SYN
	}
	s := &e.slots[seq%int64(len(e.slots))]
	s.frame = agentmsg.Append(s.frame[:0], &agentmsg.Message{Type: e.sendType, Sequence: seq, Flags: flags,
		ID: agentmsg.NewUUID(), PayloadType: payloadType, Payload: payload})
	s.acked, s.resends, s.tries, s.sent = false, 0, 0, time.Now()
	e.next++
	frame := s.frame // the slot is not used again while this message is unacknowledged, and it cannot be acknowledged before
	e.mu.Unlock()
	if e.pace.most > 0 {
		e.pace.wait(e.ctx)
		e.mu.Lock()
		s.sent = time.Now()
		e.mu.Unlock()
	}
	e.sent.Add(1)
	if c := e.conn.Load(); c != nil {
		_ = c.Send(websocket.Binary, frame)
	}
	return nil
}

func (e *End) resendLoop() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-tick.C:
			e.resendOverdue()
		}
	}
}

// resendOverdue sends again what has waited longer than the timeout, doubled for each time it has been resent, or was never
// sent on this connection: the oldest first and not all at once. (Everything at once, time and again, keeps a peer whose
// connection is cut every so many bytes from ever getting the one it waits for.)
func (e *End) resendOverdue() {
	var frame []byte
	e.mu.Lock()
	from, to := e.base, e.next
	e.mu.Unlock()
	for seq, n := from, 0; seq < to && n < resendBurst; seq++ {
		c := e.conn.Load()
		if c == nil {
			return
		}
		e.mu.Lock()
		s := &e.slots[seq%int64(len(e.slots))]
		due := seq >= e.base && !s.acked && !e.paused && e.finished == nil &&
			time.Since(s.sent) > min(maxTimeout, e.timeout<<min(s.resends, 6))
		if full := e.next-e.base == int64(len(e.slots)); due && e.cfg.GiveUp && s.tries >= giveUp && (full || e.newest.After(s.sent)) {
			s.acked, due = true, false
			e.advance()
		}
		if due {
			frame = append(frame[:0], s.frame...)
			s.resends++
			s.tries++
			s.sent = time.Now()
		}
		e.mu.Unlock()
		if !due {
			continue
		}
		n++
		e.pace.wait(e.ctx)
		e.resent.Add(1)
		if c.Send(websocket.Binary, frame) != nil {
			return
		}
	}
}

// pacer lets at most so many messages go in any window.
type pacer struct {
	most  int
	mu    sync.Mutex
	times []time.Time // of the last `most` messages, a ring
	at    int
}

const paceWindow = 2*time.Second + 50*time.Millisecond // a little more than the service's, for what jitter compresses

func (p *pacer) wait(ctx context.Context) {
	if p.most == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = make([]time.Time, p.most)
	}
	if left := paceWindow - time.Since(p.times[p.at]); left > 0 && !p.times[p.at].IsZero() {
		select {
		case <-ctx.Done():
		case <-time.After(left):
		}
	}
	p.times[p.at] = time.Now()
	p.at = (p.at + 1) % p.most
}
