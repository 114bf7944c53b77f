package fargate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Group is a control group with a task's share of processor and memory, as Fargate sets it. Version 1 and 2 of the kernel's
// interface are spoken, whichever has the controllers.
type Group struct {
	cpu, memory string // directories; in version 2 the same
	version2    bool
}

const groupRoot = "/sys/fs/cgroup"

var groups atomic.Int64

// cpuPeriod is what Fargate divides processor time by: a quarter of a core is 25 of each 100 ms.
const cpuPeriod = 100 * time.Millisecond

// NewGroup makes a group. The error says what this machine does not allow.
func NewGroup(cpus float64, memoryBytes int64) (*Group, error) {
	name := fmt.Sprintf("fumidai-%d-%d", os.Getpid(), groups.Add(1))
	g := &Group{}
	controllers, err := os.ReadFile(groupRoot + "/cgroup.controllers")
	g.version2 = err == nil && strings.Contains(string(controllers), "memory")
	if g.version2 {
		g.cpu = filepath.Join(groupRoot, name)
		g.memory = g.cpu
		if err := delegate(); err != nil {
			return nil, fmt.Errorf("no control groups: %w", err)
		}
	} else {
		g.cpu, g.memory = filepath.Join(groupRoot, "cpu", name), filepath.Join(groupRoot, "memory", name)
	}
	if err := g.make(cpus, memoryBytes); err != nil {
		_ = g.Close()
		return nil, fmt.Errorf("no control groups: %w", err)
	}
	return g, nil
}

// delegate hands the controllers down to groups under the root. A group that has processes can't do that (but for the machine's
// own root), so inside a container they go into a group of their own first, as Docker inside Docker does.
func delegate() error {
	enable := func() error {
		return os.WriteFile(groupRoot+"/cgroup.subtree_control", []byte("+cpu +memory"), 0o644) //nolint:gosec // the kernel's
	}
	if enable() == nil {
		return nil
	}
	home := filepath.Join(groupRoot, "fumidai-tests")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	pids, err := os.ReadFile(groupRoot + "/cgroup.procs")
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(pids)) {
		_ = os.WriteFile(home+"/cgroup.procs", []byte(pid), 0o644) //nolint:gosec // one that has ended is not missed
	}
	return enable()
}

func (g *Group) make(cpus float64, memoryBytes int64) error {
	for _, dir := range []string{g.cpu, g.memory} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	quota, period := strconv.Itoa(int(cpus*float64(cpuPeriod.Microseconds()))), strconv.Itoa(int(cpuPeriod.Microseconds()))
	memory := strconv.FormatInt(memoryBytes, 10)
	type setting struct{ path, value string }
	settings := []setting{{g.cpu + "/cpu.cfs_period_us", period}, {g.cpu + "/cpu.cfs_quota_us", quota},
		{g.memory + "/memory.limit_in_bytes", memory},
		{g.memory + "/memory.kmem.tcp.limit_in_bytes", memory}} // sockets are counted once there is a limit, and apart
	if g.version2 {
		settings = []setting{{g.cpu + "/cpu.max", quota + " " + period}, {g.memory + "/memory.max", memory}, {g.memory + "/memory.swap.max", "0"}}
	}
	for _, s := range settings {
		err := os.WriteFile(s.path, []byte(s.value), 0o644) //nolint:gosec // the kernel's
		if err != nil && !(errors.Is(err, os.ErrNotExist) && strings.HasSuffix(s.path, "swap.max")) {
			return err
		}
	}
	return nil
}

// SetCPUs changes the group's share of the processor.
func (g *Group) SetCPUs(cpus float64) error {
	quota := strconv.Itoa(int(cpus * float64(cpuPeriod.Microseconds())))
	if g.version2 {
		return os.WriteFile(g.cpu+"/cpu.max", []byte(quota+" "+strconv.Itoa(int(cpuPeriod.Microseconds()))), 0o644) //nolint:gosec // the kernel's
	}
	return os.WriteFile(g.cpu+"/cpu.cfs_quota_us", []byte(quota), 0o644) //nolint:gosec // the kernel's
}

// Add moves a process into the group. What it starts from then on is in it, too.
func (g *Group) Add(pid int) error {
	for _, dir := range []string{g.cpu, g.memory} {
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0o644); err != nil { //nolint:gosec // the kernel's
			return err
		}
	}
	return nil
}

// Close removes the group; its processes must have ended, or are about to.
func (g *Group) Close() error {
	var err error
	for _, dir := range []string{g.cpu, g.memory} {
		for range 100 {
			if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
				err = nil
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return err
}

// OOMKills is how many of its processes the kernel has killed because the group's memory was used up.
func (g *Group) OOMKills() int64 {
	if g.version2 {
		return field(g.memory+"/memory.events", "oom_kill")
	}
	return field(g.memory+"/memory.oom_control", "oom_kill")
}

// Memory is what the group uses now, PeakMemory the most it has used, SocketMemory what of it its sockets' buffers hold (which
// version 1 counts apart), those of connections included that no process holds any more.
func (g *Group) Memory() int64 {
	if g.version2 {
		return number(g.memory + "/memory.current")
	}
	return number(g.memory+"/memory.usage_in_bytes") + g.SocketMemory()
}

// PeakMemory: see Memory.
func (g *Group) PeakMemory() int64 {
	if g.version2 {
		return number(g.memory + "/memory.peak")
	}
	return number(g.memory + "/memory.max_usage_in_bytes")
}

// SocketMemory: see Memory.
func (g *Group) SocketMemory() int64 {
	if g.version2 {
		return field(g.memory+"/memory.stat", "sock")
	}
	return number(g.memory + "/memory.kmem.tcp.usage_in_bytes")
}

// Throttled is in how many periods the group has used up its share of the processor.
func (g *Group) Throttled() int64 { return field(g.cpu+"/cpu.stat", "nr_throttled") }

func number(path string) int64 {
	text, _ := os.ReadFile(path)
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// field is the number after a word at the beginning of a line.
func field(path, word string) int64 {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == word {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}
