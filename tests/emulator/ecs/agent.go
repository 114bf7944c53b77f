package ecs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
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

// ExecAgent stands for AWS's exec agent in a task: what a task can see of it, which is its log and its workers'
// processes. It does not talk to the gateway.
type ExecAgent struct {
	// Log is the log file on this machine; the task finds it at /var/log/amazon/ssm/amazon-ssm-agent.log (a task
	// without namespaces at this path).
	Log string

	task *Task

	mu      sync.Mutex
	workers map[string]*os.Process
}

// ExecAgent is the exec agent of a task that runs with enableExecuteCommand. Nothing is in its log before the first
// call of one of its methods.
func (t *Task) ExecAgent() (*ExecAgent, error) {
	t.ecs.mu.Lock()
	defer t.ecs.mu.Unlock()
	if t.agentDir == "" {
		return nil, fmt.Errorf("task %s does not run with enableExecuteCommand", t.id)
	}
	if t.agent == nil {
		t.agent = &ExecAgent{Log: filepath.Join(t.agentDir, agentLog), task: t, workers: map[string]*os.Process{}}
	}
	return t.agent, nil
}

// StartSession starts a session as a task sees it: a worker process, and the lines it logs.
func (a *ExecAgent) StartSession(id string) error {
	container := a.task.Container(0)
	if container == nil {
		return fmt.Errorf("task %s does not run", a.task.id)
	}
	worker, err := container.Worker("ssm-session-worker", id)
	if err != nil {
		return fmt.Errorf("start a session worker: %w", err)
	}
	a.mu.Lock()
	a.workers[id] = worker
	a.mu.Unlock()
	if err := a.Line("INFO [ssm-agent-worker] [MessageService] [EngineProcessor] [OutOfProcExecuter] [%s] inter process communication started", id); err != nil {
		return err
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
