package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"fumidai/tests/emulator/ecs"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// transcript runs what a person would type and shows it, until something fails.
type transcript struct {
	*place
	ctx  context.Context
	task string // its id
	err  error

	mu    sync.Mutex
	began time.Time
	lines []line // for the recording
	rest  []byte // of a line that has not ended
}

type kind int

const (
	spoken kind = iota
	typed
	printed
)

type line struct {
	at   time.Duration
	kind kind
	text string
}

var colours = map[kind]string{spoken: "\x1b[36m", typed: "\x1b[1m"}

// show prints a line and keeps it.
func (t *transcript) show(k kind, text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.began.IsZero() {
		t.began = time.Now()
	}
	t.lines = append(t.lines, line{time.Since(t.began), k, text})
	if colour := colours[k]; colour != "" && os.Getenv("TERM") != "" && os.Getenv("NO_COLOR") == "" {
		text = colour + text + "\x1b[0m"
	}
	fmt.Println(text)
}

func (t *transcript) say(format string, args ...any) {
	if t.err == nil {
		t.show(printed, "")
		for text := range strings.Lines(fmt.Sprintf(format, args...)) {
			t.show(spoken, "# "+strings.TrimSuffix(text, "\n"))
		}
	}
}

// Write takes what a command prints, line by line.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.rest = append(t.rest, p...)
	var complete []string
	for {
		one, rest, found := bytes.Cut(t.rest, []byte("\n"))
		if !found {
			break
		}
		complete = append(complete, strings.TrimRight(string(one), "\r "))
		t.rest = rest
	}
	t.mu.Unlock()
	for _, text := range complete {
		t.show(printed, text)
	}
	return len(p), nil
}

// command is what a shell makes of a line, in a process group of its own.
func (t *transcript) command(text string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", text)
	cmd.Dir, cmd.Env = t.dir, t.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// patience with one command. None takes longer than a few seconds; a machine on which tasks can't start must not wait for ever.
const patience = time.Minute

// finish waits for a command, not beyond the demo's own end.
func (t *transcript) finish(cmd *exec.Cmd, text string) (err error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
		return nil
	case <-time.After(patience):
		err = fmt.Errorf("%s: not done after %v", text, patience)
	case <-t.ctx.Done():
		err = t.ctx.Err()
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
	<-ended
	return err
}

// run is a command that ends.
func (t *transcript) run(text string) {
	if t.err != nil {
		return
	}
	t.show(typed, "$ "+text)
	cmd := t.command(text)
	cmd.Stdout, cmd.Stderr = t, t
	if t.err = cmd.Start(); t.err == nil {
		t.err = t.finish(cmd, text)
	}
}

// background is a command that goes on; it returns once that has said something.
func (t *transcript) background(text, awaited string) *exec.Cmd {
	if t.err != nil {
		return nil
	}
	t.show(typed, "$ "+text+" &")
	cmd := t.command("exec " + text)
	heard := &listener{to: t, awaited: awaited, said: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = heard, heard
	if t.err = cmd.Start(); t.err != nil {
		return nil
	}
	select {
	case <-heard.said:
	case <-time.After(30 * time.Second):
		t.err = fmt.Errorf("%s: it does not say %q", text, awaited)
	case <-t.ctx.Done():
		t.err = t.ctx.Err()
	}
	if t.err != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
		cmd.Wait()                                      //nolint:errcheck // as above
	}
	return cmd
}

// listener passes on what is written, and notes when that has held something.
type listener struct {
	to      io.Writer
	awaited string
	heard   bytes.Buffer
	once    sync.Once
	said    chan struct{}
}

func (l *listener) Write(p []byte) (int, error) {
	n, err := l.to.Write(p)
	l.heard.Write(p)
	if strings.Contains(l.heard.String(), l.awaited) {
		l.once.Do(func() { close(l.said) })
	}
	return n, err
}

// interrupt ends a command as Ctrl-C does.
func (t *transcript) interrupt(cmd *exec.Cmd, key string) {
	if t.err != nil || cmd == nil {
		return
	}
	t.show(typed, "$ fg   # "+key)
	if t.err = cmd.Process.Signal(os.Interrupt); t.err != nil {
		return
	}
	var status *exec.ExitError
	if err := t.finish(cmd, "the tunnel"); err != nil && !errors.As(err, &status) { // 130 and the like are not failures here
		t.err = err
		return
	}
	for try := 0; try < 50 && !strings.Contains(t.output(), `"session ended"`); try++ { // it takes a moment to get there
		time.Sleep(100 * time.Millisecond)
	}
}

// output is what the task has logged.
func (t *transcript) output() string {
	for _, task := range t.ECS.Tasks(nil) {
		if task.ID() == t.task {
			return task.Output()
		}
	}
	return ""
}

// speed runs a command for what it prints: how much, and how fast.
func (t *transcript) speed(text string) {
	if t.err != nil {
		return
	}
	t.show(typed, "$ "+text+" | wc -c")
	cmd := t.command(text)
	var count counter
	cmd.Stdout, cmd.Stderr = &count, t
	began := time.Now()
	if t.err = cmd.Start(); t.err == nil {
		t.err = t.finish(cmd, text)
	}
	if t.err == nil {
		took := time.Since(began).Seconds()
		t.show(printed, fmt.Sprintf("%d", count))
		t.show(spoken, fmt.Sprintf("# %.1f MB in %.1f s: %.2f MB/s", float64(count)/1e6, took, float64(count)/1e6/took))
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// explain shows, when something has failed, how the tasks have fared.
func (t *transcript) explain() {
	if t.err == nil || t.ctx.Err() != nil {
		return
	}
	for _, task := range t.ECS.Tasks(nil) {
		state, reason := task.State(), ""
		if state.StoppedReason != nil {
			reason = *state.StoppedReason
		}
		for _, c := range state.Containers {
			if c.Reason != nil {
				reason += ": " + *c.Reason
			}
		}
		fmt.Fprintf(os.Stderr, "task %s: %s: %s\n%s", task.ID(), *state.LastStatus, reason, task.Output())
	}
}

// find is the id of the service's task.
func (t *transcript) find() string {
	for _, task := range t.ECS.Tasks(ecs.InService("fumidai")) {
		if *task.State().DesiredStatus == string(types.DesiredStatusRunning) {
			if err := t.Gateway.WaitConnected(task.Target(), 10*time.Second); err != nil && t.err == nil {
				t.err = err
			}
			return task.ID()
		}
	}
	if t.err == nil {
		t.err = errors.New("the service has no task")
	}
	return ""
}

// wait waits until the task has ended, and ECS has done its part.
func (t *transcript) wait() {
	if t.err != nil {
		return
	}
	over := t.ECS.Until(idleTimeout+15*time.Second, func() bool {
		s := t.ECS.ServiceState("default", "fumidai")
		return t.ctx.Err() != nil || (s.DesiredCount == 0 && s.RunningCount == 0)
	})
	if t.err = t.ctx.Err(); t.err == nil && !over {
		t.err = errors.New("the task does not end")
	}
}
