package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pace     = 960  // FUMIDAI_MAX_MESSAGES_PER_SECOND's default
	awsSpeed = 0.69 // MB/s, AWS's agent through its plugin, measured
)

// --- servers -------------------------------------------------------------------------------------------------------------

var zeros [256 << 10]byte

func pour(c net.Conn) {
	for {
		if _, err := c.Write(zeros[:]); err != nil {
			return
		}
	}
}

func greet(c net.Conn) {
	_, _ = c.Write([]byte{1})
	_, _ = io.Copy(io.Discard, c)
}

func echo(c net.Conn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// --- statistics ----------------------------------------------------------------------------------------------------------

type times []time.Duration

func (t times) quantile(q float64) time.Duration {
	s := slices.Sorted(slices.Values(t))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func (t times) median() time.Duration { return t.quantile(.5) }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func p50p99(t times) []figure {
	p50, p99 := inMS(t.median()), inMS(t.quantile(.99))
	p50.name, p99.name = "p50", "p99"
	return []figure{p50, p99}
}

// roundTrips sends one byte and waits for one, n times.
func roundTrips(c io.ReadWriter, n int, between time.Duration) (times, error) {
	var one [1]byte
	var all times
	for i := range n + n/10 {
		began := time.Now()
		if _, err := c.Write(one[:]); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(c, one[:]); err != nil {
			return nil, err
		}
		if i >= n/10 { // the first are to warm up
			all = append(all, time.Since(began))
		}
		time.Sleep(between)
	}
	return all, nil
}

// --- idle ----------------------------------------------------------------------------------------------------------------

func (b *bench) idle(ctx context.Context, relay, what string, goal int64) error {
	s, err := newSite(ctx, options{namespaces: true, env: map[string]string{"FUMIDAI_RELAY": relay}})
	if err != nil {
		return err
	}
	defer s.close()
	time.Sleep(3 * time.Second)
	before := s.cpu()
	time.Sleep(b.idleTime)
	share := 100 * (s.cpu() - before).Seconds() / b.idleTime.Seconds()
	memory, err := s.memory()
	if err != nil {
		return err
	}
	b.row(what+": memory (PSS of all processes)", fmt.Sprintf("≤ %.1f MiB", float64(goal)/(1<<20)), fmt.Sprintf("%.2f MiB", float64(memory)/(1<<20)),
		"38.9 MB", memory <= goal, less(float64(memory)/(1<<20)))
	limit := .1
	b.row(fmt.Sprintf("%s: CPU over %v", what, b.idleTime), fmt.Sprintf("≤ %.1f%% of a core", limit), fmt.Sprintf("%.3f%%", share), "", share <= limit, less(share))
	return nil
}

func (b *bench) idleWatching(ctx context.Context) error {
	return b.idle(ctx, "off", "idle, watching AWS's exec agent", 3<<19)
}

func (b *bench) idleRelay(ctx context.Context) error {
	return b.idle(ctx, "on", "idle, as relay", 8<<20/10)
}

func (b *bench) memoryOfSession(ctx context.Context) error {
	s, err := newSite(ctx, options{namespaces: false})
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(echo)
	if err != nil {
		return err
	}
	time.Sleep(time.Second)
	const sessions = 4
	before, err := s.memory()
	if err != nil {
		return err
	}
	for range sessions {
		n, err := s.session(ctx, port, false)
		if err != nil {
			return err
		}
		for range 10 {
			c, err := n.dial()
			if err != nil {
				return err
			}
			if _, err := roundTrips(c, 10, 0); err != nil {
				return err
			}
		}
	}
	time.Sleep(time.Second)
	after, err := s.memory()
	if err != nil {
		return err
	}
	each := float64(after-before) / sessions / 1024
	b.row("memory of a session with 10 quiet streams (mean of 4)", "≤ 256 KiB", fmt.Sprintf("%.0f KiB", each), "about 20 MB", each <= 256, less(each))
	return nil
}

// --- latency -------------------------------------------------------------------------------------------------------------

// startUp is how long after its execution a task's control channel is open.
func (b *bench) startUp(ctx context.Context) error {
	var took times
	for range 10 {
		s, err := newSite(ctx, options{})
		if err != nil {
			return err
		}
		text, err := os.ReadFile(s.started)
		connected := <-s.connected
		s.close()
		if err != nil {
			return err
		}
		ns, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		took = append(took, connected.Sub(time.Unix(0, ns)))
	}
	b.row("execution to open control channel, median of 10", "≤ 20 ms", ms(took.median()), "1,062 ms", took.median() <= 20*time.Millisecond, inMS(took.median()))
	return nil
}

// firstByte is a whole session from StartSession to the target's first byte, by a client that loses no time.
func (b *bench) firstByte(ctx context.Context) error {
	s, err := newSite(ctx, options{})
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(greet)
	if err != nil {
		return err
	}
	var took times
	for range 21 {
		began := time.Now()
		n, err := s.session(ctx, port, false)
		if err != nil {
			return err
		}
		c, err := n.dial()
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
		took = append(took, time.Since(began))
		n.close()
	}
	b.row("StartSession to the target's first byte, own client, its time included, median of 21", "< 20 ms", ms(took.median()), "438 ms",
		took.median() < 20*time.Millisecond, inMS(took.median()))
	return nil
}

// roundTrip is a byte there and back, and what of that is the relay's: the rest is taken by an agent in its place that
// sends back at once what it is sent, and by the way to the target and back.
func (b *bench) roundTrip(ctx context.Context) error {
	s, err := newSite(ctx, options{})
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(echo)
	if err != nil {
		return err
	}
	mirror := s.mirror(ctx)
	if err := s.Gateway.WaitConnected(mirror.target, 5*time.Second); err != nil {
		return err
	}
	direct, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	defer direct.Close() //nolint:errcheck // a benchmark's
	connections := make([]io.ReadWriter, 0, 3)
	for _, at := range []*site{s, mirror} {
		n, err := at.session(ctx, port, false)
		if err != nil {
			return err
		}
		c, err := n.dial()
		if err != nil {
			return err
		}
		connections = append(connections, c)
	}
	connections = append(connections, direct)
	// In turns, so that what else this machine does falls on all alike.
	const turns, each = 20, 100
	var all [3]times
	var cpu time.Duration
	for range turns {
		for i, c := range connections {
			before := s.cpu()
			t, err := roundTrips(c, each, 0)
			if err != nil {
				return err
			}
			all[i] = append(all[i], t...)
			if i == 0 {
				cpu += s.cpu() - before
			}
		}
	}
	share := func(q float64) time.Duration {
		return all[0].quantile(q) - all[1].quantile(q) - all[2].quantile(q)
	}
	b.row("one byte and back, own client: p50 / p99", "", ms(all[0].median())+" / "+ms(all[0].quantile(.99)), "1.8 ms", true, p50p99(all[0])...)
	b.row("the relay's share of it: p50", "< 0.1 ms", ms(share(.5)), "", share(.5) < 100*time.Microsecond, inMS(share(.5)))
	b.row("the relay's share of it: p99", "< 0.3 ms", ms(share(.99)), "", share(.99) < 300*time.Microsecond, inMS(share(.99)))
	b.row("processor time of the relay for one byte and back", "", ms(cpu/(turns*each*11/10)), "", true, inMS(cpu/(turns*each*11/10)))
	b.note("Without the relay, with a mirror in its place: %s / %s; to the target directly: %s / %s. The share is the difference of these, at the same quantile.",
		ms(all[1].median()), ms(all[1].quantile(.99)), ms(all[2].median()), ms(all[2].quantile(.99)))
	return nil
}

// pluginRoundTrip is a new connection's first byte there and back, and then another's, through AWS's client.
func (b *bench) pluginRoundTrip(ctx context.Context) error {
	s, err := newSite(ctx, options{})
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(echo)
	if err != nil {
		return err
	}
	n, err := s.session(ctx, port, true)
	if err != nil {
		return err
	}
	defer n.close()
	var connects, trips times
	for range 30 {
		began := time.Now()
		c, err := n.dial()
		if err != nil {
			return err
		}
		if _, err := roundTrips(c, 1, 0); err != nil {
			return err
		}
		connects = append(connects, time.Since(began))
		more, err := roundTrips(c, 30, 3*time.Millisecond) // its pause after each message is over then
		if err != nil {
			return err
		}
		trips = append(trips, more...)
		_ = c.Close()
	}
	b.row("plugin: connect, one byte and back, median of 30", "", ms(connects.median()), "3.5 ms", true, inMS(connects.median()))
	b.row("plugin: one byte and back: p50 / p99", "", ms(trips.median())+" / "+ms(trips.quantile(.99)), "1.8 ms", true, p50p99(trips)...)
	return nil
}

// --- with the service's limit ---------------------------------------------------------------------------------------------

func (b *bench) limited(ctx context.Context) error {
	s, err := newSite(ctx, options{limited: true})
	if err != nil {
		return err
	}
	defer s.close()
	steps := []func(context.Context, *site) error{b.limitedAnswer, b.limitedDownload, b.limitedRoundTrip}
	for _, step := range steps {
		if err := step(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) limitedDownload(ctx context.Context, s *site) error {
	port, err := s.serve(pour)
	if err != nil {
		return err
	}
	n, err := s.session(ctx, port, true)
	if err != nil {
		return err
	}
	defer n.close()
	c, err := n.dial()
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c, 3*pace*1024); err != nil { // what it may send beyond its rate after quiet
		return err
	}
	began, bytes, first := time.Now(), int64(0), n.Stats().Agent
	buffer := make([]byte, 64<<10)
	before := s.cpu()
	for time.Since(began) < b.seconds {
		k, err := c.Read(buffer)
		if err != nil {
			return err
		}
		bytes += int64(k)
	}
	took := time.Since(began)
	cpu := 100 * (s.cpu() - before).Seconds() / took.Seconds()
	share := 100 * float64(bytes) / (took.Seconds() * pace * 1024)
	st := n.Stats()
	b.row(fmt.Sprintf("with the limit, plugin: download for %v, of what %d messages a second allow", b.seconds, pace), "≥ 97%", fmt.Sprintf("%.1f%%", share),
		"", share >= 97, more(share))
	sent := float64(st.Agent.StreamData - first.StreamData)
	b.note("%.1f messages a second, %.1f bytes of payload in each; %d sent again.", sent/took.Seconds(), float64(st.Agent.PayloadBytes-first.PayloadBytes)/sent,
		st.Agent.Resent-first.Resent)
	b.row("times it was cut off; most messages in any 2 s", "0; ≤ 2,000", fmt.Sprintf("%d; %d", st.Agent.CutOffs, st.Agent.MostInWindow), "",
		st.Agent.CutOffs == 0 && st.Agent.MostInWindow <= 2000)
	b.row("CPU at the service's full rate", "≤ 25% of a core", fmt.Sprintf("%.2f%%", cpu), "33%", cpu <= 25, less(cpu))
	return nil
}

// limitedAnswer asks a question after some quiet and times the answer from its first byte to its last.
func (b *bench) limitedAnswer(ctx context.Context, s *site) error {
	const size = 512_000
	port, err := s.serve(func(c net.Conn) {
		answer := make([]byte, size)
		for {
			if _, err := io.ReadFull(c, answer[:1]); err != nil {
				return
			}
			_, _ = c.Write(answer)
		}
	})
	if err != nil {
		return err
	}
	n, err := s.session(ctx, port, true)
	if err != nil {
		return err
	}
	defer n.close()
	c, err := n.dial()
	if err != nil {
		return err
	}
	var took times
	for range 7 {
		time.Sleep(3 * time.Second)
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return err
		}
		began := time.Now()
		if _, err := io.CopyN(io.Discard, c, size-1); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	b.row("with the limit, plugin: 512 KB on a quiet session after the first byte, median of 7 (worst)", "< 100 ms",
		fmt.Sprintf("%s (%s)", ms(took.median()), ms(took.quantile(1))), "740 ms at its speed", took.median() < 100*time.Millisecond, inMS(took.median()))
	return nil
}

func (b *bench) limitedRoundTrip(ctx context.Context, s *site) error {
	// One target for both, told apart by what is said first.
	port, err := s.serve(func(c net.Conn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		if first[0] == 'p' {
			pour(c)
		}
		echo(c)
	})
	if err != nil {
		return err
	}
	n, err := s.session(ctx, port, true)
	if err != nil {
		return err
	}
	defer n.close()
	bulk, err := n.dial()
	if err != nil {
		return err
	}
	small, err := n.dial()
	if err != nil {
		return err
	}
	if _, err := bulk.Write([]byte("p")); err != nil {
		return err
	}
	if _, err := small.Write([]byte("e")); err != nil {
		return err
	}
	go io.Copy(io.Discard, bulk) //nolint:errcheck // until the end
	time.Sleep(3 * time.Second)
	t, err := roundTrips(small, 500, 10*time.Millisecond)
	if err != nil {
		return err
	}
	b.row("with the limit, plugin: one byte and back beside a download: p50 / p99", "p99 ≤ 25 ms", ms(t.median())+" / "+ms(t.quantile(.99)), "",
		t.quantile(.99) <= 25*time.Millisecond, p50p99(t)...)
	return nil
}

// --- without it ----------------------------------------------------------------------------------------------------------

// speed is what a transfer has given.
type speed struct {
	megabytes float64 // a second
	cpu       float64 // seconds a gigabyte
}

// transfer moves bytes through a session's new connection and counts.
func (s *site) transfer(n *session, bytes int64, up bool) (speed, error) {
	c, err := n.dial()
	if err != nil {
		return speed{}, err
	}
	defer c.Close() //nolint:errcheck // a benchmark's
	move := func(k int64) error {
		if !up {
			_, err := io.CopyN(io.Discard, c, k)
			return err
		}
		for k > 0 {
			w, err := c.Write(zeros[:min(k, 64<<10)])
			if err != nil {
				return err
			}
			k -= int64(w)
		}
		return nil
	}
	if err := move(bytes / 20); err != nil {
		return speed{}, err
	}
	began, cpu := time.Now(), s.cpu()
	if err := move(bytes); err != nil {
		return speed{}, err
	}
	took := time.Since(began).Seconds()
	return speed{float64(bytes) / 1e6 / took, (s.cpu() - cpu).Seconds() / float64(bytes) * 1e9}, nil
}

func (b *bench) unlimitedPlugin(ctx context.Context) error {
	s, err := newSite(ctx, options{})
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(pour)
	if err != nil {
		return err
	}
	n, err := s.session(ctx, port, true)
	if err != nil {
		return err
	}
	defer n.close()
	var rate, cpu []float64
	for range b.repeats {
		v, err := s.transfer(n, 60e6, false)
		if err != nil {
			return err
		}
		rate, cpu = append(rate, v.megabytes), append(cpu, v.cpu)
	}
	times := median(rate) / awsSpeed
	b.row(fmt.Sprintf("without it, plugin: download, median of %d", b.repeats), "≥ 20 × AWS's agent", fmt.Sprintf("%.1f MB/s, %.0f ×", median(rate), times), "0.69 MB/s", times >= 20, more(median(rate)))
	b.row("CPU of that, with the plugin", "≤ 10 s/GB", fmt.Sprintf("%.2f s/GB", median(cpu)), "298 s/GB", median(cpu) <= 10, less(median(cpu)))
	return nil
}

func (b *bench) unlimited(ctx context.Context) error {
	for _, up := range []bool{false, true} {
		s, n, undo, err := b.bulk(ctx, up, "")
		if err != nil {
			return err
		}
		var rate, cpu []float64
		for range b.repeats {
			v, err := s.transfer(n, 200e6, up)
			if err != nil {
				undo()
				return err
			}
			rate, cpu = append(rate, v.megabytes), append(cpu, v.cpu)
		}
		undo()
		core := 1000 / median(cpu)
		b.row(fmt.Sprintf("without it, own client: %s, the relay on one core that others use too, median of %d", way(up), b.repeats), "≥ 100 MB/s",
			fmt.Sprintf("%.0f MB/s", median(rate)), "0.69 MB/s", median(rate) >= 100, more(median(rate)))
		b.row("what a core of the relay's own would carry (1 / CPU), "+way(up), "≥ 100 MB/s", fmt.Sprintf("%.0f MB/s", core), "3.4 MB/s", core >= 100, more(core))
		b.row("CPU of that, "+way(up), "≤ 10 s/GB", fmt.Sprintf("%.2f s/GB", median(cpu)), "298 s/GB", median(cpu) <= 10, less(median(cpu)))
	}
	return nil
}

func way(up bool) string { return map[bool]string{false: "download", true: "upload"}[up] }

// bulk is a session for large transfers by the own client, the task's processes on the last processor only.
func (b *bench) bulk(ctx context.Context, up bool, binary string) (*site, *session, func(), error) {
	s, err := newSite(ctx, options{binary: binary})
	if err != nil {
		return nil, nil, nil, err
	}
	server := pour
	if up {
		server = func(c net.Conn) {
			buffer := make([]byte, 256<<10)
			for {
				if _, err := c.Read(buffer); err != nil {
					return
				}
			}
		}
	}
	port, err := s.serve(server)
	if err == nil {
		err = s.pin(runtime.NumCPU() - 1)
	}
	var n *session
	if err == nil {
		n, err = s.session(ctx, port, false)
	}
	if err != nil {
		s.close()
		return nil, nil, nil, err
	}
	return s, n, s.close, nil
}

func (s *site) pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	for _, pid := range s.processes() {
		if err := unix.SchedSetaffinity(pid, &set); err != nil {
			return err
		}
	}
	return nil
}

// --- where the time goes -------------------------------------------------------------------------------------------------

// profile is the share of each function in the relay's processor time.
func (b *bench) profile(ctx context.Context) error {
	if _, err := exec.LookPath("perf"); err != nil || symbols == "" {
		b.note("No profile: perf (package linux-perf) is not there.")
		return nil
	}
	for _, up := range []bool{false, true} {
		s, n, undo, err := b.bulk(ctx, up, symbols)
		if err != nil {
			return err
		}
		text, err := s.record(ctx, n, up)
		undo()
		if err != nil {
			b.note("No profile: %v", err)
			return nil
		}
		fmt.Fprintf(&b.profiles, "## Where the relay's time goes: %s\n\n```\n%s```\n\n", way(up), text)
	}
	return nil
}

func (s *site) record(ctx context.Context, n *session, up bool) (string, error) {
	dir, err := os.MkdirTemp("", "profile-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary
	pids := s.processes()
	data := filepath.Join(dir, "perf.data")
	perf := exec.CommandContext(ctx, "perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-p", strconv.Itoa(pids[len(pids)-1]), "-o", data)
	if err := perf.Start(); err != nil {
		return "", err
	}
	time.Sleep(300 * time.Millisecond)
	_, err = s.transfer(n, 300e6, up)
	_ = perf.Process.Signal(unix.SIGINT)
	_ = perf.Wait()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "perf", "report", "-i", data, "--stdio", "-q", "--no-children", "--sort", "dso,symbol").Output()
	if err != nil {
		return "", fmt.Errorf("perf report: %w", err)
	}
	return top(string(out), 25)
}

// top is the first lines of a report, and what each object has altogether.
func top(report string, lines int) (string, error) {
	var text strings.Builder
	total := map[string]float64{}
	for _, line := range strings.Split(report, "\n") {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasSuffix(f[0], "%") {
			continue
		}
		share, _ := strconv.ParseFloat(strings.TrimSuffix(f[0], "%"), 64)
		total[f[1]] += share
		if lines--; lines >= 0 {
			fmt.Fprintf(&text, "%6.2f%%  %-18s %s\n", share, f[1], f[3]) // f[2] is [.] or [k]
		}
	}
	if text.Len() == 0 {
		return "", errors.New("perf has seen nothing")
	}
	var sums []string
	for name, share := range total {
		sums = append(sums, fmt.Sprintf("%s %.1f%%", name, share))
	}
	slices.Sort(sums)
	return text.String() + "altogether: " + strings.Join(sums, ", ") + "\n", nil
}
