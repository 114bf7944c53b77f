package gateway

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/websocket"
)

// target is where an agent serves: its control channel and what is waiting for it.
type target struct {
	id        string
	principal string
	channel   *channel
	hello     Hello
	opened    int
	pings     int
	pending   [][]byte // start messages of sessions that came early (Settings.HoldStart)
	received  []Received
	unfit     []string // violations
}

// Hello is what an agent says of itself in the first frame of its control channel.
type Hello struct {
	MessageSchemaVersion, RequestID, TokenValue, AgentVersion, PlatformType string
}

// Received is a message an agent sent over its control channel.
type Received struct {
	Time    time.Time
	Type    string
	ID      string
	Payload string
}

// TargetStats is a snapshot of a target.
type TargetStats struct {
	Connected    bool
	Principal    string
	AgentVersion string
	PlatformType string
	Opened       int // control channels opened
	Pings        int
	Received     []Received
	Violations   []string
}

func (g *Gateway) target(id string) *target { // g.mu is held
	t := g.targets[id]
	if t == nil {
		t = &target{id: id}
		g.targets[id] = t
	}
	return t
}

// Target is a snapshot of a target.
func (g *Gateway) Target(id string) TargetStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.target(id)
	return TargetStats{Connected: t.channel != nil, Principal: t.principal, AgentVersion: t.hello.AgentVersion,
		PlatformType: t.hello.PlatformType, Opened: t.opened, Pings: t.pings, Received: append([]Received(nil), t.received...),
		Violations: append([]string(nil), t.unfit...)}
}

func (g *Gateway) targetViolation(id, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	g.logf("target %s: violation: %s", id, text)
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.target(id); len(t.unfit) < maxViolations {
		t.unfit = append(t.unfit, text)
	}
}

// serveControl runs a control channel until it ends.
func (g *Gateway) serveControl(id, principal string, c *channel, hello Hello) {
	g.mu.Lock()
	t := g.target(id)
	old := t.channel
	t.channel, t.principal, t.hello = c, principal, hello
	t.opened++
	pending := t.pending
	t.pending = nil
	for _, b := range pending { // early ones come first: an agent must be ready as soon as it has sent its token
		_ = c.send(b, true)
	}
	g.mu.Unlock()
	g.logf("target %s: control channel open, agent %s", id, hello.AgentVersion)
	if old != nil {
		old.conn.CloseWith(websocket.CloseNormal, "replaced by another control channel")
	}
	ready := agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.ControlChannelReady, ID: agentmsg.NewUUID(),
		Payload: []byte(`{"SchemaVersion":1}`)})
	_ = c.send(ready, true)

	err := g.readControl(id, c)
	g.mu.Lock()
	if t.channel == c {
		t.channel = nil
	}
	g.mu.Unlock()
	g.logf("target %s: control channel ended: %v", id, err)
}

func (g *Gateway) readControl(id string, c *channel) error {
	for {
		op, b, err := c.conn.Next()
		if err != nil {
			return err
		}
		m, err := agentmsg.Parse(b)
		if op != websocket.Binary || err != nil {
			g.targetViolation(id, "control channel: opcode %d, %d bytes: %v", op, len(b), err)
			continue
		}
		if g.settings.Load().Check {
			if err := agentmsg.Check(b); err != nil {
				g.targetViolation(id, "control channel: %s: %v", m.Type, err)
			}
		}
		g.mu.Lock()
		t := g.target(id)
		t.received = append(t.received, Received{time.Now(), m.Type, m.ID.String(), string(m.Payload)})
		if len(t.received) > 1000 {
			t.received = t.received[1:]
		}
		g.mu.Unlock()
		if m.Type == agentmsg.AgentTaskComplete {
			g.taskComplete(id, c, &m)
		}
	}
}

