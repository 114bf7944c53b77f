package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/smux"
)

// This file is what the tests of hostile peers share: a task of Fargate's smallest size, an honest session in it, and what that
// session must not notice.

// honestLimit is what a round trip of the honest session may take, whatever happens beside it: its 99th percentile, of round
// trips that begin each probeEvery. A byte goes through client, gateway, relay, target and back; a busy machine delays each of
// those steps about as much as it delays a round trip between two sockets over loopback, so four times that is allowed for.
const honestLimit = 250 * time.Millisecond

// long says whether the tests of hostile peers run for longer, as they do at night (FUMIDAI_HOSTILE=long).
var long = os.Getenv("FUMIDAI_HOSTILE") == "long"

// smallest is a site whose task has a quarter of a core and 512 MiB, as Fargate's smallest has. The service's rate limit is on,
// and the relay keeps to it.
func smallest(t *testing.T, variables map[string]string, prepare ...func(*site, map[string]string)) *site {
	t.Helper()
	if os.Getuid() != 0 || os.Getenv("FUMIDAI_E2E_AGENT") == "reference" || archive.Root != "" {
		t.Skip("needs root, for namespaces, and the relay")
	}
	group, err := fargate.NewGroup(.25, 64<<20)
	if err != nil {
		t.Skip(err)
	}
	_ = group.Close()
	env := map[string]string{"FUMIDAI_MAX_MESSAGES_PER_SECOND": "960", "ECS_TST_LOG_LEVEL": "info"}
	for k, v := range variables {
		env[k] = v
	}
	s := newSiteIn(t, func(o *emulator.Options) { o.Limits = true }, env, prepare...)
	s.Gateway.Set(func(g *gateway.Settings) { g.Limit.Lifted = false })
	return s
}

// group is the control group of the task.
func (s *site) group() *fargate.Group {
	return s.task.Container(0).(interface{ Group() *fargate.Group }).Group()
}

// relayPID is the relay's process; 0 if there is none just now.
func (s *site) relayPID() int {
	for _, pid := range processes(s.task.Container(0).PID()) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.HasPrefix(string(line), "fumidai-relay") {
			return pid
		}
	}
	return 0
}

// descriptors is how many a process has open.
func descriptors(pid int) int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(list)
}

// cpuTime is the processor time that a process has used, to the nanosecond.
func cpuTime(pid int) (total time.Duration) {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		if f := strings.Fields(string(text)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}

// share is how much of a core a process uses over a time.
func share(pid int, over time.Duration) float64 {
	before := cpuTime(pid)
	time.Sleep(over)
	return (cpuTime(pid) - before).Seconds() / over.Seconds()
}

// beside is an honest session in a relay to which others do something.
type beside struct {
	*site
	pid, files int
	memory0    int64
	limit      time.Duration // of a round trip, honestLimit but where a test says why not
	trips, own *prober       // the honest session's, and this machine's own over loopback, to tell a busy machine from a busy relay
}

// honestly opens the honest session and begins its round trips.
func (s *site) honestly() *beside {
	s.Helper()
	at := s.serve(echoBytes)
	d := s.openAt(at)
	c, err := d.dial()
	s.must(err)
	near, far := loopback(s.T)
	go echoBytes(far)
	b := &beside{site: s, trips: probing(c), own: probing(near), limit: honestLimit}
	s.eventually("the first round trips", 10*time.Second, func() bool { return b.trips.count() > 50 })
	b.pid = s.relayPID()
	b.files, b.memory0 = descriptors(b.pid), s.memory()
	return b
}

// openAt is open with the own client, multiplexed, to a server of the test's own.
func (s *site) openAt(at endpoint, adjust ...func(*client.Options)) *dialer {
	s.Helper()
	remote := s.remote
	s.remote = at
	defer func() { s.remote = remote }()
	return s.open(way{where: "remote"}, adjust...)
}

// raw opens a session with a client that does only what it is told.
func (s *site) raw(at endpoint, ack func(*message) bool) *client.Raw {
	s.Helper()
	o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(at.host, at.port))
	s.must(err)
	r, err := client.OpenRaw(s.Context(), o, ack)
	s.must(err)
	s.Cleanup(r.Close)
	return r
}

// leave ends a raw client's session.
func (s *site) leave(r *client.Raw) {
	s.Helper()
	r.Close()
	s.must(s.api.Terminate(s.Context(), r.SessionID))
}

