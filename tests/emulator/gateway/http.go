package gateway

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/websocket"
)

const (
	controlPath = "/v1/control-channel/"
	dataPath    = "/v1/data-channel/"
)

// Services are what the gateway serves behind the emulator's front. The calls of ssm that are not about sessions go to
// others; nil: they are not emulated.
func (g *Gateway) Services(others func(w http.ResponseWriter, c *edge.Call) error) []*edge.Service {
	return []*edge.Service{
		{Name: "ssmmessages", PathPrefixes: []string{controlPath, dataPath}, Unsigned: g.unsigned, Action: channelAction,
			Subject: channelID, AuthStatus: http.StatusForbidden, WriteError: writeXMLError, Needs: g.channelNeeds, Serve: g.serveChannel},
		{Name: "ssm", TargetPrefix: "AmazonSSM.", Needs: g.sessionNeeds, Serve: func(w http.ResponseWriter, c *edge.Call) error {
			if _, mine := sessionCalls[c.Action]; mine {
				return g.serveSession(w, c)
			}
			if others == nil {
				return edge.NotEmulated("ssm:" + c.Action)
			}
			return others(w, c)
		}},
	}
}

// unsigned: a client's data channel has a token and no signature, or both (1.2.764.0 and later).
func (g *Gateway) unsigned(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, dataPath) && r.Header.Get("Authorization") == "" &&
		!g.settings.Load().RefuseUnsigned
}

// Refusals that look like bad requests and mean "not allowed". Their status is recorded nowhere.
func refusal(action, message string) edge.Fault {
	return edge.Fault{Service: "ssmmessages", Action: action, Effect: edge.EffectError, Status: http.StatusBadRequest, Code: "BadRequest",
		Body: `<BadRequest xmlns=""><message>` + message + `</message></BadRequest>`}
}

// Unauthorized is the service's answer to a role without the permission.
func Unauthorized(action string) edge.Fault { return refusal(action, "Unauthorized request.") }

// NotAuthenticated is its answer to credentials that it does not take.
func NotAuthenticated(action string) edge.Fault {
	return refusal(action, randomHex(16)+": Request is not authenticated.")
}

func channelAction(r *http.Request) string {
	verb := map[string]string{http.MethodPost: "Create", http.MethodGet: "Open"}[r.Method]
	if strings.HasPrefix(r.URL.Path, controlPath) {
		return verb + "ControlChannel"
	}
	return verb + "DataChannel"
}

func channelID(r *http.Request) string {
	return strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, controlPath), dataPath)
}

func writeXMLError(w http.ResponseWriter, _ *edge.Call, e *edge.Error) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(e.Status)
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(e.Message))
	_, _ = io.WriteString(w, "<"+e.Code+">\n  <Message>"+text.String()+"</Message>\n</"+e.Code+">\n")
}

// serveChannel is POST (a token) or GET (a websocket) on one channel.
func (g *Gateway) serveChannel(w http.ResponseWriter, c *edge.Call) error {
	id := channelID(c.Request)
	c.Resource = id
	if g.isDown() {
		return &edge.Error{Status: 503, Code: "ServiceUnavailableException", Message: "Service Unavailable"}
	}
	kind := strings.TrimPrefix(strings.TrimPrefix(c.Action, "Create"), "Open")
	switch c.Method {
	case http.MethodPost:
		return g.createChannel(w, c, kind, id)
	case http.MethodGet:
		if err := g.checkQuery(c.Request, kind, id); err != nil {
			return err
		}
		g.openChannel(w, c, kind, id)
		return nil
	}
	return &edge.Error{Status: 405, Code: "MethodNotAllowedException", Message: c.Method}
}

// createChannel answers CreateControlChannel and CreateDataChannel with a token.
func (g *Gateway) createChannel(w http.ResponseWriter, call *edge.Call, kind, id string) error {
	var in struct{ MessageSchemaVersion, RequestId, ClientId string }
	if err := json.Unmarshal(call.Body, &in); err != nil {
		return &edge.Error{Status: 400, Code: "SerializationException", Message: err.Error()}
	}
	if in.MessageSchemaVersion != "1.0" || len(in.RequestId) != 36 {
		return &edge.Error{Status: 400, Code: "ValidationException", Message: "MessageSchemaVersion must be 1.0 and RequestId a UUID"}
	}
	token, query := "", agentQuery
	if kind == "ControlChannel" {
		query = controlQuery
		if len(id) == 0 || strings.ContainsRune(id, '/') {
			return &edge.Error{Status: 400, Code: "ValidationException", Message: "not a target: " + id}
		}
		token = g.issueToken(controlToken, id)
	} else {
		if len(in.ClientId) != 36 {
			return &edge.Error{Status: 400, Code: "ValidationException", Message: "ClientId must be a UUID"}
		}
		s := g.Session(id)
		if s == nil {
			return &edge.Error{Status: 404, Code: "ResourceNotFoundException", Message: "no session " + id}
		}
		if s.over() {
			return &edge.Error{Status: 400, Code: "InvalidRequestException", Message: "Session is already terminated"}
		}
		token = g.issueToken(agentToken, id)
	}
	answer := struct {
		XMLName              xml.Name
		MessageSchemaVersion string
		TokenValue           string
		URL                  string `xml:"url"` // AWS's agent does not use it
	}{xml.Name{Local: "Create" + kind + "Output"}, "1.0", token, g.streamBase(call.Request) + call.URL.EscapedPath() + "?" + query}
	text, err := xml.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(text)
	return nil
}

