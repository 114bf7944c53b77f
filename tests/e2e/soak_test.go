package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/gateway"
)

// TestSessionSoak: four streams at a time through everything that can go wrong at once, for SOAK_SECONDS (60 unless
// set; `make soak` takes 30 minutes). Every byte is checked, no session is lost, and memory keeps within its bound.
func TestSessionSoak(t *testing.T) {
	t.Parallel()
	long := 60 * time.Second
	if text := os.Getenv("SOAK_SECONDS"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("SOAK_SECONDS=%q is not a number", text)
		}
		long = time.Duration(seconds) * time.Second
	}
	s := newSite(t, nil)
	before := s.memory()
	faults := faulty()["everything, and AWS's own client"]
	faults.Seed = rand.Uint64()
	t.Logf("seed %d", faults.Seed)
	for _, channel := range []*gateway.Channel{&faults.AgentChannel, &faults.ClientChannel} {
		channel.Bye = 10 * time.Second // the hourly close
	}
	d := s.open(way{where: "remote"}, func(o *client.Options) { o.Stream.IgnoreOld = true })
	s.Gateway.SetFaults(faults)

	var rounds, bytes atomic.Int64
	var wait sync.WaitGroup
	end := time.Now().Add(long)
	for stream := range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			random := rand.New(rand.NewPCG(faults.Seed, uint64(stream)))
			for i := uint32(0); time.Now().Before(end) && !t.Failed(); i++ {
				up, down := random.Int64N(1_000_000), random.Int64N(2_000_000)
				c, err := s.connect(d)
				if err != nil {
					t.Errorf("stream %d: %v", stream, err)
					return
				}
				if err := ask(c, up, down, uint32(stream)<<16|i); err != nil {
					t.Errorf("stream %d, round %d, %d up, %d down: %v", stream, i, up, down, err)
				}
				_ = c.Close()
				rounds.Add(1)
				bytes.Add(up + down)
			}
		}()
	}
	s.inTime(long+2*time.Minute, "the last rounds", func() error { wait.Wait(); return nil })
	s.wantBounded(before)
	if st := d.session.Stats(); st.Status != gateway.Connected && st.Status != gateway.Disconnected {
		t.Errorf("the session is %s", st.Status)
	}
	t.Logf("%d rounds, %d MB, in %s", rounds.Load(), bytes.Load()/1_000_000, long)
	if rounds.Load() == 0 {
		t.Error("no round was completed")
	}
}
