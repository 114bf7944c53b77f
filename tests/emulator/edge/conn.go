package edge

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// This file is about connections: telling TLS from plain HTTP, CONNECT, and resetting on purpose.

const (
	tlsHandshakeRecord = 0x16
	helloBytes         = 8 << 10 // room for a client's first message
)

// welcome looks at the first byte of a connection and hands it to the HTTP server, through TLS if it begins so.
func (e *Edge) welcome(conn net.Conn, fallbackName string) {
	e.mu.Lock()
	e.conns[conn] = struct{}{}
	e.mu.Unlock()
	peeked := &peekedConn{Conn: conn, reader: bufio.NewReaderSize(conn, helloBytes), onClose: func() {
		e.mu.Lock()
		delete(e.conns, conn)
		e.mu.Unlock()
	}}
	first, err := peeked.reader.Peek(1)
	if err != nil {
		peeked.Close()
		return
	}
	if first[0] == tlsHandshakeRecord {
		e.welcomeTLS(peeked, fallbackName)
		return
	}
	e.proxied.hand(peeked)
}

// welcomeTLS hands a connection that begins with TLS to the HTTP server, or breaks it as the switchboard says.
func (e *Edge) welcomeTLS(conn *peekedConn, fallbackName string) {
	config := e.CA.tlsConfig(fallbackName)
	host := serverName(conn.reader)
	label, _, _ := strings.Cut(host, ".")
	decision := e.Faults.Decide(ServiceTLS, label, host, 0)
	time.Sleep(decision.Delay)
	if decision.Fault == nil {
		e.proxied.hand(tls.Server(conn, config))
		return
	}
	e.Log.Debug("connection fault", "host", host, "fault", decision.Fault.Effect)
	switch decision.Fault.Effect {
	case EffectWrongName:
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.CA.Leaf("another.example") }
		e.proxied.hand(tls.Server(conn, config))
		return
	case EffectGarbage:
		_, _ = conn.Write(garbage)
	case EffectAlert:
		_, _ = conn.Write([]byte{0x15, 3, 3, 0, 2, 2, 40})
	case EffectBadRecord:
		if tls.Server(conn, config).Handshake() == nil {
			_, _ = conn.Write(badRecord)
		}
	case EffectHang:
	default:
		ResetConn(conn)
		return
	}
	_, _ = io.Copy(io.Discard, conn) // until the client goes away
	_ = conn.Close()
}

var (
	garbage   = []byte("220 this is not TLS\r\n")
	badRecord = append([]byte{0x17, 3, 3, 0, 64}, make([]byte, 64)...)
)

// BreakTLS writes a record that does not decrypt into a connection, under its TLS. Through a connection without TLS go bytes
// that are not a frame of a websocket.
func BreakTLS(conn net.Conn) {
	for {
		switch c := conn.(type) {
		case *tls.Conn:
			_, _ = c.NetConn().Write(badRecord)
			return
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
			return
		}
	}
}

// serverName is the host name that a client asks for in its first message, which stays to be read.
func serverName(in *bufio.Reader) (name string) {
	header, err := in.Peek(5)
	if err != nil {
		return ""
	}
	record, _ := in.Peek(min(5+int(header[3])<<8+int(header[4]), in.Size()))
	stop := errors.New("that was all")
	_ = tls.Server(&replay{Reader: bytes.NewReader(record)}, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, stop
	}}).Handshake()
	return name
}

// replay is a connection that has said all it will, and that takes nothing.
type replay struct {
	net.Conn
	*bytes.Reader
}

func (r *replay) Read(p []byte) (int, error)       { return r.Reader.Read(p) }
func (r *replay) Write(p []byte) (int, error)      { return len(p), nil }
func (r *replay) Close() error                     { return nil }
func (r *replay) SetDeadline(time.Time) error      { return nil }
func (r *replay) SetWriteDeadline(time.Time) error { return nil }

// serveConnect plays the proxy: whatever host the client wants, it gets us, with a leaf for that host.
func (e *Edge) serveConnect(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := conn.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		conn.Close()
		return
	}
	e.Log.Debug("proxy", "host", r.Host)
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	inner := &peekedConn{Conn: conn, reader: bufio.NewReaderSize(io.MultiReader(bytes.NewReader(ahead), conn), helloBytes)}
	go e.welcome(inner, hostname(r.Host))
}

// peekedConn is a connection some bytes of which have been read ahead.
type peekedConn struct {
	net.Conn
	reader  *bufio.Reader
	onClose func()
	once    sync.Once
}

func (c *peekedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }

func (c *peekedConn) Close() error {
	if c.onClose != nil {
		c.once.Do(c.onClose)
	}
	return c.Conn.Close()
}

// NetConn is the connection underneath.
func (c *peekedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite passes a half-close on.
func (c *peekedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// connListener is a net.Listener fed by hand.
type connListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newConnListener() *connListener {
	return &connListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *connListener) hand(conn net.Conn) {
	select {
	case l.conns <- conn:
	case <-l.done:
		conn.Close()
	}
}

func (l *connListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *connListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *connListener) Addr() net.Addr { return &net.TCPAddr{} }

// ResetConn cuts a connection so that the peer sees a reset rather than an orderly end, whatever wraps the socket.
func ResetConn(conn net.Conn) {
	for inner := conn; ; {
		switch c := inner.(type) {
		case *tls.Conn:
			inner = c.NetConn()
		case *peekedConn:
			inner = c.Conn
		case *net.TCPConn:
			c.SetLinger(0) //nolint:errcheck // the connection is gone either way
			c.Close()
			conn.Close()
			return
		default:
			conn.Close()
			return
		}
	}
}

// reset cuts the connection under an HTTP answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	ResetConn(conn)
}

// answerWriter remembers the status for the recorder.
type answerWriter struct {
	http.ResponseWriter
	status int
	taken  func()
}

func (w *answerWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Hijack lets a websocket library take the connection over.
func (w *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if h, ok := w.ResponseWriter.(http.Hijacker); ok {
		conn, rw, err := h.Hijack()
		if err == nil {
			w.status = http.StatusSwitchingProtocols
			w.taken()
		}
		return conn, rw, err
	}
	return nil, nil, errors.New("the connection can't be taken over")
}

func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discard takes an answer that nobody is to see.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
