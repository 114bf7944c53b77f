package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/websocket"
)

// Faults is everything that can be made to go wrong with channels by chance or plan; API calls and opening handshakes have
// the emulator's own switchboard (edge.Faults). All probabilities are between 0 and 1. What
// happens depends on Seed and on the order in which messages pass, which is as reproducible as concurrent peers allow.
type Faults struct {
	Seed uint64
	// Spare is the id of a session to which nothing of what follows happens.
	Spare string

	// To the stream messages and acknowledgements of a data channel, by direction.
	AgentToClient, ClientToAgent Line
	// To the websockets.
	AgentChannel, ClientChannel, ControlChannel Channel
	// ExpireTokens is the probability that a token is void from the start.
	ExpireTokens float64
	// LoseTaskAcknowledge is the probability that an agent_task_complete is taken without agent_task_acknowledge.
	LoseTaskAcknowledge float64
	// LoseTaskComplete is the probability that an agent_task_complete is not taken at all.
	LoseTaskComplete float64
}

// Line is what can happen to messages on their way from one side to the other.
type Line struct {
	LoseData, LoseAcks           float64
	DuplicateData, DuplicateAcks float64
	ReorderData, ReorderAcks     float64
	Delay, Jitter                time.Duration // each message waits Delay and up to Jitter more; order is kept
	// LateBy is how long the first message of payload type LateType waits in addition, as one does whose packet was lost;
	// whatever is sent after it arrives after it.
	LateType uint32
	LateBy   time.Duration
}

// Channel is what can happen to a websocket.
type Channel struct {
	CutBytes  int64   // each connection is reset after so many bytes, both directions together
	CutSpread float64 // by how much that varies: 0.5 means between a half and one and a half times CutBytes
	// Bye closes each connection (CloseCode and CloseReason; if there is no code, 1000 and "Bye") at this age, counted from
	// its token. BreakTLS sends bytes then that do not decrypt.
	Bye, BreakTLS time.Duration
	CloseCode     int
	CloseReason   string
	// Deaf reads nothing more once the token has come.
	Deaf bool
	// Mutate is the probability that a message is changed on its way to this end into one that no correct gateway sends.
	Mutate float64
	// StallEvery bytes, the gateway stops reading for StallFor.
	StallEvery int64
	StallFor   time.Duration
}

// dice is the seeded source of all chance.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func (d *dice) seed(n uint64) {
	d.mu.Lock()
	d.rng = rand.New(rand.NewPCG(n, 0x66756d69646169))
	d.mu.Unlock()
}

func (d *dice) hit(probability float64) bool {
	if probability <= 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64() < probability
}

func (d *dice) upTo(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return 1 + d.rng.IntN(n)
}

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

func (d *dice) spread(n int64, by float64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(1, n+int64(float64(n)*by*(2*d.rng.Float64()-1)))
}

func (d *dice) duration(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.rng.Int64N(int64(most)))
}

// SetFaults replaces all faults. Those of websockets take hold of open ones too.
func (g *Gateway) SetFaults(f Faults) {
	g.dice.seed(f.Seed)
	g.faults.Store(&f)
	g.mu.Lock()
	channels := map[*channel]Channel{}
	for _, t := range g.targets {
		if t.channel != nil {
			channels[t.channel] = f.channel(controlToken, "")
		}
	}
	for _, s := range g.sessions {
		for i := range s.sides {
			if c := s.sides[i].channel.Load(); c != nil {
				channels[c] = f.channel(c.kind, s.ID)
			}
			s.sides[i].line.plan.Store(f.line(role(i), s.ID))
		}
	}
	g.mu.Unlock()
	for c, plan := range channels {
		c.arm(g, plan)
	}
}

// Faults returns a copy of the faults in force.
func (g *Gateway) Faults() Faults { return *g.faults.Load() }

func (f *Faults) line(from role, session string) *Line {
	l := &f.AgentToClient
	if from == clientSide {
		l = &f.ClientToAgent
	}
	if *l == (Line{}) || f.spares(session) {
		return nil
	}
	copied := *l
	return &copied
}

func (f *Faults) spares(session string) bool { return f.Spare != "" && f.Spare == session }

func (f *Faults) channel(kind tokenKind, session string) Channel {
	if f.spares(session) {
		return Channel{}
	}
	return [...]Channel{controlToken: f.ControlChannel, agentToken: f.AgentChannel, clientToken: f.ClientChannel}[kind]
}

// channel is one websocket with what is planned for it.
type channel struct {
	kind   tokenKind
	conn   *websocket.Conn
	fuse   *websocket.Fuse
	opened time.Time
	sender atomic.Pointer[sender]

	mu         sync.Mutex
	plans      []*time.Timer
	deaf       bool
	stallEvery int64
	stallFor   time.Duration
	nextStall  int64
}

// arm plans the faults of a connection that has just opened, or anew when they change.
func (c *channel) arm(g *Gateway, f Channel) {
	cut := int64(-1)
	if f.CutBytes > 0 {
		cut = g.dice.spread(f.CutBytes, f.CutSpread)
	}
	c.fuse.CutAfter(cut)
	c.sender.Store(nil)
	if f.Mutate > 0 {
		c.sender.Store(&sender{&g.dice, f.Mutate})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, plan := range c.plans {
		plan.Stop()
	}
	c.plans = nil
	if f.CloseCode == 0 {
		f.CloseCode, f.CloseReason = websocket.CloseNormal, "Bye"
	}
	c.plan(f.Bye, func() { c.conn.CloseWith(f.CloseCode, f.CloseReason) })
	c.plan(f.BreakTLS, func() { edge.BreakTLS(c.fuse) })
	if f.Deaf != c.deaf {
		c.deaf = f.Deaf
		if c.deaf {
			c.fuse.Stall()
		} else {
			c.fuse.Resume()
		}
	}
	c.stallEvery, c.stallFor = f.StallEvery, f.StallFor
	c.nextStall = c.conn.BytesIn() + f.StallEvery
}

// plan does something at an age of the connection; c.mu is held.
func (c *channel) plan(age time.Duration, what func()) {
	if age > 0 {
		c.plans = append(c.plans, time.AfterFunc(age-time.Since(c.opened), what))
	}
}

// end calls off what was planned.
func (c *channel) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, plan := range c.plans {
		plan.Stop()
	}
}

