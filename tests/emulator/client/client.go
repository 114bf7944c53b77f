// Package client is the client's end of a port session, as AWS's session-manager-plugin is one, without its pauses and
// without its faults: what a correct client does, as fast as it can. Tests and benchmarks use it beside the plugin.
package client

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/smux"
	"fumidai/tests/emulator/stream"
	"fumidai/tests/emulator/websocket"
)

// Options of a session.
type Options struct {
	// SessionID, StreamURL, Token are StartSession's answer.
	SessionID, StreamURL, Token string
	// Resume gets a new token after a loss ("" if the session has ended); nil: a loss ends the session.
	Resume func(ctx context.Context) (string, error)
	// Sign signs the opening of the websocket, as clients do from version SigningVersion on; nil: it is not signed.
	Sign func(r *http.Request) error
	TLS  *tls.Config
	// Version to call itself; "": a current one. "1.1.50.0" and older get basic sessions.
	Version string
	// HalfClose announces that FIN of a stream ends one direction only.
	HalfClose bool
	// Stream settings: pace, window, buffers. Its Dial and role are set here.
	Stream stream.Config
	// MuxBuffer bounds what is held for all streams; 0: the protocol's 4 MiB.
	MuxBuffer int
	// HandshakeTimeout; 0: 15 s.
	HandshakeTimeout time.Duration
}

const (
	// DefaultVersion is a version with every feature switched on.
	DefaultVersion = "1.2.814.0"
	// SigningVersion is the first that signs the opening of its websocket.
	SigningVersion = "1.2.764.0"
)

// Client is one session.
type Client struct {
	opts Options
	End  *stream.End
	Mux  *smux.Mux // nil in a basic session

	AgentVersion    string
	SessionType     string
	Properties      map[string]any
	CustomerMessage string
	HandshakeTime   time.Duration // as the agent says

	mu       sync.Mutex
	flags    []uint32 // received
	flagCame chan struct{}
	clientID string
	basic    *io.PipeReader
	basicIn  *io.PipeWriter
}

// Open opens the data channel and completes the handshake.
func Open(ctx context.Context, opts Options) (*Client, error) {
	if opts.Version == "" {
		opts.Version = DefaultVersion
	}
	if opts.HandshakeTimeout == 0 {
		opts.HandshakeTimeout = 15 * time.Second
	}
	c := &Client{opts: opts, clientID: agentmsg.NewUUID().String(), flagCame: make(chan struct{}, 64)}
	cfg := opts.Stream
	cfg.Agent = false
	token := opts.Token
	cfg.Dial = func(ctx context.Context) (*websocket.Conn, error) {
		use := token
		token = ""
		return c.dial(ctx, use)
	}
	end, err := stream.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.End = end
	late := time.AfterFunc(opts.HandshakeTimeout, end.Close)
	err = c.handshake()
	if !late.Stop() && err == nil {
		err = errors.New("timeout")
	}
	if err != nil {
		end.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	go c.receive()
	return c, nil
}

func (c *Client) dial(ctx context.Context, token string) (*websocket.Conn, error) {
	if token == "" {
		if c.opts.Resume == nil {
			return nil, stream.ErrEnded
		}
		var err error
		if token, err = c.opts.Resume(ctx); err != nil {
			return nil, err
		}
		if token == "" {
			return nil, stream.ErrEnded
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	header := http.Header{}
	if c.opts.Sign != nil && !newer(SigningVersion, c.opts.Version) {
		opening, err := http.NewRequestWithContext(ctx, http.MethodGet, c.opts.StreamURL, nil)
		if err == nil {
			err = c.opts.Sign(opening)
		}
		if err != nil {
			return nil, err
		}
		header = opening.Header
	}
	conn, err := websocket.Dial(ctx, c.opts.StreamURL, header, c.opts.TLS)
	if err != nil {
		return nil, err
	}
	first, _ := json.Marshal(map[string]string{"MessageSchemaVersion": "1.0", "RequestId": agentmsg.NewUUID().String(),
		"TokenValue": token, "ClientId": c.clientID, "ClientVersion": c.opts.Version})
	return conn, conn.Send(websocket.Text, first)
}

// handshake answers the agent's request and waits for its completion.
func (c *Client) handshake() error {
	for {
		item, err := c.End.Next()
		if err != nil {
			return err
		}
		switch item.Type {
		case agentmsg.HandshakeRequest:
			if err := c.answer(item.Data); err != nil {
				return err
			}
		case agentmsg.HandshakeComplete:
			var done struct {
				HandshakeTimeToComplete int64
				CustomerMessage         string
			}
			if err := json.Unmarshal(item.Data, &done); err != nil {
				return err
			}
			c.HandshakeTime, c.CustomerMessage = time.Duration(done.HandshakeTimeToComplete), done.CustomerMessage
			if c.SessionType != "Port" {
				return fmt.Errorf("session type %q", c.SessionType)
			}
			c.begin()
			return nil
		default:
			return fmt.Errorf("payload type %d before the handshake is complete", item.Type)
		}
	}
}

func (c *Client) answer(request []byte) error {
	b, err := c.response(request)
	if err != nil {
		return err
	}
	return c.End.Send(agentmsg.HandshakeResponse, b)
}

// response answers a handshake request and notes what it says.
func (c *Client) response(request []byte) ([]byte, error) {
	var in struct {
		AgentVersion           string
		RequestedClientActions []struct {
			ActionType       string
			ActionParameters struct {
				SessionType string
				Properties  map[string]any
			}
		}
	}
	if err := json.Unmarshal(request, &in); err != nil {
		return nil, err
	}
	c.AgentVersion = in.AgentVersion
	type processed struct {
		ActionType   string
		ActionStatus int
		ActionResult any
		Error        string
	}
	out := struct {
		ClientVersion          string
		ProcessedClientActions []processed
		Errors                 []string
		HalfClose              bool `json:",omitempty"`
	}{ClientVersion: c.opts.Version, ProcessedClientActions: []processed{}, HalfClose: c.opts.HalfClose}
	for _, a := range in.RequestedClientActions {
		p := processed{ActionType: a.ActionType, ActionStatus: 1}
		if a.ActionType == "SessionType" {
			c.SessionType, c.Properties = a.ActionParameters.SessionType, a.ActionParameters.Properties
		} else {
			p.ActionStatus, p.Error = 3, "Unsupported action "+a.ActionType
			out.Errors = append(out.Errors, p.Error)
		}
		out.ProcessedClientActions = append(out.ProcessedClientActions, p)
	}
	return json.Marshal(out)
}

// begin sets up the multiplexer if both sides know it and the session's type is one for it.
func (c *Client) begin() {
	multiplexed := c.Properties["type"] == "LocalPortForwarding" && newer(c.AgentVersion, "3.0.196.0") &&
		!newer("1.1.70.0", c.opts.Version)
	if !multiplexed {
		c.basic, c.basicIn = io.Pipe()
		return
	}
	c.Mux = smux.New(smux.Config{Client: true, HalfClose: c.opts.HalfClose, BufferBytes: c.opts.MuxBuffer,
		Send: func(b []byte) error { return c.End.Send(agentmsg.Output, b) }})
}

// newer compares dotted versions numerically.
func newer(a, than string) bool {
	as, bs := strings.Split(a, "."), strings.Split(than, ".")
	if len(as) != len(bs) {
		return false
	}
	for i := range as {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x > y
		}
	}
	return false
}

func (c *Client) receive() {
	for {
		item, err := c.End.Next()
		if err != nil {
			if c.Mux != nil {
				c.Mux.Close(err)
			} else {
				_ = c.basicIn.CloseWithError(err)
			}
			return
		}
		switch {
		case item.Type == agentmsg.Flag && len(item.Data) >= 4:
			c.mu.Lock()
			c.flags = append(c.flags, binary.BigEndian.Uint32(item.Data))
			c.mu.Unlock()
			select {
			case c.flagCame <- struct{}{}:
			default:
			}
		case item.Type == agentmsg.Output && c.Mux != nil:
			if err := c.Mux.Feed(item.Data); err != nil {
				c.End.Close()
			}
		case item.Type == agentmsg.Output:
			_, _ = c.basicIn.Write(item.Data)
		}
	}
}

// Flags are the flags the agent has sent.
func (c *Client) Flags() []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]uint32(nil), c.flags...)
}