// taskComplete takes the report of a session's end and acknowledges it.
func (g *Gateway) taskComplete(id string, c *channel, m *agentmsg.Message) {
	var task TaskComplete
	if err := json.Unmarshal(m.Payload, &task); err != nil {
		g.targetViolation(id, "agent_task_complete: %v", err)
		return
	}
	faults := g.faults.Load()
	if g.dice.hit(faults.LoseTaskComplete) {
		return
	}
	s := g.Session(task.TaskID)
	switch {
	case s == nil || s.Target != id:
		g.targetViolation(id, "agent_task_complete for %q, which is not a session of this target", task.TaskID)
	case task.SchemaVersion != 1 || task.Topic != agentmsg.AgentTaskComplete || task.InstanceID != id ||
		task.FinalTaskStatus != "Success" && task.FinalTaskStatus != "Failed":
		g.targetViolation(id, "agent_task_complete: %s", m.Payload)
	}
	if s != nil {
		g.logf("session %s: complete: %s %q", s.ID, task.FinalTaskStatus, task.Output)
		s.complete(&task)
	}
	if g.dice.hit(faults.LoseTaskAcknowledge) {
		return
	}
	payload, _ := json.Marshal(map[string]any{"SchemaVersion": 1, "MessageId": m.ID.String(), "TaskId": task.TaskID,
		"Topic": agentmsg.AgentTaskAck})
	_ = c.send(agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.AgentTaskAck, ID: agentmsg.NewUUID(), Payload: payload}), true)
}

// sendControl sends over a target's control channel; false if it has none.
func (g *Gateway) sendControl(id string, b []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.target(id)
	return t.channel != nil && t.channel.send(b, true) == nil
}

// SendControl puts a message of the test's own making into a target's control channel.
func (g *Gateway) SendControl(target string, m *agentmsg.Message) error {
	if !g.sendControl(target, agentmsg.Append(nil, m)) {
		return fmt.Errorf("%s has no control channel", target)
	}
	return nil
}

// FloodControl sends messages over a target's control channel, in turns and as fast as its agent takes them, until the
// function that it returns is called, which says how many were sent.
func (g *Gateway) FloodControl(target string, messages ...*agentmsg.Message) (stop func() int) {
	var frames [][]byte
	for _, m := range messages {
		frames = append(frames, agentmsg.Append(nil, m))
	}
	sent, end, ended := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			c := g.controlChannel(target)
			if c == nil || c.send(frames[sent%len(frames)], false) != nil {
				time.Sleep(time.Millisecond) // until it is there again
				continue
			}
			sent++
		}
	}()
	return sync.OnceValue(func() int {
		close(end)
		if c := g.controlChannel(target); c != nil {
			c.conn.SetQueueBytes(1 << 30) // so that no sender waits
		}
		<-ended
		return sent
	})
}

// StallControl stops or resumes the reading of a target's control channel: the agent's pings stay unanswered.
func (g *Gateway) StallControl(target string, on bool) {
	if c := g.controlChannel(target); c != nil {
		if on {
			c.fuse.Stall()
		} else {
			c.fuse.Resume()
		}
	}
}

// CutControl resets a target's control channel.
func (g *Gateway) CutControl(target string) {
	if c := g.controlChannel(target); c != nil {
		c.conn.Abort()
	}
}

// ByeControl closes a target's control channel (1000, "Bye").
func (g *Gateway) ByeControl(target string) {
	if c := g.controlChannel(target); c != nil {
		c.conn.CloseWith(websocket.CloseNormal, "Bye")
	}
}

func (g *Gateway) controlChannel(target string) *channel {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.target(target).channel
}

// startMessage is interactive_shell: the order to open a data channel for a session.
func (g *Gateway) startMessage(s *Session, d Document) []byte {
	parameters := make(map[string]any, len(s.Parameters))
	for name, values := range s.Parameters {
		parameters[name] = values
		if len(values) == 1 {
			parameters[name] = values[0]
		}
	}
	content, _ := json.Marshal(map[string]any{"DocumentName": s.Document, "SessionId": s.ID, "RunAsUser": "",
		"SessionOwner": s.Owner, "DocumentContent": d, "Parameters": parameters})
	payload, _ := json.Marshal(struct {
		Content, TaskId, Topic string
		SchemaVersion          int
	}{string(content), s.ID, "aws.ssm.interactiveShell." + s.Target, 1})
	return agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.InteractiveShell, ID: agentmsg.NewUUID(), Payload: payload})
}