// housekeep carries out what is due: the service's own close, a stall.
func (c *channel) housekeep(now time.Time, life time.Duration) {
	c.mu.Lock()
	stall := c.stallEvery > 0 && c.conn.BytesIn() >= c.nextStall
	if stall {
		c.nextStall = c.conn.BytesIn() + c.stallEvery
	}
	stallFor := c.stallFor
	c.mu.Unlock()
	if stall {
		c.fuse.StallFor(stallFor)
	}
	if life > 0 && now.Sub(c.opened) >= life {
		c.conn.CloseWith(websocket.CloseNormal, "Bye")
	}
}

const (
	reorderMessages = 8                     // a reordered message is overtaken by up to so many
	reorderPatience = 30 * time.Millisecond // and waits no longer than that for them
	lineMessages    = 8192                  // delayed at most; then the sender is not read any more
)

// line is the way from one side to the other: it loses, duplicates, reorders and delays.
type line struct {
	dice    *dice
	deliver func([]byte)

	plan                        atomic.Pointer[Line]
	pending                     atomic.Int64 // messages held back or delayed
	lost, duplicated, reordered atomic.Int64

	mu       sync.Mutex // held while delivering, which may block: nothing but the line itself may want it
	space    sync.Cond
	overdue  []heldBack
	queue    []delayed
	running  bool
	patience bool
	late     bool // the one late message has passed
}

type heldBack struct {
	frame []byte
	after int
}

type delayed struct {
	frame []byte
	due   time.Time
}

// active says whether messages have to take this way at all.
func (l *line) active() bool { return l.plan.Load() != nil || l.pending.Load() > 0 }

// push sends one message on its way. b is copied if it has to stay.
func (l *line) push(b []byte, isAck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	plan := l.plan.Load()
	if plan == nil {
		plan = &Line{}
	}
	lose, duplicate, reorder := plan.LoseData, plan.DuplicateData, plan.ReorderData
	if isAck {
		lose, duplicate, reorder = plan.LoseAcks, plan.DuplicateAcks, plan.ReorderAcks
	}
	switch {
	case l.dice.hit(lose):
		l.lost.Add(1)
	case l.dice.hit(reorder):
		l.reordered.Add(1)
		l.holdBack(b)
		return
	default:
		l.forward(b, plan)
	}
	if l.dice.hit(duplicate) {
		l.duplicated.Add(1)
		l.holdBack(b)
	}
	kept := l.overdue[:0]
	for _, h := range l.overdue {
		if h.after--; h.after > 0 {
			kept = append(kept, h)
			continue
		}
		l.forward(h.frame, plan)
		l.pending.Add(-1)
	}
	l.overdue = kept
}

func (l *line) holdBack(b []byte) {
	l.overdue = append(l.overdue, heldBack{append([]byte(nil), b...), l.dice.upTo(reorderMessages)})
	l.pending.Add(1)
	l.armPatience()
}

// armPatience lets what is held back go although nothing overtakes it.
func (l *line) armPatience() {
	if l.patience {
		return
	}
	l.patience = true
	time.AfterFunc(reorderPatience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.patience = false
		for _, h := range l.overdue {
			l.forward(h.frame, &Line{})
			l.pending.Add(-1)
		}
		l.overdue = nil
	})
}

// forward delivers at once or after the delay; the lock is held, which keeps the order.
func (l *line) forward(b []byte, plan *Line) {
	wait := plan.Delay
	if plan.LateBy > 0 && !l.late && payloadType(b) == plan.LateType {
		l.late = true
		wait += plan.LateBy
	}
	if wait+plan.Jitter == 0 && len(l.queue) == 0 {
		l.deliver(b)
		return
	}
	for len(l.queue) >= lineMessages {
		l.space.Wait()
	}
	due := time.Now().Add(wait + l.dice.duration(plan.Jitter))
	if n := len(l.queue); n > 0 && due.Before(l.queue[n-1].due) {
		due = l.queue[n-1].due
	}
	l.queue = append(l.queue, delayed{append([]byte(nil), b...), due})
	l.pending.Add(1)
	if !l.running {
		l.running = true
		go l.run()
	}
}

// payloadType of stream data; 0 of anything else.
func payloadType(b []byte) uint32 {
	if kind := agentmsg.TypeOf(b); kind != agentmsg.InputStreamData && kind != agentmsg.OutputStreamData {
		return 0
	}
	return binary.BigEndian.Uint32(b[112:])
}

func (l *line) run() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) > 0 {
		if wait := time.Until(l.queue[0].due); wait > 0 {
			l.mu.Unlock()
			time.Sleep(wait)
			l.mu.Lock()
			continue
		}
		first := l.queue[0]
		l.queue = l.queue[1:]
		l.deliver(first.frame)
		l.pending.Add(-1)
		l.space.Broadcast()
	}
	l.queue, l.running = nil, false
}
