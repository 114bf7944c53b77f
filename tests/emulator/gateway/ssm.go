package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fumidai/tests/emulator/edge"
)

var sessionCalls map[string]func(*Gateway, *edge.Call) (any, error)

func init() { // not in the declaration: the functions are reached from Services, which refers to it
	sessionCalls = map[string]func(*Gateway, *edge.Call) (any, error){
		"StartSession":        (*Gateway).startSession,
		"ResumeSession":       (*Gateway).resumeSession,
		"TerminateSession":    (*Gateway).terminateSession,
		"DescribeSessions":    (*Gateway).describeSessions,
		"GetConnectionStatus": (*Gateway).connectionStatus,
	}
}

// serveSession answers one of ssm's calls about sessions.
func (g *Gateway) serveSession(w http.ResponseWriter, c *edge.Call) error {
	answer, err := sessionCalls[c.Action](g, c)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	return json.NewEncoder(w).Encode(answer)
}

func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return &edge.Error{Code: "SerializationException", Message: err.Error()}
	}
	return nil
}

// Started is the answer to StartSession.
type Started struct {
	SessionID  string  `json:"SessionId"`
	StreamURL  string  `json:"StreamUrl"`
	TokenValue *string `json:"TokenValue"`
}

func (g *Gateway) startSession(c *edge.Call) (any, error) {
	var in struct {
		Target, DocumentName, Reason string
		Parameters                   map[string][]string
	}
	if err := decode(c.Body, &in); err != nil {
		return nil, err
	}
	c.Resource = in.Target
	return g.StartSession(g.streamBase(c.Request), c.Principal.ARN, in.Target, in.DocumentName, in.Reason, in.Parameters)
}

func (g *Gateway) streamBase(r *http.Request) string {
	if g.cfg.StreamBase != nil {
		return g.cfg.StreamBase(r)
	}
	scheme, host := "ws://", r.Host
	if r.TLS != nil {
		scheme = "wss://"
	}
	if rest, ok := strings.CutPrefix(host, "ssm."); ok { // a real host name, through the intercepting proxy
		host = "ssmmessages." + rest
	}
	return scheme + host
}

const shellDocument = "SSM-SessionManagerRunShell"

// StartSession starts a session as ssm:StartSession does, for a caller inside the emulator (ExecuteCommand) or a test.
// base is what the stream URL begins with.
func (g *Gateway) StartSession(base, principal, target, document, reason string, parameters map[string][]string) (*Started, error) {
	if document == "" {
		document = shellDocument
	}
	g.mu.Lock()
	d, ok := g.documents[document]
	g.mu.Unlock()
	if !ok {
		return nil, &edge.Error{Code: "InvalidDocument", Message: "Document with name " + document + " does not exist."}
	}
	if err := d.checkParameters(parameters); err != nil {
		return nil, err
	}
	settings := g.settings.Load()
	if err := g.tooOld(target, document); err != nil {
		return nil, err
	}
	if !g.Connected(target) && settings.HoldStart == 0 {
		return nil, &edge.Error{Code: "TargetNotConnected", Message: target + " is not connected."}
	}
	s := newSession(g, principal[strings.LastIndexByte(principal, '/')+1:]+"-"+randomHex(17), target, principal, reason, document, parameters)
	s.ownerID = edge.Principal{ARN: principal}.UserID()
	g.mu.Lock()
	g.sessions[s.ID] = s
	g.order = append(g.order, s)
	g.mu.Unlock()
	g.logf("session %s: %s asks %s for %s %v", s.ID, principal, target, document, parameters)
	g.deliverStart(s, d, settings)
	value := g.issueToken(clientToken, s.ID)
	return &Started{s.ID, base + dataPath + s.ID + "?" + s.query, &value}, nil
}

// remoteHostDocument is refused where the agent is older than remoteHostVersion, which it has said when it opened its control
// channel (release notes of AWS's agent; the code of the refusal is recorded nowhere).
const (
	remoteHostDocument = "AWS-StartPortForwardingSessionToRemoteHost"
	remoteHostVersion  = "3.1.1374.0"
)

