// Package proxy is an HTTP proxy that knows CONNECT and nothing else, notes what it is asked for, and fails on demand.
package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault is one way in which the proxy fails. Exactly one of the fields from Answer on is set.
type Fault struct {
	Host  string // "" is every host; else the host name of the CONNECT
	Times int    // how many connections it hits before it is spent; 0: no limit

	Answer string        // sent as it is instead of the proxy's own, and the connection is closed
	Silent bool          // no answer; the connection stays open
	Reset  bool          // the connection is reset
	Slow   time.Duration // the answer comes a byte at a time, with so much between two
	Cut    int64         // the tunnel is reset after so many bytes from the far end
	Quiet  time.Duration // the tunnel is reset when no byte has passed for so long
}

// Answers that a proxy may give and should not. All end before a byte of the far end.
const (
	Forbidden   = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
	AuthNeeded  = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\nContent-Length: 0\r\n\r\n"
	BadGateway  = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\n\r\nno upstream"
	NotHTTP     = "220 mail.example ESMTP\r\n"
	Interrupted = "HTTP/1.1 200 Connection esta"
)

// Endless is a header that never ends, as far as any reader will follow it.
func Endless() string {
	return "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Filler: filler filler filler\r\n", 10_000)
}

// Proxy serves one listener.
type Proxy struct {
	dial func(hostPort string) (net.Conn, error)

	mu     sync.Mutex
	asked  []Request
	faults []*rule
}

// Request is what the proxy was asked for.
type Request struct {
	Line          string // "CONNECT host:port"
	Authorization string // Proxy-Authorization
}

type rule struct {
	Fault
	hits int
}

// Serve runs a proxy that reaches hosts through dial, until the listener is closed.
func Serve(l net.Listener, dial func(hostPort string) (net.Conn, error)) *Proxy {
	p := &Proxy{dial: dial}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

// Asked lists the requests so far.
func (p *Proxy) Asked() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.asked...)
}

// Fail switches a fault on; the function switches it off. Of several that match, the first counts.
func (p *Proxy) Fail(f Fault) (off func()) {
	r := &rule{Fault: f}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, r)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		r.Times = -1
	}
}

func (p *Proxy) note(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, Request{r.Method + " " + r.RequestURI, r.Header.Get("Proxy-Authorization")})
	host, _, _ := net.SplitHostPort(r.RequestURI)
	for _, f := range p.faults {
		if (f.Host == "" || f.Host == host) && (f.Times == 0 || f.hits < f.Times) {
			f.hits++
			return f.Fault
		}
	}
	return Fault{}
}

func (p *Proxy) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // nothing to save
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	fault := p.note(r)
	switch {
	case fault.Answer != "":
		_, _ = io.WriteString(c, fault.Answer)
		return
	case fault.Silent:
		_, _ = io.Copy(io.Discard, in)
		return
	case fault.Reset:
		reset(c)
		return
	case r.Method != http.MethodConnect:
		_, _ = io.WriteString(c, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
		return
	}
	to, err := p.dial(r.RequestURI)
	if err != nil {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%v", len(err.Error()), err)
		return
	}
	defer to.Close() //nolint:errcheck // nothing to save
	for _, b := range []byte("HTTP/1.1 200 Connection established\r\n\r\n") {
		time.Sleep(fault.Slow)
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
	}
	tunnel(c, in, to, fault)
}

// touching reads on and puts a timer off with each read.
type touching struct {
	io.Reader
	touch func()
}

func (t touching) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	t.touch()
	return n, err
}

func tunnel(c net.Conn, in io.Reader, to net.Conn, fault Fault) {
	back := io.Reader(to)
	if fault.Quiet > 0 {
		timer := time.AfterFunc(fault.Quiet, func() { reset(c); _ = to.Close() })
		defer timer.Stop()
		touch := func() { timer.Reset(fault.Quiet) }
		in, back = touching{in, touch}, touching{back, touch}
	}
	go func() {
		_, _ = io.Copy(to, in)
		_ = to.Close()
	}()
	if fault.Cut > 0 {
		_, _ = io.CopyN(c, to, fault.Cut)
		reset(c)
		return
	}
	_, _ = io.Copy(c, back)
}

func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
