// Package edge is the front of the emulator: one port that speaks TLS (with a leaf of the emulator's CA for any host
// name), plain HTTP, and CONNECT as an intercepting proxy. It routes requests to AWS APIs by host name, target, path
// or version, verifies every signature with the AWS SDK's own signer, injects faults, and records every call.
//
// A service plugs in with Edge.Handle(&Service{…}).
package edge

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fumidai/tests/emulator/iam"
)

// maxBody is more than any AWS JSON API takes (ECS's largest task definition is 64 KiB).
const maxBody = 4 << 20

// leastLatency of an API call. No answer of AWS's comes sooner, and AWS's SDKs of 2023 rely on that: they close a request's
// body once the answer is there, and when that is before Go's HTTP client has finished with the body (within a fraction of
// a millisecond), it closes the connection under the answer ("use of closed network connection").
const leastLatency = 3 * time.Millisecond

// Edge serves the AWS APIs. Make one with New.
type Edge struct {
	CA       *CA
	Keys     Keys
	Faults   Faults
	Recorder Recorder
	Log      *slog.Logger

	skew     atomic.Int64
	services []*Service
	server   *http.Server
	proxied  *connListener // connections that came through CONNECT, or whose first byte has been looked at

	mu        sync.Mutex
	listeners []net.Listener
	conns     map[net.Conn]struct{}
}

// New makes an edge with a CA of its own that serves nothing yet.
func New(log *slog.Logger) (*Edge, error) {
	ca, err := NewCA()
	if err != nil {
		return nil, err
	}
	e := &Edge{CA: ca, Log: log, conns: map[net.Conn]struct{}{}, proxied: newConnListener()}
	e.server = &http.Server{
		Handler:           e,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go e.server.Serve(e.proxied) //nolint:errcheck // ends with Close
	return e, nil
}

// Handle adds a service. To be called before the first request.
func (e *Edge) Handle(services ...*Service) { e.services = append(e.services, services...) }

// SetSkew shifts the clock of the services: what they compare signatures with and put into the Date header.
func (e *Edge) SetSkew(d time.Duration) { e.skew.Store(int64(d)) }

// Skew is how far the services' clock is shifted.
func (e *Edge) Skew() time.Duration { return time.Duration(e.skew.Load()) }

// Now is the services' clock.
func (e *Edge) Now() time.Time { return time.Now().Add(e.Skew()) }

// Serve takes connections from a listener (TLS, plain or CONNECT, by their first bytes) until Close.
func (e *Edge) Serve(l net.Listener) {
	e.mu.Lock()
	e.listeners = append(e.listeners, l)
	e.mu.Unlock()
	fallback, _, _ := net.SplitHostPort(l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go e.welcome(conn, fallback)
		}
	}()
}

// Close stops listening and cuts every connection.
func (e *Edge) Close() {
	e.mu.Lock()
	conns := slices.Collect(maps.Keys(e.conns))
	for _, l := range e.listeners {
		l.Close()
	}
	e.mu.Unlock()
	e.proxied.Close()
	e.server.Close()
	for _, conn := range conns {
		conn.Close()
	}
}

// ServeHTTP answers one request: the whole way of a call is here.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		e.serveConnect(w, r)
		return
	}
	c := &Call{Request: r, RequestID: requestID(), Now: e.Now(), edge: e}
	answer := &answerWriter{ResponseWriter: w}
	answer.taken = func() { e.record(c, http.StatusSwitchingProtocols) } // a websocket is recorded when it opens
	w.Header().Set("Date", c.Now.UTC().Format(http.TimeFormat))
	w.Header().Set("X-Amzn-RequestId", c.RequestID)
	err := e.serve(answer, c)
	if err != nil && !errors.Is(err, http.ErrAbortHandler) {
		e.fail(answer, c, err)
	}
	if answer.status != http.StatusSwitchingProtocols {
		e.record(c, answer.status)
	}
	if errors.Is(err, http.ErrAbortHandler) {
		reset(w)
	}
}

