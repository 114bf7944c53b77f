// Package gateway emulates the two services between which a Session Manager session happens: ssmmessages, the message
// gateway (control channels of agents, data channels of sessions, the relay between a session's two data channels), and
// the session calls of ssm.
//
//	client ──► /v1/data-channel/<session>  ─┐                    ┌─ /v1/data-channel/<session>   ◄── agent
//	           (token)                      └── side ◄──► side ──┘  (token, signed)
//	client ──► ssm:StartSession ──► interactive_shell ──► /v1/control-channel/<target> ◄── agent (token, signed)
//
// It is strict with whoever talks to it (every departure from the protocol is kept as a violation, to be asserted
// empty), enforces the service's rate limit, and breaks on demand (faults.go). The relay itself copies a frame once, from
// the reader's buffer to the writer's queue, so that it is not what a benchmark measures.
package gateway

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"fumidai/tests/emulator/websocket"
)

// AwayPolicy says what becomes of a message whose receiver has no data channel at the moment.
type AwayPolicy string

const (
	// AwayHoldFirst keeps messages until the receiver has come for the first time; later ones are dropped, as the
	// protocol's acknowledgements and resends are made for. The default.
	AwayHoldFirst AwayPolicy = "hold-first"
	// AwayHold keeps messages at any time: a receiver that returns gets them and their resends.
	AwayHold AwayPolicy = "hold"
	// AwayDrop drops them at any time: what is sent to a side that has never come is lost. Which of the two the service
	// does nobody has recorded.
	AwayDrop AwayPolicy = "drop"
)

// Limit is the service's rate limit on the stream messages of one side of a session.
type Limit struct {
	Lifted      bool          // no limit at all
	Messages    int           // in any Window
	Window      time.Duration // also the window of the counters
	CountAcks   bool          // whether acknowledgements count, which nobody has measured
	CloseAfter  time.Duration // from the agent's pause_publication to the close of its websocket
	CloseCode   int
	CloseReason string
}

// Settings are the gateway's adjustable properties.
type Settings struct {
	Limit Limit

	IdleTimeout    time.Duration // a session without stream data ends
	ChannelLife    time.Duration // each websocket is closed (1000, "Bye"); the service does it hourly
	TerminateGrace time.Duration // how long a terminated session's channels stay open for the ends to finish
	TokenLife      time.Duration
	FirstFrame     time.Duration // how long a websocket may take to send its token

	Away         AwayPolicy
	AwayMessages int // held for one receiver at most

	Check      bool // verify digest, length, sizes, padding of every message
	QueueBytes int  // queued for one receiver before its sender is not read any more

	// HoldStart lets StartSession succeed that long before the control channel opens: the start message is then the
	// first the agent sees. 0: TargetNotConnected, as the service answers.
	HoldStart time.Duration
	// StartCopies is how many times a start message is delivered; 0 means once.
	StartCopies int
	// PlainURLs leaves the parameter cell-number out of stream URLs, as the service did before 2026.
	PlainURLs bool
	// RefuseUnsigned refuses a client's data channel that is not signed, as AWS says the service will.
	RefuseUnsigned bool
	// NoPublication suppresses start_publication and pause_publication (the rate limit's excepted).
	NoPublication bool
}

// DefaultSettings are the service's, as far as known.
func DefaultSettings() Settings {
	return Settings{
		Limit: Limit{Messages: 2000, Window: 2 * time.Second, CloseAfter: 200 * time.Millisecond,
			CloseCode: websocket.CloseNormal, CloseReason: "Bye"},
		IdleTimeout:    20 * time.Minute,
		ChannelLife:    time.Hour,
		TerminateGrace: 3 * time.Second,
		TokenLife:      time.Minute,
		FirstFrame:     10 * time.Second,
		Away:           AwayHoldFirst,
		AwayMessages:   1024,
		Check:          true,
		QueueBytes:     websocket.DefaultQueueBytes,
	}
}

// Config is what a gateway is made of.
type Config struct {
	// StreamBase is what stream URLs begin with ("wss://ssmmessages.us-east-1.amazonaws.com"); nil: derived from the
	// request that started the session.
	StreamBase func(r *http.Request) string
	// Region and Account are in the ARNs of sessions and documents, for IAM. Target is what IAM knows a target as, and its
	// condition keys; nil: the target itself.
	Region, Account string
	Target          func(target string) (arn string, context map[string][]string)

	Now func() time.Time // dates in answers; nil: time.Now
	Log *slog.Logger     // nil: nowhere
}

// Gateway is the two services' state.
type Gateway struct {
	cfg Config

	settings atomic.Pointer[Settings]
	faults   atomic.Pointer[Faults]
	dice     dice

	mu        sync.Mutex
	targets   map[string]*target
	sessions  map[string]*Session
	order     []*Session
	tokens    map[string]token
	documents map[string]Document
	open      map[*websocket.Conn]struct{} // every websocket, for Restart
	downUntil time.Time

	stop     chan struct{}
	stopOnce sync.Once
}

type tokenKind int

const (
	controlToken tokenKind = iota
	agentToken
	clientToken
)

type token struct {
	kind    tokenKind
	channel string // target or session
	expires time.Time
}

