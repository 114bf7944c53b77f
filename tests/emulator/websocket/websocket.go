// Package websocket is RFC 6455 for a test peer that must never be what is measured: both roles, batched in both
// directions, and strict about what it is sent.
//
// Reading: one goroutine calls Next; a whole TCP receive queue is taken at once, frames are unmasked in place, and the
// payload handed out is a slice of that buffer, valid until the next call. Writing: any goroutine calls Send, which
// appends a frame to a bounded queue; one writer goroutine per connection swaps the queue for an empty one and writes
// all of it with one system call. A full queue blocks Send: that is how back-pressure travels from a peer which does
// not read to the peer which writes.
package websocket

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Opcode of a frame (RFC 6455, section 5.2).
type Opcode byte

// The opcodes that exist.
const (
	Continuation Opcode = 0
	Text         Opcode = 1
	Binary       Opcode = 2
	Close        Opcode = 8
	Ping         Opcode = 9
	Pong         Opcode = 10
)

// Close codes used here (RFC 6455, section 7.4.1).
const (
	CloseNormal          = 1000
	CloseGoingAway       = 1001
	CloseProtocolError   = 1002
	CloseNoStatus        = 1005
	ClosePolicyViolation = 1008
	CloseTooBig          = 1009
)

const (
	readBufferBytes = 256 << 10
	// MaxMessageBytes bounds a message: the largest legitimate one, a start message with its document, is far smaller.
	MaxMessageBytes = 128 << 10
	// DefaultQueueBytes bounds what is queued for a peer that does not read.
	DefaultQueueBytes = 256 << 10
	closeGrace        = 2 * time.Second
	acceptGUID        = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// ErrClosed is what Send returns once the connection is closed or failed.
var ErrClosed = errors.New("websocket: connection is closed")

// CloseError is returned by Next when the peer closed with a Close frame.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closed by the peer: %d %q", e.Code, e.Reason)
}

// ProtocolError is returned by Next when the peer broke RFC 6455; the connection is closed with Code.
type ProtocolError struct {
	Code int
	Text string
}

func (e *ProtocolError) Error() string { return "websocket: protocol error: " + e.Text }

// Conn is one websocket after its opening handshake.
type Conn struct {
	nc     net.Conn
	server bool

	// reader's own
	buf        []byte
	start, end int
	partial    []byte
	partialOp  Opcode

	mu          sync.Mutex
	notEmpty    sync.Cond
	notFull     sync.Cond
	out, spare  []byte
	queueBytes  int
	closing     bool // nothing more may be queued; the writer ends when the queue is empty
	failed      error
	maskSource  *mathrand.ChaCha8
	writerEnded chan struct{}

	bytesIn, bytesOut atomic.Int64
	lastPong          atomic.Int64

	// OnPing, if set, sees each ping's payload; the pong is sent in any case.
	OnPing func(payload []byte)
}

func newConn(nc net.Conn, server bool, buffered []byte) *Conn {
	c := &Conn{nc: nc, server: server, buf: make([]byte, readBufferBytes), queueBytes: DefaultQueueBytes,
		writerEnded: make(chan struct{})}
	c.notEmpty.L, c.notFull.L = &c.mu, &c.mu
	c.end = copy(c.buf, buffered)
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	c.maskSource = mathrand.NewChaCha8(seed)
	go c.writeLoop()
	return c
}

// SetQueueBytes changes the bound on what is queued for the peer.
func (c *Conn) SetQueueBytes(n int) {
	c.mu.Lock()
	c.queueBytes = n
	c.notFull.Broadcast()
	c.mu.Unlock()
}

// BytesIn and BytesOut count what crossed the connection after the handshake, framing included.
func (c *Conn) BytesIn() int64 { return c.bytesIn.Load() }