// ServeLocal serves one request of an endpoint in a task (metadata, credentials), which is not signed: the fault
// switchboard has its say, with the task's id as subject and its age, and the call is recorded.
func (e *Edge) ServeLocal(w http.ResponseWriter, r *http.Request, service, action, taskARN, subject string, age time.Duration, handler http.HandlerFunc) {
	c := &Call{Request: r, Service: &Service{Name: service}, Action: action, RequestID: requestID(), Now: e.Now(), edge: e}
	c.Principal.Task, c.Resource = taskARN, taskARN
	answer := &answerWriter{ResponseWriter: w}
	err := e.before(c, e.Faults.Decide(service, action, subject, age))
	switch {
	case err == nil && c.fault != nil && c.fault.Effect == EffectResetAfter:
		handler(discard{header: http.Header{}}, r)
		err = http.ErrAbortHandler
	case err == nil:
		handler(answer, r)
	case !errors.Is(err, http.ErrAbortHandler):
		e.fail(answer, c, err)
	}
	e.record(c, answer.status)
	if errors.Is(err, http.ErrAbortHandler) {
		reset(w)
	}
}

func (e *Edge) serve(w *answerWriter, c *Call) error {
	var err error
	c.Body, err = io.ReadAll(http.MaxBytesReader(w, c.Request.Body, maxBody))
	if err != nil {
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: "RequestEntityTooLargeException", Message: err.Error()}
	}
	c.Request.Body = io.NopCloser(bytes.NewReader(c.Body))
	if err := e.route(c); err != nil {
		return err
	}
	if c.Service.TargetPrefix != "" || c.Service.QueryVersion != "" {
		time.Sleep(leastLatency)
	}
	subject := ""
	if c.Service.Subject != nil {
		subject = c.Service.Subject(c.Request)
	}
	decision := e.Faults.Decide(c.Service.Name, c.Action, subject, 0)
	if err := e.before(c, decision); err != nil {
		return err
	}
	if c.Service.Unsigned == nil || !c.Service.Unsigned(c.Request) {
		c.Principal, c.Region, err = e.Keys.verify(c.Request, c.Body, c.Service.Name, c.Now)
		if err != nil {
			var refused *Error
			if errors.As(err, &refused) && refused.Status == 0 {
				refused.Status = c.Service.AuthStatus
			}
			return err
		}
		if err := c.permitted(); err != nil {
			return err
		}
	}
	if c.fault != nil && c.fault.Effect == EffectResetAfter {
		// Let the service do its work into nowhere.
		if err := c.Service.Serve(discard{header: http.Header{}}, c); err != nil {
			c.error = err.Error()
		}
		return http.ErrAbortHandler
	}
	return c.Service.Serve(w, c)
}

// permitted asks the principal's policies for all that the call takes.
func (c *Call) permitted() error {
	needs := []iam.Request{{Action: c.Service.Name + ":" + c.Action, Resource: "*"}}
	if c.Service.Needs != nil {
		needs = c.Service.Needs(c)
	}
	err := c.Permitted(needs...)
	var refused *Error
	if errors.As(err, &refused) {
		refused.Status = c.Service.AuthStatus
	}
	return err
}

// before applies what a fault does before the service sees the call.
func (e *Edge) before(c *Call, v Decision) error {
	if v.Delay > 0 {
		select {
		case <-time.After(v.Delay):
		case <-c.Context().Done():
			return http.ErrAbortHandler
		}
	}
	c.fault = v.Fault
	if v.Fault == nil {
		return nil
	}
	switch v.Fault.Effect {
	case EffectResetBefore:
		return http.ErrAbortHandler
	case EffectHang:
		<-c.Context().Done()
		return http.ErrAbortHandler
	case EffectError:
		return &Error{Status: v.Fault.Status, Code: v.Fault.Code, Message: v.Fault.Message, Body: v.Fault.Body}
	}
	return nil
}

