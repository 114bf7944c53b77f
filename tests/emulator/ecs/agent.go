package ecs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// agentPaths are the directories that a task with enableExecuteCommand shares with AWS's exec agent.
var agentPaths = []string{"/managed-agents/execute-command", "/var/lib/amazon/ssm", "/var/log/amazon/ssm"}

const agentLog = "/var/log/amazon/ssm/amazon-ssm-agent.log"

// makeAgentDir makes these directories for a task that wants them.
func (t *Task) makeAgentDir() error {
	if !t.state.EnableExecuteCommand {
		return nil
	}
	dir, err := os.MkdirTemp("", "fumidai-emulator-agent-")
	if err != nil {
		return err
	}
	t.agentDir = dir
	for _, path := range agentPaths {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

// startAgent starts what ECS Exec runs in a container: the agent and its worker, which log that they are there. Without
// namespaces there is only the log: processes of one task would be seen by all.
func (t *Task) startAgent() error {
	if t.agentDir == "" {
		return nil
	}
	a := &ExecAgent{Log: filepath.Join(t.agentDir, agentLog), task: t, workers: map[string]*os.Process{}}
	t.ecs.mu.Lock()
	t.agent = a
	for i := range t.state.Containers {
		t.state.Containers[i].ManagedAgents = []types.ManagedAgent{{Name: types.ManagedAgentNameExecuteCommandAgent, LastStatus: ptr(statusRunning), LastStartedAt: now()}}
	}
	t.ecs.mu.Unlock()
	for _, name := range []string{"amazon-ssm-agent", "ssm-agent-worker"} {
		if _, err := a.process(name); err != nil {
			return err
		}
	}
	if t.ecs.QuietAgent {
		return nil
	}
	if err := a.Line("INFO [amazon-ssm-agent] amazon-ssm-agent - v3.2.1705.0"); err != nil {
		return err
	}
	return a.Line("INFO [ssm-agent-worker] [MessageService] [MGSInteractor] Set up control channel successfully")
}

// ExecAgent stands for AWS's exec agent in a task: what a task can see of it, which is its log and its processes. It
// does not talk to the gateway.
type ExecAgent struct {
	// Log is the log file on this machine; the task finds it at /var/log/amazon/ssm/amazon-ssm-agent.log (a task
	// without namespaces at this path).
	Log string

	task *Task

	mu      sync.Mutex
	workers map[string]*os.Process
}

// ExecAgent is the exec agent of a running task with enableExecuteCommand.
func (t *Task) ExecAgent() (*ExecAgent, error) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	if t.agent == nil {
		return nil, fmt.Errorf("no exec agent runs in task %s", t.id)
	}
	return t.agent, nil
}

// process starts a process of the agent's; nil without namespaces.
func (a *ExecAgent) process(name string, args ...string) (*os.Process, error) {
	if !a.task.sandbox.LinkLocal() {
		return nil, nil
	}
	p, err := a.task.Container(0).Worker(append([]string{"/managed-agents/execute-command/" + name}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// StartSession starts a session as a task sees it: a worker process, and the lines it logs.
func (a *ExecAgent) StartSession(id string) error {
	worker, err := a.process("ssm-session-worker", id)
	if err != nil {
		return err
	}
	if worker != nil {
		a.mu.Lock()
		a.workers[id] = worker
		a.mu.Unlock()
	}
	if err := a.Line("INFO [ssm-session-worker] [%s] ssm-session-worker - v3.2.1705.0", id); err != nil {
		return err
	}
	return a.Line("INFO [ssm-session-worker] [%s] [DataBackend] [pluginName=Port] Opening websocket connection to: wss://ssmmessages", id)
}

// EndSession ends a session; whether its end is logged is the caller's choice.
func (a *ExecAgent) EndSession(id string, logged bool) error {
	if logged {
		if err := a.Line("INFO [ssm-session-worker] [%s] Session worker closed", id); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if worker := a.workers[id]; worker != nil {
		delete(a.workers, id)
		return worker.Kill()
	}
	return nil
}

// Line appends one line to the log, after the time as the agent writes it.
func (a *ExecAgent) Line(format string, args ...any) error {
	return a.Append(time.Now().UTC().Format("2006-01-02 15:04:05 ") + fmt.Sprintf(format, args...) + "\n")
}

// Append appends raw text to the log: part of a line, or a last line without its end.
func (a *ExecAgent) Append(text string) error {
	f, err := os.OpenFile(a.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// Rotate moves the log away; the next line begins a new file.
func (a *ExecAgent) Rotate() error { return os.Rename(a.Log, a.Log+".1") }

// Truncate empties the log in place.
func (a *ExecAgent) Truncate() error { return os.Truncate(a.Log, 0) }

// Remove deletes the log.
func (a *ExecAgent) Remove() error { return os.Remove(a.Log) }