// BytesOut is BytesIn's other direction.
func (c *Conn) BytesOut() int64 { return c.bytesOut.Load() }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LastPong is the time of the last pong received, zero if none.
func (c *Conn) LastPong() time.Time {
	if n := c.lastPong.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// AcceptKey is the value of Sec-WebSocket-Accept for a Sec-WebSocket-Key.
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(key + acceptGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func headerHasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for _, t := range strings.Split(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// IsUpgrade says whether a request asks for a websocket.
func IsUpgrade(r *http.Request) bool {
	return headerHasToken(r.Header, "Connection", "upgrade") && headerHasToken(r.Header, "Upgrade", "websocket")
}

// Accept answers the opening handshake and takes the connection over, through wrap if that is not nil (see Fuse). On error
// the answer has been written.
func Accept(w http.ResponseWriter, r *http.Request, wrap func(net.Conn) net.Conn) (*Conn, error) {
	key := r.Header.Get("Sec-WebSocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	switch {
	case r.Method != http.MethodGet || !IsUpgrade(r):
		err = errors.New("not a websocket opening handshake")
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		err = errors.New("Sec-WebSocket-Version is not 13")
	case err != nil || len(raw) != 16:
		err = errors.New("Sec-WebSocket-Key is not 16 bytes in base64")
	default:
		err = nil
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil, err
	}
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	early = append([]byte(nil), early...)
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + AcceptKey(key) + "\r\n\r\n"
	if _, err := io.WriteString(nc, answer); err != nil {
		_ = nc.Close()
		return nil, err
	}
	if wrap != nil {
		nc = wrap(nc)
	}
	return newConn(nc, true, early), nil
}

// DialError is a refused opening handshake.
type DialError struct {
	Status int
	Body   string
}

func (e *DialError) Error() string {
	return fmt.Sprintf("websocket: opening handshake refused: %d %s", e.Status, e.Body)
}

// Dial opens a websocket as a client. header holds what the caller adds (a signature, say).
func Dial(ctx context.Context, rawURL string, header http.Header, tlsConfig *tls.Config) (*Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"ws": "80", "wss": "443"}[u.Scheme])
	}
	nc, err := d.DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline)
	}
	if u.Scheme == "wss" {
		cfg := &tls.Config{}
		if tlsConfig != nil {
			cfg = tlsConfig.Clone()
		}
		if cfg.ServerName == "" {
			cfg.ServerName = u.Hostname()
		}
		nc = tls.Client(nc, cfg)
	}
	c, err := openClient(nc, u, header)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	_ = nc.SetDeadline(time.Time{})
	return c, nil
}

func openClient(nc net.Conn, u *url.URL, header http.Header) (*Conn, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, ProtoMajor: 1, ProtoMinor: 1, Header: header.Clone()}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Sec-WebSocket-Key", key)
	req.Header.Set("Sec-WebSocket-Version", "13")
	if err := req.Write(nc); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(nc, 4096)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, &DialError{Status: resp.StatusCode, Body: string(body)}
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != AcceptKey(key) || !headerHasToken(resp.Header, "Upgrade", "websocket") {
		return nil, errors.New("websocket: the server's answer does not accept this handshake")
	}
	early, _ := br.Peek(br.Buffered())
	return newConn(nc, false, early), nil
}

