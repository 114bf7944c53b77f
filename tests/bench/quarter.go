package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/tools/plugintest"
)

// This file measures a task of Fargate's smallest size: a quarter of a core and 512 MiB by a control group. The target, the
// gateway and the clients are outside of it.

var smallest = options{namespaces: true, limits: true, limited: true, env: map[string]string{"FUMIDAI_MAX_SESSIONS": "64", "ECS_TST_LOG_LEVEL": "info"}}

const taskMemory = 512 << 20

// quarter is 32 sessions at the service's full rate at once.
func (b *bench) quarter(ctx context.Context) error {
	const sessions = 32
	s, err := newSite(ctx, smallest)
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(pour)
	if err != nil {
		return err
	}
	all := make([]*session, sessions)
	counts := make([]atomic.Int64, sessions)
	for i := range all {
		if all[i], err = s.session(ctx, port, false); err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
	}
	for i, n := range all {
		c, err := n.dial()
		if err != nil {
			return err
		}
		go func() {
			buffer := make([]byte, 64<<10)
			for {
				k, err := c.Read(buffer)
				if counts[i].Add(int64(k)); err != nil {
					return
				}
			}
		}()
	}
	time.Sleep(5 * time.Second) // what they may send beyond their rate after quiet
	group, cpu, began := s.group(), s.cpu(), time.Now()
	throttled := group.Throttled()
	before := make([]int64, sessions)
	for i := range counts {
		before[i] = counts[i].Load()
	}
	time.Sleep(b.quarterTime)
	took := time.Since(began)
	shares := make([]float64, sessions)
	for i := range counts {
		shares[i] = 100 * float64(counts[i].Load()-before[i]) / (took.Seconds() * pace * 1024)
	}
	used := 100 * (s.cpu() - cpu).Seconds() / took.Seconds()
	cutOffs := 0
	for _, n := range all {
		cutOffs += n.Stats().Agent.CutOffs
	}
	least, peak := slices.Min(shares), group.PeakMemory()
	b.row(fmt.Sprintf("%d sessions at full rate in a quarter of a core, for %v: the slowest one's share of what the limit allows", sessions, b.quarterTime), "≥ 95%",
		fmt.Sprintf("%.1f%%, median %.1f%%", least, median(shares)), "", least >= 95, more(least))
	b.row("how often one of these was cut off", "0", fmt.Sprint(cutOffs), "", cutOffs == 0)
	b.row("CPU of all of them", "≤ 25% of a core", fmt.Sprintf("%.1f%%, %.2f%% a session, out of time in %.0f%% of the periods", used, used/sessions,
		100*float64(group.Throttled()-throttled)/(took.Seconds()*10)), "33% for one", used <= 25.5, less(used/median(shares)*100))
	b.row("memory of that task at its peak", "≤ 512 MiB", fmt.Sprintf("%.0f MiB", float64(peak)/(1<<20)), "", peak < taskMemory && group.OOMKills() == 0, less(float64(peak)/(1<<20)))
	return nil
}

// manyStreams is 64 sessions with 1,000 open streams each, or as many sessions as this machine has descriptors for: then what
// 64 would take follows from what these take.
func (b *bench) manyStreams(ctx context.Context) error {
	const promised, streams, spare = 64, 1000, 1500
	sessions := min(promised, (allowFiles(promised*streams+spare)-spare)/streams)
	s, err := newSite(ctx, smallest)
	if err != nil {
		return err
	}
	defer s.close()
	group := s.group()
	began, idle := time.Now(), group.Memory()
	var open, failed atomic.Int64
	var wait sync.WaitGroup
	for i := range sessions {
		port, err := s.serve(greet) // one each: a target's port can be reached from no more ports than there are
		if err != nil {
			return err
		}
		n, err := s.session(ctx, port, false)
		if err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range streams {
				c, err := n.dial()
				if err == nil {
					_, err = io.ReadFull(c, make([]byte, 1))
				}
				if err != nil {
					failed.Add(1)
					continue
				}
				open.Add(1)
			}
		}()
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(3 * time.Minute):
		return fmt.Errorf("%d streams are open after 3 minutes, %d failed", open.Load(), failed.Load())
	}
	took, memory, want := time.Since(began), group.Memory(), int64(sessions*streams)
	each := float64(memory-idle) / float64(max(open.Load(), 1))
	all := float64(idle) + each*promised*streams
	b.row(fmt.Sprintf("%d sessions with %d open streams each in a quarter of a core and 512 MiB: streams that are open", sessions, streams), fmt.Sprint(want),
		fmt.Sprintf("%d, after %.0f s", open.Load(), took.Seconds()), "", open.Load() == want && group.OOMKills() == 0, more(float64(open.Load())))
	b.row("memory of that task with 64 such sessions, the kernel's for its sockets included", "≤ 512 MiB",
		fmt.Sprintf("%.0f MiB, %.1f KiB a stream", all/(1<<20), each/1024), "", all < taskMemory, less(all/(1<<20)))
	if sessions < promised {
		b.note("This machine has descriptors for %d sessions with %d streams: what 64 would take is reckoned from what a stream takes.", sessions, streams)
	}
	return nil
}

