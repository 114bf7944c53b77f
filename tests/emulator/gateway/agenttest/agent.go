// Package agenttest is a small agent: a reference for the agent's side of the protocol, against which the gateway is
// tested. It forwards ports, multiplexed and basic; it has no policy, no pace and no ambition.
package agenttest

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/smux"
	"fumidai/tests/emulator/stream"
	"fumidai/tests/emulator/websocket"
)

// Version is the agent version it calls itself.
const Version = "3.3.987.0"

// Options of an Agent.
type Options struct {
	BaseURL string // http://… of the gateway
	Target  string
	Sign    func(*http.Request, []byte) // nil: unsigned but with an Authorization header
	Version string                      // "": Version
	// Stream settings of data channels.
	Stream stream.Config
	// Probe's error, if any, is why sessions fail; nil: none does.
	Probe func(host, port string) error
	// Raw, if set, gets each session's open data channel and serves it itself.
	Raw func(*websocket.Conn) error
}

// Agent serves one target until its context ends.
type Agent struct {
	opts    Options
	ctx     context.Context
	mu      sync.Mutex
	control *websocket.Conn
	known   map[string]*Session
	waiting map[string]chan struct{} // agent_task_complete by message id
}

// Session is one session it serves.
type Session struct {
	ID            string
	End           *stream.End
	ClientVersion string
	HalfClose     bool
	clientID      string
	agent         *Agent
	properties    map[string]string
	mux           *smux.Mux
	output        string
}

// Start runs an agent.
func Start(ctx context.Context, opts Options) *Agent {
	if opts.Version == "" {
		opts.Version = Version
	}
	if opts.Sign == nil {
		opts.Sign = func(r *http.Request, _ []byte) { r.Header.Set("Authorization", "none") }
	}
	a := &Agent{opts: opts, ctx: ctx, known: map[string]*Session{}, waiting: map[string]chan struct{}{}}
	go a.run()
	return a
}

// Sessions it has served.
func (a *Agent) Sessions() []*Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*Session
	for _, s := range a.known {
		list = append(list, s)
	}
	return list
}