// over says whether no channel may be opened any more.
func (s *Session) over() bool {
	st := s.Status()
	return st == Terminated || st == Failed
}

const (
	agentQuery   = "role=publish_subscribe"
	controlQuery = "role=subscribe&stream=input"
)

// checkQuery: an agent's query is known; a client sends that of its stream URL as it is, byte for byte. Whose it is, only the
// token says.
func (g *Gateway) checkQuery(r *http.Request, kind, id string) error {
	want := agentQuery
	if kind == "ControlChannel" {
		want = controlQuery
	}
	if got := r.URL.RawQuery; r.URL.Query().Encode() != want {
		if s := g.Session(id); s == nil || got != s.query {
			return &edge.Error{Status: 400, Code: "ValidationException", Message: "query is " + got + ", must be " + want}
		}
	}
	return nil
}

// openChannel takes a websocket through its token and then serves it until it ends.
func (g *Gateway) openChannel(w http.ResponseWriter, call *edge.Call, kind, id string) {
	c := &channel{opened: time.Now()}
	conn, err := websocket.Accept(w, call.Request, func(nc net.Conn) net.Conn {
		c.fuse = websocket.NewFuse(nc)
		return c.fuse
	})
	if err != nil {
		g.logf("%s %s: %v", kind, id, err)
		return
	}
	c.conn = conn
	settings := g.settings.Load()
	conn.SetQueueBytes(settings.QueueBytes)
	g.track(conn, true)
	defer g.track(conn, false)
	defer c.end()

	late := time.AfterFunc(settings.FirstFrame, conn.Abort)
	op, first, err := conn.Next()
	late.Stop()
	if err != nil {
		g.logf("%s %s: no token: %v", kind, id, err)
		return
	}
	if err := g.admit(kind, id, call, c, op, first); err != nil {
		g.logf("%s %s: refused: %v", kind, id, err)
		conn.CloseWith(websocket.ClosePolicyViolation, err.Error())
	}
}

// opening is the first frame of any channel.
type opening struct {
	MessageSchemaVersion, RequestId, TokenValue string
	AgentVersion, PlatformType                  string // control channel
	ClientInstanceId, ClientId, ClientVersion   string // data channel
	Cookie                                      *string
}

// admit checks the first frame and, if it is good, serves the channel until it ends.
func (g *Gateway) admit(kind, id string, call *edge.Call, c *channel, op websocket.Opcode, first []byte) error {
	if op != websocket.Text {
		return errors.New("the first frame is not text")
	}
	var in opening
	if err := json.Unmarshal(first, &in); err != nil {
		return err
	}
	if in.MessageSchemaVersion != "1.0" || len(in.RequestId) != 36 {
		return errors.New("MessageSchemaVersion must be 1.0 and RequestId a UUID")
	}
	use, err := g.useToken(in.TokenValue, id)
	if err != nil {
		return err
	}
	c.kind, c.opened = use, time.Now()
	c.arm(g, g.faults.Load().channel(use, id))
	if kind == "ControlChannel" {
		if use != controlToken {
			return errors.New("not a control channel's token")
		}
		if in.PlatformType != "linux" || strings.Count(in.AgentVersion, ".") != 3 {
			g.targetViolation(id, "control channel opened with AgentVersion %q, PlatformType %q", in.AgentVersion, in.PlatformType)
		}
		c.conn.OnPing = func(payload []byte) { g.ping(id, payload) }
		g.serveControl(id, call.Principal.ARN, c, Hello{in.MessageSchemaVersion, in.RequestId, "", in.AgentVersion, in.PlatformType})
		return nil
	}
	return g.admitData(id, call, c, use, &in)
}

func (g *Gateway) ping(id string, payload []byte) {
	if string(payload) != "keepalive" {
		g.targetViolation(id, "a ping with payload %q", payload)
	}
	g.mu.Lock()
	g.target(id).pings++
	g.mu.Unlock()
}

func (g *Gateway) admitData(id string, call *edge.Call, c *channel, use tokenKind, in *opening) error {
	s := g.Session(id)
	if s == nil || s.over() {
		return errors.New("Session is already terminated") //nolint:staticcheck // the service's words
	}
	end := clientSide
	switch use {
	case agentToken:
		end = agentSide
		if call.Principal.ARN == "" {
			return errors.New("an agent's data channel must be signed")
		}
		if in.ClientInstanceId != s.Target {
			s.violation("agent: ClientInstanceId %q", in.ClientInstanceId)
		}
	case clientToken:
		if in.ClientVersion == "" {
			g.logf("session %s: the client does not tell its version", id)
		}
		if call.URL.RawQuery != s.query {
			s.violation("client: the query is %q, not that of its stream URL", call.URL.RawQuery)
		}
	default:
		return errors.New("not a data channel's token")
	}
	if len(in.ClientId) != 36 {
		s.violation("%s: ClientId %q", end, in.ClientId)
	}
	g.logf("session %s: %s attached", id, end)
	s.attach(end, c, in.ClientId)
	err := s.relay(end, c)
	s.detach(end, c)
	g.logf("session %s: %s detached: %v", id, end, err)
	return nil
}
