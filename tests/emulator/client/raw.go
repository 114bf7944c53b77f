package client

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/smux"
	"fumidai/tests/emulator/websocket"
)

// Raw is a client that sends what it is told, in any order, keeps nothing and sends nothing again: for tests of what an agent
// does with clients that are not correct. The handshake it answers by itself.
type Raw struct {
	Conn      *websocket.Conn
	SessionID string

	ack   func(*agentmsg.Message) bool
	next  atomic.Int64
	ready chan struct{}
	ended chan struct{}

	mu       sync.Mutex // of what the reader counts
	received int64
	bytes    int64
	closed   string
}

// OpenRaw opens a session's data channel. What ack says yes to is acknowledged; nil: everything.
func OpenRaw(ctx context.Context, opts Options, ack func(*agentmsg.Message) bool) (*Raw, error) {
	if opts.Version == "" {
		opts.Version = DefaultVersion
	}
	if ack == nil {
		ack = func(*agentmsg.Message) bool { return true }
	}
	c := &Client{opts: opts, clientID: agentmsg.NewUUID().String()}
	conn, err := c.dial(ctx, opts.Token)
	if err != nil {
		return nil, err
	}
	r := &Raw{Conn: conn, SessionID: opts.SessionID, ack: ack, ready: make(chan struct{}), ended: make(chan struct{})}
	go r.read(c)
	return r, nil
}

// WaitReady waits until the handshake is complete.
func (r *Raw) WaitReady(limit time.Duration) error {
	select {
	case <-r.ready:
		return nil
	case <-r.ended:
		return fmt.Errorf("the session ended before the handshake was complete: %q", r.Closed())
	case <-time.After(limit):
		return fmt.Errorf("the handshake is not complete after %v", limit)
	}
}

func (r *Raw) read(c *Client) {
	defer close(r.ended)
	var out, scratch []byte
	answered, complete := false, false
	for {
		op, b, err := r.Conn.Next()
		if err != nil {
			return
		}
		m, err := agentmsg.Parse(b)
		if op != websocket.Binary || err != nil {
			continue
		}
		switch m.Type {
		case agentmsg.ChannelClosed:
			r.mu.Lock()
			r.closed = string(m.Payload)
			r.mu.Unlock()
			return
		case agentmsg.OutputStreamData:
		default:
			continue
		}
		r.mu.Lock()
		r.received++
		r.bytes += int64(len(m.Payload))
		r.mu.Unlock()
		if r.ack(&m) {
			out, scratch = agentmsg.AppendAcknowledge(out[:0], &m, scratch)
			_ = r.Conn.Send(websocket.Binary, out)
		}
		switch {
		case m.PayloadType == agentmsg.HandshakeRequest && !answered:
			answered = true
			text, err := c.response(m.Payload)
			if err != nil {
				return
			}
			r.Send(agentmsg.HandshakeResponse, text)
		case m.PayloadType == agentmsg.HandshakeComplete && !complete:
			complete = true
			close(r.ready)
		}
	}
}

// Received is how many stream messages and bytes of payload have come, duplicates included.
func (r *Raw) Received() (messages, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received, r.bytes
}

// Closed is the payload of channel_closed, once that has come.
func (r *Raw) Closed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Reserve takes so many sequence numbers out of the order and returns the first, for SendAs.
func (r *Raw) Reserve(n int64) int64 { return r.next.Add(n) - n }

// Send sends the next message.
func (r *Raw) Send(payloadType uint32, payload []byte) { r.SendAs(r.Reserve(1), payloadType, payload) }

// SendAs sends a message under a sequence number of the caller's.
func (r *Raw) SendAs(sequence int64, payloadType uint32, payload []byte) {
	_ = r.Conn.Send(websocket.Binary, agentmsg.Append(nil, &agentmsg.Message{Type: agentmsg.InputStreamData, Sequence: sequence,
		ID: agentmsg.NewUUID(), PayloadType: payloadType, Payload: payload}))
}

// Open says whether the data channel is still there.
func (r *Raw) Open() bool {
	select {
	case <-r.ended:
		return false
	default:
		return true
	}
}

// Close leaves without a word.
func (r *Raw) Close() { r.Conn.Abort() }

// Frames packs frames of the multiplexer into as few messages' payloads as hold them whole.
type Frames struct {
	Payloads [][]byte
}

// Add adds one frame.
func (f *Frames) Add(command byte, stream uint32, data []byte) {
	frame := smux.AppendFrame(nil, command, stream, data)
	if n := len(f.Payloads); n > 0 && len(f.Payloads[n-1])+len(frame) <= agentmsg.MaxPayloadBytes {
		f.Payloads[n-1] = append(f.Payloads[n-1], frame...)
		return
	}
	f.Payloads = append(f.Payloads, frame)
}

// StreamID is the id of a client's nth stream, from 0.
func StreamID(n int) uint32 { return uint32(3 + 2*n) }
