package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// This file measures `fumidai forward`: the program at both ends.

// tunnel is a running forward.
type tunnel struct {
	cmd   *exec.Cmd
	port  int
	began time.Time // when it was executed
	ready time.Time
}

// forward runs one to a port.
func (s *site) forward(ctx context.Context, port string, flags ...string) (*tunnel, error) {
	host := s.host
	if host == "" {
		host = "localhost"
	}
	args := append([]string{"forward", "--cluster", "default", "--service", "bench", "--region", s.Region, "--output", "json",
		"-L", "0:" + net.JoinHostPort(host, port)}, flags...)
	t := &tunnel{cmd: exec.CommandContext(ctx, product, args...), began: time.Now()}
	t.cmd.Env = append([]string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH")}, s.ToolEnv(false)...)
	t.cmd.Stderr = os.Stderr
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	s.later(t.close)
	said := ""
	for lines := bufio.NewScanner(out); lines.Scan(); said = lines.Text() {
		var e struct {
			Event    string
			Forwards []struct{ Port int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		if e.Event == "ready" {
			t.ready, t.port = time.Now(), e.Forwards[0].Port
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return t, nil
		}
	}
	return nil, fmt.Errorf("the forward did not become ready: %v, %s", t.cmd.Wait(), said)
}

func (t *tunnel) close() {
	_ = t.cmd.Process.Signal(unix.SIGTERM)
	_ = t.cmd.Wait()
}

func (t *tunnel) dial() (net.Conn, error) {
	return net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(t.port))
}

// sink reads whatever comes.
func sink(c net.Conn) { _, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) }

// shovel moves bytes one way over a connection. It returns the speed in MB/s.
func shovel(c net.Conn, bytes int64, up bool) (float64, error) {
	began := time.Now()
	var err error
	if up {
		zeros := make([]byte, 64<<10)
		for left := bytes; left > 0 && err == nil; {
			var n int
			n, err = c.Write(zeros[:min(left, int64(len(zeros)))])
			left -= int64(n)
		}
	} else {
		_, err = io.CopyN(io.Discard, c, bytes)
	}
	return float64(bytes) / 1e6 / time.Since(began).Seconds(), err
}

// forwardUnlimited is one connection without the service's limit, both ends on one core.
func (b *bench) forwardUnlimited(ctx context.Context) error {
	for _, up := range []bool{false, true} {
		s, err := newSite(ctx, options{})
		if err != nil {
			return err
		}
		if err := b.forwardSpeed(ctx, s, up); err != nil {
			s.close()
			return err
		}
		s.close()
	}
	return nil
}

func (b *bench) forwardSpeed(ctx context.Context, s *site, up bool) error {
	server := pour
	if up {
		server = sink
	}
	port, err := s.serve(server)
	if err != nil {
		return err
	}
	if err := s.pin(runtime.NumCPU() - 1); err != nil {
		return err
	}
	t, err := s.forward(ctx, port, "--max-messages-per-second", "0")
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(t.cmd.Process.Pid, &set); err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // a benchmark's
	if _, err := shovel(c, 20e6, up); err != nil {
		return err
	}
	var rate []float64
	for range b.repeats {
		v, err := shovel(c, 200e6, up)
		if err != nil {
			return err
		}
		rate = append(rate, v)
	}
	b.row(fmt.Sprintf("forward: %s without the limit, client and relay together on one core, median of %d", way(up), b.repeats), "≥ 100 MB/s",
		fmt.Sprintf("%.0f MB/s", median(rate)), "", median(rate) >= 100, more(median(rate)))
	return nil
}

// forwardLimited is one connection under the service's limit, over one session and over several.
func (b *bench) forwardLimited(ctx context.Context) error {
	s, err := newSite(ctx, options{limited: true})
	if err != nil {
		return err
	}
	defer s.close()
	for _, lanes := range []int{1, 4, 10} {
		for _, up := range []bool{false, true} {
			server := pour
			if up {
				server = sink
			}
			port, err := s.serve(server)
			if err != nil {
				return err
			}
			share, err := b.forwardShare(ctx, s, port, lanes, up)
			if err != nil {
				return err
			}
			goal := map[int]float64{1: 97, 4: 380, 10: 900}[lanes]
			b.row(fmt.Sprintf("forward: %s of one connection with the limit, %d session(s), of what %d messages a second allow", way(up), lanes, pace),
				fmt.Sprintf("≥ %.0f%%", goal), fmt.Sprintf("%.1f%%", share), "", share >= goal, more(share))
		}
	}
	return nil
}

func (b *bench) forwardShare(ctx context.Context, s *site, port string, lanes int, up bool) (float64, error) {
	t, err := s.forward(ctx, port, "--sessions", strconv.Itoa(lanes))
	if err != nil {
		return 0, err
	}
	defer t.close()
	time.Sleep(time.Second) // the other sessions join
	c, err := t.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close() //nolint:errcheck // a benchmark's
	// What they may send beyond their rate after quiet, and what the ends keep.
	if _, err := shovel(c, int64(lanes)*3*pace*1024, up); err != nil {
		return 0, err
	}
	speed, err := shovel(c, int64(b.seconds.Seconds()/4*float64(lanes)*pace*1024), up)
	return 100 * speed * 1e6 / (pace * 1024), err
}

// forwardRoundTrip is a byte and back, the time to the first byte, and the client's memory.
func (b *bench) forwardRoundTrip(ctx context.Context) error {
	s, err := newSite(ctx, options{})
	if err != nil {
		return err
	}
	defer s.close()
	port, err := s.serve(echo)
	if err != nil {
		return err
	}
	var toReady times
	var t *tunnel
	for range 11 {
		if t != nil {
			t.close()
		}
		if t, err = s.forward(ctx, port); err != nil {
			return err
		}
		toReady = append(toReady, t.ready.Sub(t.began))
	}
	b.row("forward: execution to ready (task, session, handshake, target checked), median of 11", "", ms(toReady.median()), "", true, inMS(toReady.median()))
	memory, err := resident(t.cmd.Process.Pid)
	if err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // a benchmark's
	all, err := roundTrips(c, 1000, time.Millisecond)
	if err != nil {
		return err
	}
	p99 := all.quantile(.99)
	b.row("forward: one byte and back: p50 / p99", "< 1 ms p99", ms(all.median())+" / "+ms(p99), "", p99 < time.Millisecond, p50p99(all)...)
	b.row("forward: the client's memory (Pss)", "≤ 4 MiB", fmt.Sprintf("%.2f MiB", float64(memory)/(1<<20)), "", memory <= 4<<20, less(float64(memory)/(1<<20)))
	return nil
}

// resident is a process's proportional set size.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			kilobytes, err := strconv.ParseInt(f[1], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("no Pss")
}