// route finds the service and the name of the operation.
func (e *Edge) route(c *Call) error {
	target := c.Header.Get("X-Amz-Target")
	form := url.Values{}
	if strings.HasPrefix(c.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, _ = url.ParseQuery(string(c.Body))
	}
	i := slices.IndexFunc(e.services, func(s *Service) bool { return s.serves(c.Request, target, form) })
	if i < 0 {
		return NotEmulated(fmt.Sprintf("%s %s%s target=%q action=%q", c.Method, c.Host, c.URL.Path, target, form.Get("Action")))
	}
	c.Service = e.services[i]
	switch {
	case c.Service.Action != nil:
		c.Action = c.Service.Action(c.Request)
	case c.Service.TargetPrefix != "":
		c.Action = strings.TrimPrefix(target, c.Service.TargetPrefix)
	default:
		c.Action = form.Get("Action")
	}
	return nil
}

// serves reports whether a request is for this service. A real host name decides alone where it is known; through an
// address (AWS_ENDPOINT_URL) target, version and path decide.
func (s *Service) serves(r *http.Request, target string, form url.Values) bool {
	if host := hostname(r.Host); strings.Contains(host, ".amazonaws.com") || strings.HasSuffix(host, ".api.aws") {
		hosts := s.Hosts
		if hosts == nil {
			hosts = []string{s.Name}
		}
		return slices.ContainsFunc(hosts, func(label string) bool {
			return strings.HasPrefix(host, label+".") || strings.HasPrefix(host, label+"-fips.")
		})
	}
	if s.TargetPrefix != "" && strings.HasPrefix(target, s.TargetPrefix) {
		return true
	}
	if s.QueryVersion != "" && form.Get("Version") == s.QueryVersion {
		return true
	}
	return slices.ContainsFunc(s.PathPrefixes, func(prefix string) bool { return strings.HasPrefix(r.URL.Path, prefix) })
}

func (e *Edge) fail(w *answerWriter, c *Call, err error) {
	var known *Error
	if !errors.As(err, &known) {
		known = &Error{Status: http.StatusInternalServerError, Code: "InternalFailure", Message: err.Error()}
	}
	answer := *known
	if answer.Status == 0 {
		answer.Status = http.StatusBadRequest
	}
	c.error = answer.Code
	if answer.Code == "UnknownOperationException" {
		e.Log.Warn("not emulated", "method", c.Method, "host", c.Host, "path", c.URL.Path, "target", c.Header.Get("X-Amz-Target"), "why", answer.Message)
	}
	if w.status != 0 { // too late: an answer or a websocket has begun
		e.Log.Warn("error after the answer began", "service", c.Service.Name, "action", c.Action, "error", err)
		return
	}
	switch {
	case answer.Body != "":
		w.WriteHeader(answer.Status)
		_, _ = io.WriteString(w, answer.Body)
	case c.Service != nil && c.Service.WriteError != nil:
		c.Service.WriteError(w, c, &answer)
	case c.Service != nil && c.Service.QueryVersion != "":
		writeQueryError(w, c.RequestID, &answer)
	default:
		writeJSONError(w, &answer)
	}
}

func (e *Edge) record(c *Call, status int) {
	rec := Record{
		Time: c.Now, RequestID: c.RequestID, Action: c.Action, Region: c.Region,
		Principal: c.Principal.ARN, Role: c.Principal.Role, Task: c.Principal.Task,
		Resource: c.Resource, Status: status, Error: c.error,
	}
	if c.Service != nil {
		rec.Service = c.Service.Name
	}
	if c.fault != nil {
		rec.Fault = c.fault.Effect
	}
	e.Recorder.Add(rec)
	e.Log.Debug("call", "service", rec.Service, "action", rec.Action, "status", rec.Status, "error", rec.Error,
		"principal", rec.Principal, "fault", rec.Fault)
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func requestID() string {
	var b [16]byte
	rand.Read(b[:]) //nolint:errcheck // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