func (g *Gateway) tooOld(target, document string) error {
	g.mu.Lock()
	version := g.target(target).hello.AgentVersion
	g.mu.Unlock()
	if document != remoteHostDocument || version == "" || !olderVersion(version, remoteHostVersion) {
		return nil
	}
	return &edge.Error{Code: "UnsupportedFeatureRequiredException", Message: "The agent of " + target + " is " + version +
		"; to forward to a remote host it must be " + remoteHostVersion + " or later."}
}

// olderVersion compares dotted versions number by number.
func olderVersion(a, than string) bool {
	as, bs := strings.Split(a, "."), strings.Split(than, ".")
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}

// deliverStart sends interactive_shell, now or when the control channel opens.
func (g *Gateway) deliverStart(s *Session, d Document, settings *Settings) {
	b := g.startMessage(s, d)
	g.mu.Lock()
	t := g.target(s.Target)
	for range max(1, settings.StartCopies) {
		if t.channel == nil || t.channel.send(b, true) != nil {
			t.pending = append(t.pending, b)
		}
	}
	g.mu.Unlock()
	if !g.Connected(s.Target) {
		time.AfterFunc(settings.HoldStart, func() {
			if s.Status() == Connecting && !g.Connected(s.Target) {
				s.order("The target did not connect")
			}
		})
	}
}

func (g *Gateway) resumeSession(c *edge.Call) (any, error) {
	var in struct{ SessionId string }
	if err := decode(c.Body, &in); err != nil {
		return nil, err
	}
	c.Resource = in.SessionId
	s := g.Session(in.SessionId)
	if s == nil {
		return nil, &edge.Error{Code: "DoesNotExistException", Message: "Session " + in.SessionId + " does not exist"}
	}
	out := &Started{SessionID: s.ID, StreamURL: g.streamBase(c.Request) + dataPath + s.ID + "?" + s.query}
	if !s.Ended() {
		value := g.issueToken(clientToken, s.ID)
		out.TokenValue = &value
	}
	return out, nil
}

func (g *Gateway) terminateSession(c *edge.Call) (any, error) {
	var in struct{ SessionId string }
	if err := decode(c.Body, &in); err != nil {
		return nil, err
	}
	c.Resource = in.SessionId
	if s := g.Session(in.SessionId); s != nil {
		s.Terminate()
	}
	return map[string]string{"SessionId": in.SessionId}, nil
}

func (g *Gateway) connectionStatus(c *edge.Call) (any, error) {
	var in struct{ Target string }
	if err := decode(c.Body, &in); err != nil {
		return nil, err
	}
	c.Resource = in.Target
	status := "notconnected"
	if g.Connected(in.Target) {
		status = "connected"
	}
	return map[string]string{"Target": in.Target, "Status": status}, nil
}

func (g *Gateway) describeSessions(c *edge.Call) (any, error) {
	var in struct {
		State      string
		MaxResults int
		NextToken  string
		Filters    []struct{ Key, Value string }
	}
	if err := decode(c.Body, &in); err != nil {
		return nil, err
	}
	if in.State != "Active" && in.State != "History" {
		return nil, &edge.Error{Code: "ValidationException", Message: fmt.Sprintf("State %q must be Active or History", in.State)}
	}
	list := []map[string]any{}
	for _, s := range g.Sessions("") {
		if s.over() == (in.State == "Active") {
			continue
		}
		one := s.describe()
		wanted := true
		for _, f := range in.Filters {
			member := map[string]string{"Target": "Target", "Owner": "Owner", "SessionId": "SessionId", "Status": "Status"}[f.Key]
			if member == "" {
				return nil, &edge.Error{Code: "InvalidFilterKey", Message: "filter " + f.Key + " is not emulated"}
			}
			wanted = wanted && one[member] == f.Value
		}
		if wanted {
			list = append([]map[string]any{one}, list...) // the service gives the latest first
		}
	}
	if in.MaxResults > 0 && len(list) > in.MaxResults {
		list = list[:in.MaxResults]
	}
	return map[string]any{"Sessions": list}, nil
}

func (s *Session) describe() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[string]any{"SessionId": s.ID, "Target": s.Target, "Status": string(s.status), "DocumentName": s.Document,
		"Owner": s.Owner, "StartDate": float64(s.Started.UnixMilli()) / 1000}
	if s.Reason != "" {
		m["Reason"] = s.Reason
	}
	if !s.ended.IsZero() {
		m["EndDate"] = float64(s.ended.UnixMilli()) / 1000
	}
	return m
}