// ended ends the round trips and says what they have noticed.
func (b *beside) ended() {
	b.Helper()
	b.trips.stop()
	b.own.stop()
	b.Logf("honest session: %v; this machine's own, over loopback: %v", b.trips, b.own)
	if b.trips.err != nil {
		b.Errorf("the honest session was disturbed: %v", b.trips.err)
	}
	limit := b.limit + 4*b.own.quantile(.99)
	if p99 := b.trips.quantile(.99); p99 > limit {
		b.Errorf("round trips of the honest session took %v at the 99th percentile, want %v at most", p99.Round(time.Millisecond), limit.Round(time.Millisecond))
	}
	if pid := b.relayPID(); pid != b.pid {
		b.Errorf("the relay was replaced: %d is %d now", b.pid, pid)
	}
	if kills := b.group().OOMKills(); kills > 0 {
		b.Errorf("the kernel has killed %d processes for want of memory", kills)
	}
}

// settled checks that the relay holds no more than before, within a time.
func (b *beside) settled(limit time.Duration) {
	b.Helper()
	const files, memory = 4, 2 << 20 // what an API call may have open, and what a heap keeps
	last := ""
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		f, m := descriptors(b.pid)-b.files, b.memory()-b.memory0
		if f <= files && m <= memory {
			return
		}
		last = fmt.Sprintf("%d descriptors and %d KiB more than before", f, m>>10)
		if time.Now().After(end) {
			b.Errorf("after %v the relay still has %s", limit, last)
			return
		}
	}
}

func echoBytes(c net.Conn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// discard reads whatever comes and says nothing.
func discard(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// firstByte opens a connection to an echo and waits for its first byte.
func (s *site) firstByte(d *dialer) (time.Duration, error) {
	began := time.Now()
	c, err := d.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close() //nolint:errcheck // a test's
	_ = c.(*smux.Stream).SetReadDeadline(began.Add(5 * time.Second))
	if _, err := c.Write([]byte{'x'}); err != nil {
		return 0, err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return time.Since(began), err
}

// loopback is a pair of connected sockets.
func loopback(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

// prober sends a byte and waits for it to come back, again and again, with probeEvery between.
type prober struct {
	c    io.ReadWriteCloser
	end  chan struct{}
	done chan struct{}

	mu      sync.Mutex
	took    []time.Duration // one for each probeEvery that a round trip took: as if one had begun then, too
	pending time.Time       // when the byte was sent that has not come back; zero: none
	err     error
}

const probeEvery = 5 * time.Millisecond

func probing(c io.ReadWriteCloser) *prober {
	p := &prober{c: c, end: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

func (p *prober) run() {
	defer close(p.done)
	var one [1]byte
	for {
		began := time.Now()
		p.note(began, 0, nil)
		_, err := p.c.Write(one[:])
		if err == nil {
			_, err = io.ReadFull(p.c, one[:])
		}
		if err != nil {
			p.note(began, 0, err)
			return
		}
		p.note(time.Time{}, time.Since(began), nil)
		select {
		case <-p.end:
			return
		case <-time.After(probeEvery):
		}
	}
}

func (p *prober) note(pending time.Time, took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = pending
	for ; took > 0; took -= probeEvery {
		p.took = append(p.took, took)
	}
	if p.err == nil {
		p.err = err
	}
}

func (p *prober) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.took)
}

// stop ends it. A byte that has not come back by now counts for as long as it has taken so far.
func (p *prober) stop() {
	close(p.end)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.pending.IsZero() && p.err == nil {
		p.err = fmt.Errorf("a byte has not come back for %v", time.Since(p.pending).Round(time.Millisecond))
	}
	_ = p.c.Close()
}

func (p *prober) quantile(q float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.took) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(p.took))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func (p *prober) String() string {
	return fmt.Sprintf("%d round trips, p50 %v, p99 %v, worst %v", p.count(), p.quantile(.5).Round(10*time.Microsecond),
		p.quantile(.99).Round(10*time.Microsecond), p.quantile(1).Round(10*time.Microsecond))
}

// crowd is several things at once, to be waited for.
type crowd struct{ sync.WaitGroup }

func (c *crowd) run(f func()) {
	c.Add(1)
	go func() {
		defer c.Done()
		f()
	}()
}

// pace lets so many pass a second, in small groups.
type pace struct {
	began time.Time
	n     int
	rate  int
}

func newPace(perSecond int) *pace { return &pace{began: time.Now(), rate: perSecond} }

func (p *pace) wait() {
	p.n++
	if ahead := time.Duration(float64(p.n)/float64(p.rate)*float64(time.Second)) - time.Since(p.began); ahead > 5*time.Millisecond {
		time.Sleep(ahead)
	}
}

type message = agentmsg.Message