// fill reads more from the network, making room first; it returns an error if nothing more will come.
func (c *Conn) fill() error {
	if c.start > 0 && (c.start == c.end || c.end == len(c.buf)) {
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	n, err := c.nc.Read(c.buf[c.end:])
	c.end += n
	c.bytesIn.Add(int64(n))
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (c *Conn) need(n int) error {
	for c.end-c.start < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// frame returns the next frame, unmasked in place.
func (c *Conn) frame() (op Opcode, fin bool, payload []byte, err error) {
	if err = c.need(2); err != nil {
		return
	}
	b0, b1 := c.buf[c.start], c.buf[c.start+1]
	op, fin = Opcode(b0&0x0f), b0&0x80 != 0
	masked, length, header := b1&0x80 != 0, int(b1&0x7f), 2
	switch {
	case b0&0x70 != 0:
		err = &ProtocolError{CloseProtocolError, "a reserved bit is set"}
	case op > Binary && op < Close || op > Pong:
		err = &ProtocolError{CloseProtocolError, fmt.Sprintf("unknown opcode %d", op)}
	case op >= Close && (!fin || length > 125):
		err = &ProtocolError{CloseProtocolError, "a control frame is fragmented or longer than 125 bytes"}
	case masked != c.server:
		err = &ProtocolError{CloseProtocolError, "a client's frame without mask, or a server's with one"}
	}
	if err != nil {
		return
	}
	if length == 126 {
		if err = c.need(4); err != nil {
			return
		}
		length, header = int(binary.BigEndian.Uint16(c.buf[c.start+2:])), 4
		if length < 126 {
			err = &ProtocolError{CloseProtocolError, "a length not written in the fewest bytes"}
			return
		}
	} else if length == 127 {
		if err = c.need(10); err != nil {
			return
		}
		long := binary.BigEndian.Uint64(c.buf[c.start+2:])
		if long>>63 != 0 || long < 65536 {
			err = &ProtocolError{CloseProtocolError, "a length not written in the fewest bytes"}
			return
		}
		if long > MaxMessageBytes {
			err = &ProtocolError{CloseTooBig, fmt.Sprintf("a frame of %d bytes", long)}
			return
		}
		length, header = int(long), 10
	}
	if masked {
		header += 4
	}
	if err = c.need(header + length); err != nil {
		return
	}
	payload = c.buf[c.start+header : c.start+header+length : c.start+header+length]
	if masked {
		key := [4]byte(c.buf[c.start+header-4:])
		xorMask(payload, payload, key)
	}
	c.start += header + length
	return
}

// Next returns the next message. Pings are answered, pongs noted. The payload is valid until the next call. After an
// error the connection is closed.
func (c *Conn) Next() (Opcode, []byte, error) {
	for {
		op, fin, payload, err := c.frame()
		if err == nil {
			var done bool
			op, payload, done, err = c.assemble(op, fin, payload)
			if err == nil && !done {
				continue
			}
		}
		if err != nil {
			c.fail(err)
			return 0, nil, err
		}
		return op, payload, nil
	}
}

func (c *Conn) assemble(op Opcode, fin bool, payload []byte) (Opcode, []byte, bool, error) {
	switch op {
	case Ping:
		if c.OnPing != nil {
			c.OnPing(payload)
		}
		c.queue(Pong, payload, true)
		return 0, nil, false, nil
	case Pong:
		c.lastPong.Store(time.Now().UnixNano())
		return 0, nil, false, nil
	case Close:
		return 0, nil, false, parseClose(payload)
	case Continuation:
		if c.partialOp == 0 {
			return 0, nil, false, &ProtocolError{CloseProtocolError, "a continuation of nothing"}
		}
	default:
		if c.partialOp != 0 {
			return 0, nil, false, &ProtocolError{CloseProtocolError, "a new message inside a fragmented one"}
		}
		if fin {
			if op == Text && !utf8.Valid(payload) {
				return 0, nil, false, &ProtocolError{1007, "a text message that is not UTF-8"}
			}
			return op, payload, true, nil
		}
		c.partialOp = op
	}
	if len(c.partial)+len(payload) > MaxMessageBytes {
		return 0, nil, false, &ProtocolError{CloseTooBig, "a fragmented message is too long"}
	}
	c.partial = append(c.partial, payload...)
	if !fin {
		return 0, nil, false, nil
	}
	whole, op := c.partial, c.partialOp
	c.partial, c.partialOp = nil, 0
	if op == Text && !utf8.Valid(whole) {
		return 0, nil, false, &ProtocolError{1007, "a text message that is not UTF-8"}
	}
	return op, whole, true, nil
}

func parseClose(payload []byte) error {
	if len(payload) == 0 {
		return &CloseError{Code: CloseNoStatus}
	}
	if len(payload) == 1 || !utf8.Valid(payload[2:]) {
		return &ProtocolError{CloseProtocolError, "a malformed close frame"}
	}
	code := int(binary.BigEndian.Uint16(payload))
	if code < 1000 || code == 1004 || code == 1005 || code == 1006 || code >= 1015 && code < 3000 || code >= 5000 {
		return &ProtocolError{CloseProtocolError, fmt.Sprintf("close code %d may not be sent", code)}
	}
	return &CloseError{Code: code, Reason: string(payload[2:])}
}

// fail ends the connection after the reader met err: a close frame is answered with one (section 5.5.1), a violation is
// told to the peer, anything else just closes.
func (c *Conn) fail(err error) {
	var closed *CloseError
	var broken *ProtocolError
	switch {
	case errors.As(err, &closed):
		code := closed.Code
		if code == CloseNoStatus {
			code = CloseNormal
		}
		c.CloseWith(code, "")
	case errors.As(err, &broken):
		c.CloseWith(broken.Code, broken.Text)
	default:
		c.Abort()
	}
}

// xorMask writes src, masked with key, to dst; they may be the same.
func xorMask(dst, src []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	i := 0
	for ; i+32 <= len(src); i += 32 {
		d, s := dst[i:i+32:i+32], src[i:i+32:i+32]
		binary.LittleEndian.PutUint64(d[0:], binary.LittleEndian.Uint64(s[0:])^k)
		binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(s[8:])^k)
		binary.LittleEndian.PutUint64(d[16:], binary.LittleEndian.Uint64(s[16:])^k)
		binary.LittleEndian.PutUint64(d[24:], binary.LittleEndian.Uint64(s[24:])^k)
	}
	for ; i < len(src); i++ {
		dst[i] = src[i] ^ key[i&3]
	}
}

// Send queues one message and blocks while the queue is full.
func (c *Conn) Send(op Opcode, payload []byte) error { return c.queue(op, payload, false) }

// SendUrgent queues one message without regard to the queue's bound: for what the gateway itself has to say to a peer
// that may not be reading.
func (c *Conn) SendUrgent(op Opcode, payload []byte) error { return c.queue(op, payload, true) }

func (c *Conn) queue(op Opcode, payload []byte, urgent bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !urgent && len(c.out) >= c.queueBytes && !c.closing && c.failed == nil {
		c.notFull.Wait()
	}
	if c.closing || c.failed != nil {
		return ErrClosed
	}
	c.appendFrame(op, payload)
	c.notEmpty.Signal()
	return nil
}

func (c *Conn) appendFrame(op Opcode, payload []byte) {
	b, n, maskBit := append(c.out, 0x80|byte(op)), len(payload), byte(0)
	if !c.server {
		maskBit = 0x80
	}
	switch {
	case n < 126:
		b = append(b, maskBit|byte(n))
	case n < 65536:
		b = append(b, maskBit|126, byte(n>>8), byte(n))
	default:
		b = append(b, maskBit|127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if c.server {
		c.out = append(b, payload...)
		return
	}
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], uint32(c.maskSource.Uint64()))
	b = append(b, key[:]...)
	at := len(b)
	b = append(b, payload...)
	xorMask(b[at:], b[at:], key)
	c.out = b
}

// SendRaw queues bytes as they are, so that a test can send what no correct peer sends.
func (c *Conn) SendRaw(raw []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.failed != nil {
		return ErrClosed
	}
	c.out = append(c.out, raw...)
	c.notEmpty.Signal()
	return nil
}

// Queued is the number of bytes waiting for the writer.
func (c *Conn) Queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out)
}

