package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/edge"
)

// Each call to ECS and to the task's own endpoints is made by a short-lived process of its own. Whatever becomes of one, the
// keeper reaches the end of its task, and holds nothing that it does not need.

// worker waits for the process that makes a call which hangs.
func (w *world) worker(keeper int) (pid int) {
	w.Helper()
	since, last := time.Now(), 0
	w.eventually("a call that hangs", 15*time.Second, func() bool {
		all := named(keeper, "fumidai-aws")
		if len(all) != 1 || all[0] != last {
			since, last = time.Now(), 0
			if len(all) == 1 {
				last = all[0]
			}
			return false
		}
		return time.Since(since) > 300*time.Millisecond
	})
	return last
}

func TestWorkerDiesDuringItsCall(t *testing.T) {
	t.Parallel()
	for _, service := range []struct{ name, action string }{{edge.ServiceMetadata, ""}, {"ecs", "DescribeServices"}, {"ecs", "UpdateService"},
		{"ecs", "StopTask"}, {edge.ServiceCredentials, ""}} {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
			t.Run(fmt.Sprintf("%s %s %v", service.name, service.action, signal), func(t *testing.T) {
				t.Parallel()
				if signal == syscall.SIGSTOP && testing.Short() {
					t.Skip("waits for a deadline of 30 s")
				}
				w := newWorld(t)
				w.Edge.Faults.Add(edge.Fault{Service: service.name, Action: service.action, Effect: edge.EffectHang, Times: 1})
				task := w.service(family, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "1s"})
				worker := w.worker(task.Container(0).PID())
				w.must(syscall.Kill(worker, signal))
				w.stopped(task, 60*time.Second) // an attempt takes up to 30 s, a call of the metadata 5 s
				if alive(worker) {
					t.Error("it is still there")
				}
				w.wantEnded(family, 0)
				if service.action != "StopTask" { // ECS stops the task before it asks again: it is scaled in
					w.wantCalls(task, ended...)
				}
			})
		}
	}
}

// A keeper that is killed takes the call that is under way along.
func TestWorkerGoesWithItsKeeper(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{0, syscall.SIGSTOP} {
		w := newWorld(t, func(o *emulator.Options) { o.Namespaces = false })
		w.Edge.Faults.Add(edge.Fault{Service: edge.ServiceMetadata, Effect: edge.EffectHang})
		task := w.service(family, map[string]string{"FUMIDAI_RELAY": "off"})
		worker := w.worker(task.Container(0).PID())
		w.must(syscall.Kill(worker, signal))
		w.must(syscall.Kill(task.Container(0).PID(), syscall.SIGKILL))
		w.eventually("the worker's end", 2*time.Second, func() bool { return !alive(worker) })
	}
}

// TestKeeperHoldsNoSecrets looks through the memory of all processes: the task role's keys are the relay's, and never the
// keeper's, although ECS has been called with them again and again.
func TestKeeperHoldsNoSecrets(t *testing.T) {
	s := isolated(t, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO": "true"})
	s.Edge.Faults.Add(edge.ServerError("ecs", "UpdateService", 1))
	s.eventually("three calls that fail", 20*time.Second, func() bool { return len(s.events("can't set the service's desired count")) >= 3 })
	key, keeper := s.task.Key(), s.task.Container(0).PID()
	for what, secret := range map[string]string{"secret access key": key.SecretAccessKey, "session token": key.Token} {
		if secret == "" {
			t.Fatalf("the emulator has given no %s", what)
		}
		if holds(t, keeper, secret) {
			t.Errorf("the keeper holds the %s", what)
		}
		if !holds(t, s.relay(), secret) {
			t.Errorf("the relay does not hold the %s: this test looks in the wrong place", what)
		}
	}
}

// holds looks for text in the memory of a process that it may write to; what is mapped from files is nobody's secret.
func holds(t *testing.T, pid int, text string) bool {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close() //nolint:errcheck // read only
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close() //nolint:errcheck // read only
	read := 0
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		if n, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n != 3 || err != nil || !strings.HasPrefix(mode, "rw") || to-from > 64<<20 {
			continue
		}
		content := make([]byte, to-from)
		if n, err := memory.ReadAt(content, from); err == nil && n == len(content) {
			read++
			if bytes.Contains(content, []byte(text)) {
				return true
			}
		}
	}
	if read == 0 {
		t.Fatalf("nothing of process %d can be read", pid)
	}
	return false
}

// TestProcessesAreNotDumpable: no process of the same user may read the memory of another, nor does a core hold it. The kernel
// then gives the files of /proc to root.
func TestProcessesAreNotDumpable(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to run a task as another user")
	}
	w := newWorld(t)
	w.Edge.Faults.Add(edge.Fault{Service: "ecs", Action: "UpdateService", Effect: edge.EffectHang})
	task := w.bastion(map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "2s", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO": "true"})
	keeper := task.Container(0).PID()
	worker := w.worker(keeper)
	for what, pid := range map[string]int{"keeper": keeper, "relay": relays(keeper)[0], "worker": worker} {
		var process, file syscall.Stat_t
		w.must(syscall.Stat(fmt.Sprintf("/proc/%d", pid), &process))
		w.must(syscall.Stat(fmt.Sprintf("/proc/%d/environ", pid), &file))
		if process.Uid == 0 {
			t.Errorf("the %s runs as root: that can't be told", what)
		}
		if file.Uid != 0 {
			t.Errorf("the %s is dumpable", what)
		}
	}
}