// allowFiles makes room for n descriptors in this program and in what it starts, and returns how many there are.
func allowFiles(n int) int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	if limit.Max < uint64(n) && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(n), Max: uint64(n)}) == nil {
		return n
	}
	return int(limit.Max) //nolint:gosec // small
}

// firstByteOfPlugin is a whole session by AWS's client, from StartSession to the target's first byte, the program's start
// included; and one by a client that comes after the agent's first message to it was lost, as it is when a gateway keeps nothing
// for a side that has never come.
func (b *bench) firstByteOfPlugin(ctx context.Context) error {
	took, err := firstBytes(ctx, gateway.AwayHoldFirst, (*site).firstByteWithPlugin)
	if err != nil {
		return err
	}
	b.row(fmt.Sprintf("StartSession to the target's first byte, plugin, its start included, median of %d", len(took)), "≤ 60 ms",
		fmt.Sprintf("%s (worst %s)", ms(took.median()), ms(took.quantile(1))), "438 ms", took.median() <= 60*time.Millisecond, inMS(took.median()))
	if took, err = firstBytes(ctx, gateway.AwayDrop, (*site).firstByteAfterLoss); err != nil {
		return err
	}
	b.row(fmt.Sprintf("a client's coming to the target's first byte, when the agent's first message was lost, median of %d", len(took)), "≤ 60 ms",
		fmt.Sprintf("%s (worst %s)", ms(took.median()), ms(took.quantile(1))), "", took.median() <= 60*time.Millisecond, inMS(took.median()))
	return nil
}

func firstBytes(ctx context.Context, policy gateway.AwayPolicy, once func(*site, context.Context, client.Options) (from, to time.Time, err error)) (times, error) {
	s, err := newSite(ctx, options{})
	if err != nil {
		return nil, err
	}
	defer s.close()
	s.Gateway.Set(func(g *gateway.Settings) { g.Away = policy })
	port, err := s.serve(greet)
	if err != nil {
		return nil, err
	}
	var took times
	for range 11 {
		began := time.Now()
		o, err := s.api.Start(ctx, s.target, "AWS-StartPortForwardingSession", map[string][]string{"portNumber": {port}})
		if err != nil {
			return nil, err
		}
		from, to, err := once(s, ctx, o)
		if err != nil {
			return nil, err
		}
		if from.IsZero() {
			from = began
		}
		took = append(took, to.Sub(from))
		if err := s.api.Terminate(ctx, o.SessionID); err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return took, nil
}

func (s *site) firstByteWithPlugin(ctx context.Context, o client.Options) (from, to time.Time, err error) {
	p, err := plugintest.Start(ctx, plugintest.Options{Session: o, Target: s.target, Region: s.Region, Endpoint: s.api.URL, Env: s.ToolEnv(false)})
	if err != nil {
		return from, to, err
	}
	defer p.Kill()
	c, err := p.Dial()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	return from, time.Now(), err
}

// firstByteAfterLoss waits until the agent's first message is lost and some time more; what it measures begins then.
func (s *site) firstByteAfterLoss(ctx context.Context, o client.Options) (from, to time.Time, err error) {
	for began := time.Now(); s.Gateway.Session(o.SessionID).Stats().Client.Dropped == 0; time.Sleep(time.Millisecond) {
		if time.Since(began) > 5*time.Second {
			return from, to, errors.New("the agent has sent nothing")
		}
	}
	time.Sleep(50 * time.Millisecond)
	from = time.Now()
	n, err := client.Open(ctx, o)
	if err != nil {
		return from, to, err
	}
	defer n.Close()
	c, err := n.Dial()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	return from, time.Now(), err
}