func (c *Conn) writeLoop() {
	defer close(c.writerEnded)
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closing && c.failed == nil {
			c.notEmpty.Wait()
		}
		if c.failed != nil || len(c.out) == 0 {
			c.mu.Unlock()
			break
		}
		batch := c.out
		c.out, c.spare = c.spare[:0], nil
		c.notFull.Broadcast()
		c.mu.Unlock()
		n, err := c.nc.Write(batch)
		c.bytesOut.Add(int64(n))
		c.mu.Lock()
		c.spare = batch[:0]
		if err != nil {
			c.failed = err
			c.notFull.Broadcast()
		}
		c.mu.Unlock()
	}
	c.finish()
}

// finish ends the TCP connection: politely if everything could be written (the peer's answer to our close is waited for
// by whoever reads), at once otherwise.
func (c *Conn) finish() {
	c.mu.Lock()
	failed := c.failed
	c.mu.Unlock()
	if failed == nil {
		if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		time.AfterFunc(closeGrace, func() { _ = c.nc.Close() })
		_ = c.nc.SetReadDeadline(time.Now().Add(closeGrace))
		return
	}
	_ = c.nc.Close()
}

// CloseWith sends what is queued, then a close frame, then ends the connection. It does not wait.
func (c *Conn) CloseWith(code int, reason string) {
	if len(reason) > 123 {
		reason = reason[:123]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.failed != nil {
		return
	}
	c.appendFrame(Close, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
	c.closing = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(closeGrace))
	c.notEmpty.Broadcast()
	c.notFull.Broadcast()
}

// Abort ends the connection at once, as a broken network would: no close frame, unsent data lost, a TCP reset.
func (c *Conn) Abort() {
	c.mu.Lock()
	if c.failed == nil {
		c.failed = ErrClosed
	}
	c.notEmpty.Broadcast()
	c.notFull.Broadcast()
	c.mu.Unlock()
	abort(c.nc)
}

// abort resets the TCP connection under nc, then closes what is around it.
func abort(nc net.Conn) {
	defer func(outer net.Conn) { _ = outer.Close() }(nc)
	for {
		if f, ok := nc.(*Fuse); ok {
			f.wakeUp()
		}
		u, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = u.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = nc.Close()
}

// Done is closed when the writer has ended.
func (c *Conn) Done() <-chan struct{} { return c.writerEnded }