// WaitFlag waits until the agent has sent a flag once more than the given number of times.
func (c *Client) WaitFlag(flag uint32, times int, timeout time.Duration) error {
	end := time.After(timeout)
	for {
		n := 0
		for _, f := range c.Flags() {
			if f == flag {
				n++
			}
		}
		if n > times {
			return nil
		}
		select {
		case <-c.flagCame:
		case <-end:
			return fmt.Errorf("flag %d has come %d times within %v", flag, n, timeout)
		}
	}
}

// SendFlag sends a flag.
func (c *Client) SendFlag(flag uint32) error {
	return c.End.Send(agentmsg.Flag, binary.BigEndian.AppendUint32(nil, flag))
}

// Stream is a connection through a session.
type Stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Dial opens a connection to the session's target: a stream of a multiplexed session, the only one of a basic session.
func (c *Client) Dial() (Stream, error) {
	if c.Mux == nil {
		return &basicStream{c}, nil
	}
	return c.Mux.Open()
}

type basicStream struct{ c *Client }

func (b *basicStream) Read(p []byte) (int, error) { return b.c.basic.Read(p) }

func (b *basicStream) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		part := p[n:min(n+agentmsg.MaxPayloadBytes, len(p))]
		if err := b.c.End.Send(agentmsg.Output, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return len(p), nil
}

// CloseWrite does not exist in basic sessions: closing is all there is.
func (b *basicStream) CloseWrite() error { return errors.ErrUnsupported }

// Close tells the agent to close its connection to the target; the next data opens another.
func (b *basicStream) Close() error { return b.c.SendFlag(agentmsg.DisconnectToPort) }

// Listen forwards a local port, as the plugin does, until the session ends.
func (c *Client) Listen(port int) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	go func() {
		<-c.End.Done()
		_ = l.Close()
	}()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.forward(conn.(*net.TCPConn))
		}
	}()
	return l, nil
}

func (c *Client) forward(conn *net.TCPConn) {
	s, err := c.Dial()
	if err != nil {
		_ = conn.Close()
		return
	}
	go func() {
		_, _ = io.Copy(s, conn)
		if c.opts.HalfClose {
			_ = s.CloseWrite()
			return
		}
		_ = s.Close()
	}()
	_, _ = io.Copy(conn, s)
	_ = conn.CloseWrite()
	if !c.opts.HalfClose {
		_ = s.Close()
		_ = conn.Close()
	}
}

// Terminate ends the session from the client's side, as the plugin does on SIGINT.
func (c *Client) Terminate() error { return c.SendFlag(agentmsg.TerminateSession) }

// Close leaves without a word.
func (c *Client) Close() { c.End.Close() }