// New starts a gateway. Close ends it.
func New(cfg Config) *Gateway {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{cfg: cfg, targets: map[string]*target{}, sessions: map[string]*Session{}, tokens: map[string]token{},
		documents: builtinDocuments(), open: map[*websocket.Conn]struct{}{}, stop: make(chan struct{})}
	settings := DefaultSettings()
	g.settings.Store(&settings)
	g.SetFaults(Faults{})
	go g.janitor()
	return g
}

// Close ends every websocket and the gateway's own goroutines.
func (g *Gateway) Close() {
	g.stopOnce.Do(func() { close(g.stop) })
	g.abortAll()
}

// Settings returns a copy of the current settings.
func (g *Gateway) Settings() Settings { return *g.settings.Load() }

// Set changes settings; they hold for what happens from now on.
func (g *Gateway) Set(change func(*Settings)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := *g.settings.Load()
	change(&s)
	g.settings.Store(&s)
}

func (g *Gateway) logf(format string, args ...any) { g.cfg.Log.Info(fmt.Sprintf(format, args...)) }

// Restart is the whole gateway going away: every websocket dies at once, tokens are void, and for the given time every
// request is answered 503. Sessions are remembered, as the service remembers them.
func (g *Gateway) Restart(down time.Duration) {
	g.mu.Lock()
	g.tokens = map[string]token{}
	g.downUntil = time.Now().Add(down)
	g.mu.Unlock()
	g.logf("gateway restart, down for %v", down)
	g.abortAll()
}

// ExpireTokens voids every token that has been handed out and not used.
func (g *Gateway) ExpireTokens() {
	g.mu.Lock()
	g.tokens = map[string]token{}
	g.mu.Unlock()
}

func (g *Gateway) abortAll() {
	g.mu.Lock()
	all := make([]*websocket.Conn, 0, len(g.open))
	for c := range g.open {
		all = append(all, c)
	}
	g.mu.Unlock()
	for _, c := range all {
		c.Abort()
	}
}

func (g *Gateway) track(c *websocket.Conn, on bool) {
	g.mu.Lock()
	if on {
		g.open[c] = struct{}{}
	} else {
		delete(g.open, c)
	}
	g.mu.Unlock()
}

func (g *Gateway) isDown() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.downUntil)
}

// issueToken makes a token for one use. A faulty one is expired from the start.
func (g *Gateway) issueToken(kind tokenKind, channel string) string {
	var raw [150]byte
	_, _ = rand.Read(raw[:])
	value := "AAEAA" + base64.StdEncoding.EncodeToString(raw[:])
	life := g.settings.Load().TokenLife
	if g.dice.hit(g.faults.Load().ExpireTokens) {
		life = -1
	}
	g.mu.Lock()
	g.tokens[value] = token{kind, channel, time.Now().Add(life)}
	g.mu.Unlock()
	return value
}

// useToken takes a token out of circulation and says whether it is good for a channel.
func (g *Gateway) useToken(value, channel string) (tokenKind, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.tokens[value]
	delete(g.tokens, value)
	switch {
	case !ok:
		return 0, fmt.Errorf("unknown or used token")
	case t.channel != channel:
		return 0, fmt.Errorf("token of another channel")
	case time.Now().After(t.expires):
		return 0, fmt.Errorf("expired token")
	}
	return t.kind, nil
}

// cellNumber is like the service's: base64 in which every special character may be, and here is.
func cellNumber() string {
	var raw [30]byte
	_, _ = rand.Read(raw[:])
	return "AAEA" + base64.StdEncoding.EncodeToString(raw[:]) + "+/=="
}

func randomHex(n int) string {
	raw := make([]byte, (n+1)/2)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)[:n]
}

// Session returns a session by its id, nil if there is none.
func (g *Gateway) Session(id string) *Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[id]
}

// Sessions returns all sessions, oldest first; those of one target, if target is not empty.
func (g *Gateway) Sessions(target string) []*Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*Session
	for _, s := range g.order {
		if target == "" || s.Target == target {
			list = append(list, s)
		}
	}
	return list
}

// Connected says whether a target's control channel is open.
func (g *Gateway) Connected(target string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.targets[target]
	return t != nil && t.channel != nil
}

// Targets lists the targets whose control channel is open.
func (g *Gateway) Targets() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	for id, t := range g.targets {
		if t.channel != nil {
			list = append(list, id)
		}
	}
	sort.Strings(list)
	return list
}

// WaitConnected waits until a target's control channel is open.
func (g *Gateway) WaitConnected(target string, timeout time.Duration) error {
	for end := time.Now().Add(timeout); ; time.Sleep(time.Millisecond) {
		if g.Connected(target) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no control channel of %s within %v", target, timeout)
		}
	}
}

// janitor ends what has been idle or open for too long.
func (g *Gateway) janitor() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-g.stop:
			return
		case now := <-tick.C:
			settings := g.settings.Load()
			for _, s := range g.Sessions("") {
				s.housekeep(now, settings)
			}
			g.mu.Lock()
			for _, t := range g.targets {
				if t.channel != nil {
					t.channel.housekeep(now, settings.ChannelLife)
				}
			}
			for value, t := range g.tokens {
				if now.After(t.expires.Add(time.Minute)) {
					delete(g.tokens, value)
				}
			}
			g.mu.Unlock()
		}
	}
}