func (a *Agent) run() {
	for pause := 20 * time.Millisecond; a.ctx.Err() == nil; pause = min(2*pause, time.Second) {
		if err := a.serve(); err == nil {
			pause = 20 * time.Millisecond
		}
		select {
		case <-a.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// create gets a token for a channel.
func (a *Agent) create(ctx context.Context, path string, body map[string]string) (string, error) {
	body["MessageSchemaVersion"], body["RequestId"] = "1.0", agentmsg.NewUUID().String()
	text, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.opts.BaseURL+path, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	a.opts.Sign(req, text)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusCreated {
		if strings.Contains(string(answer), "Session is already terminated") {
			return "", stream.ErrEnded
		}
		return "", fmt.Errorf("%s: %s: %s", path, resp.Status, answer)
	}
	var out struct{ TokenValue string }
	return out.TokenValue, xml.Unmarshal(answer, &out)
}

func (a *Agent) open(ctx context.Context, path string, first map[string]string) (*websocket.Conn, error) {
	u := "ws" + strings.TrimPrefix(a.opts.BaseURL, "http") + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.opts.BaseURL+path, nil)
	if err != nil {
		return nil, err
	}
	a.opts.Sign(req, nil)
	c, err := websocket.Dial(ctx, u, req.Header, nil)
	if err != nil {
		return nil, err
	}
	first["MessageSchemaVersion"], first["RequestId"] = "1.0", agentmsg.NewUUID().String()
	text, _ := json.Marshal(first)
	return c, c.Send(websocket.Text, text)
}

// serve runs one control channel.
func (a *Agent) serve() error {
	token, err := a.create(a.ctx, "/v1/control-channel/"+a.opts.Target, map[string]string{})
	if err != nil {
		return err
	}
	c, err := a.open(a.ctx, "/v1/control-channel/"+a.opts.Target+"?role=subscribe&stream=input",
		map[string]string{"TokenValue": token, "AgentVersion": a.opts.Version, "PlatformType": "linux"})
	if err != nil {
		return err
	}
	defer context.AfterFunc(a.ctx, c.Abort)()
	a.mu.Lock()
	a.control = c
	a.mu.Unlock()
	for {
		op, b, err := c.Next()
		if err != nil {
			return nil
		}
		m, err := agentmsg.Parse(b)
		if op != websocket.Binary || err != nil {
			return fmt.Errorf("control channel: %v", err)
		}
		a.controlMessage(&m)
	}
}

func (a *Agent) controlMessage(m *agentmsg.Message) {
	switch m.Type {
	case agentmsg.InteractiveShell:
		a.begin(m.Payload)
	case agentmsg.ChannelClosed:
		var in struct{ SessionId string }
		_ = json.Unmarshal(m.Payload, &in)
		a.mu.Lock()
		s := a.known[in.SessionId]
		a.mu.Unlock()
		if s != nil && s.End != nil {
			s.End.Close()
		}
	case agentmsg.AgentTaskAck:
		var in struct{ MessageId string }
		_ = json.Unmarshal(m.Payload, &in)
		a.mu.Lock()
		if w := a.waiting[in.MessageId]; w != nil {
			close(w)
			delete(a.waiting, in.MessageId)
		}
		a.mu.Unlock()
	}
}

var placeholder = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// begin starts a session from a start message, once.
func (a *Agent) begin(payload []byte) {
	var outer struct{ Content, TaskId string }
	var in struct {
		SessionId       string
		DocumentContent struct {
			SessionType string
			Parameters  map[string]struct{ Default string }
			Properties  map[string]any
		}
		Parameters map[string]any
	}
	if json.Unmarshal(payload, &outer) != nil || json.Unmarshal([]byte(outer.Content), &in) != nil {
		return
	}
	a.mu.Lock()
	if a.known[in.SessionId] != nil {
		a.mu.Unlock()
		return
	}
	s := &Session{ID: in.SessionId, agent: a, properties: map[string]string{}, clientID: agentmsg.NewUUID().String()}
	a.known[s.ID] = s
	a.mu.Unlock()
	for name, value := range in.DocumentContent.Properties {
		s.properties[name] = placeholder.ReplaceAllStringFunc(fmt.Sprint(value), func(p string) string {
			key := placeholder.FindStringSubmatch(p)[1]
			switch v := in.Parameters[key].(type) {
			case string:
				return v
			case []any:
				return fmt.Sprint(v[0])
			}
			return in.DocumentContent.Parameters[key].Default
		})
	}
	go func() {
		status := "Success"
		err := s.run(in.DocumentContent.SessionType)
		var closed *stream.ClosedError
		if err != nil && !errors.Is(err, stream.ErrEnded) && !errors.As(err, &closed) {
			status, s.output = "Failed", err.Error()
		}
		a.complete(s, status)
	}()
}

// complete reports a session's end, three times at most.
func (a *Agent) complete(s *Session, status string) {
	for try := range 3 {
		id := agentmsg.NewUUID()
		payload, _ := json.Marshal(map[string]any{"SchemaVersion": 1, "TaskId": s.ID, "Topic": agentmsg.AgentTaskComplete,
			"FinalTaskStatus": status, "IsRoutingFailure": false, "AwsAccountId": "", "InstanceId": a.opts.Target, "Output": s.output,
			"S3Bucket": "", "S3UrlSuffix": "", "CwlGroup": "", "CwlStream": "", "RetryNumber": try})
		done := make(chan struct{})
		a.mu.Lock()
		a.waiting[id.String()] = done
		c := a.control
		a.mu.Unlock()
		_ = c.SendUrgent(websocket.Binary, agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.AgentTaskComplete, ID: id,
			Payload: payload}))
		select {
		case <-done:
			return
		case <-a.ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

func (s *Session) host() string {
	if s.properties["host"] != "" {
		return s.properties["host"]
	}
	return "localhost"
}

func (s *Session) target() (net.Conn, error) {
	return net.DialTimeout("tcp", net.JoinHostPort(s.host(), s.properties["portNumber"]), 5*time.Second)
}

// dial opens the session's data channel.
func (s *Session) dial(ctx context.Context) (*websocket.Conn, error) {
	a := s.agent
	token, err := a.create(ctx, "/v1/data-channel/"+s.ID, map[string]string{"ClientId": s.clientID})
	if err != nil {
		return nil, err
	}
	return a.open(ctx, "/v1/data-channel/"+s.ID+"?role=publish_subscribe",
		map[string]string{"TokenValue": token, "ClientInstanceId": a.opts.Target, "ClientId": s.clientID})
}

// run is a session from its data channel to its end.
func (s *Session) run(sessionType string) error {
	a := s.agent
	if sessionType != "Port" {
		return fmt.Errorf("session type %s is not supported", sessionType)
	}
	if a.opts.Probe != nil {
		if err := a.opts.Probe(s.host(), s.properties["portNumber"]); err != nil {
			return err
		}
	}
	if a.opts.Raw != nil {
		c, err := s.dial(a.ctx)
		if err != nil {
			return err
		}
		return a.opts.Raw(c)
	}
	cfg := a.opts.Stream
	cfg.Agent = true
	cfg.Dial = s.dial
	cfg.OnOpen = func(c *websocket.Conn) {
		payload, _ := json.Marshal(map[string]any{"SchemaVersion": 1, "SessionState": "Connected", "SessionId": s.ID})
		_ = c.Send(websocket.Binary, agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.AgentSessionState, Flags: 3,
			ID: agentmsg.NewUUID(), Payload: payload}))
	}
	end, err := stream.New(a.ctx, cfg)
	if err != nil {
		return err
	}
	s.agent.mu.Lock()
	s.End = end
	s.agent.mu.Unlock()
	defer end.Close()
	if err := s.handshake(); err != nil {
		return err
	}
	if s.properties["type"] == "LocalPortForwarding" && !strings.HasPrefix(s.ClientVersion, "1.1.") && !isOld(s.agent.opts.Version) {
		return s.multiplexed()
	}
	return s.basic()
}

func (s *Session) handshake() error {
	began := time.Now()
	properties := map[string]any{}
	for k, v := range s.properties {
		properties[k] = v
	}
	request, _ := json.Marshal(map[string]any{"AgentVersion": s.agent.opts.Version, "RequestedClientActions": []any{map[string]any{
		"ActionType": "SessionType", "ActionParameters": map[string]any{"SessionType": "Port", "Properties": properties}}}})
	if err := s.End.Send(agentmsg.HandshakeRequest, request); err != nil {
		return err
	}
	item, err := s.End.Next()
	if err != nil {
		return err
	}
	var response struct {
		ClientVersion          string
		HalfClose              bool
		ProcessedClientActions []struct{ ActionStatus int }
	}
	if err := json.Unmarshal(item.Data, &response); item.Type != agentmsg.HandshakeResponse || err != nil {
		return fmt.Errorf("handshake: payload type %d: %v", item.Type, err)
	}
	s.ClientVersion, s.HalfClose = response.ClientVersion, response.HalfClose
	done, _ := json.Marshal(map[string]any{"HandshakeTimeToComplete": time.Since(began).Nanoseconds(), "CustomerMessage": "reference agent"})
	return s.End.Send(agentmsg.HandshakeComplete, done)
}

func (s *Session) multiplexed() error {
	s.mux = smux.New(smux.Config{HalfClose: s.HalfClose, Send: func(b []byte) error { return s.End.Send(agentmsg.Output, b) }})
	go func() {
		for {
			st, err := s.mux.Accept()
			if err != nil {
				return
			}
			go s.forward(st)
		}
	}()
	for {
		item, err := s.End.Next()
		if err != nil {
			s.mux.Close(err)
			return err
		}
		switch {
		case item.Type == agentmsg.Flag && bytes.Equal(item.Data, []byte{0, 0, 0, agentmsg.TerminateSession}):
			s.mux.Close(io.EOF)
			return nil
		case item.Type == agentmsg.Output:
			if err := s.mux.Feed(item.Data); err != nil {
				return err
			}
		}
	}
}

func (s *Session) forward(st *smux.Stream) {
	conn, err := s.target()
	if err != nil {
		_ = s.End.Send(agentmsg.Flag, []byte{0, 0, 0, agentmsg.ConnectToPortError})
		_ = st.Close()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(conn, st)
		if s.HalfClose {
			_ = conn.(*net.TCPConn).CloseWrite()
			return
		}
		_ = conn.Close()
	}()
	_, _ = io.Copy(st, conn)
	if s.HalfClose {
		_ = st.CloseWrite()
		<-done
	}
	_ = st.Close()
	<-done
	_ = conn.Close()
}

// basic forwards one connection at a time.
func (s *Session) basic() error {
	conn, err := s.target() // before the session starts
	if err != nil {
		return err
	}
	go s.upstream(conn)
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for {
		item, err := s.End.Next()
		if err != nil {
			return err
		}
		switch {
		case item.Type == agentmsg.Flag && len(item.Data) == 4 && item.Data[3] == agentmsg.TerminateSession:
			return nil
		case item.Type == agentmsg.Flag && len(item.Data) == 4 && item.Data[3] == agentmsg.DisconnectToPort:
			if conn != nil {
				_ = conn.Close()
				conn = nil
			}
		case item.Type == agentmsg.Output:
			if conn == nil {
				if conn, err = s.target(); err != nil {
					_ = s.End.Send(agentmsg.Flag, []byte{0, 0, 0, agentmsg.ConnectToPortError})
					conn = nil
					continue
				}
				go s.upstream(conn)
			}
			_, _ = conn.Write(item.Data)
		}
	}
}

func (s *Session) upstream(conn net.Conn) {
	b := make([]byte, agentmsg.MaxPayloadBytes)
	for {
		n, err := io.ReadAtLeast(conn, b, 1)
		if n > 0 && s.End.Send(agentmsg.Output, b[:n]) != nil || err != nil {
			return
		}
	}
}

// isOld tells whether an agent of that version is from before the multiplexer.
func isOld(version string) bool {
	return strings.HasPrefix(version, "3.0.") || strings.HasPrefix(version, "2.")
}
