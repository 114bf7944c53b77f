package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/stream"

	"golang.org/x/net/proxy"
)

// This file is about `fumidai forward -D`: SOCKS, and HTTP's CONNECT, through the tunnel.

// socksDial opens a connection to a target by SOCKS5.
func (f *forward) socksDial(i int, target string) (net.Conn, error) {
	f.Helper()
	d, err := proxy.SOCKS5("tcp", f.proxyAt(i), nil, &net.Dialer{Timeout: 10 * time.Second})
	f.must(err)
	c, err := d.Dial("tcp", target)
	if err == nil {
		f.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func (f *forward) proxyAt(i int) string {
	return fmt.Sprintf("127.0.0.1:%d", f.ready.Forwards[i].Port)
}

func (e endpoint) String() string { return net.JoinHostPort(e.host, e.port) }

// serveHTTP answers each request in the VPC with one line.
func (s *site) serveHTTP(body string) endpoint {
	return s.serve(func(c net.Conn) {
		defer c.Close() //nolint:errcheck // a test's
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	})
}

// curl through the proxy, in each of its languages.
func TestForwardSocks(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	at := s.serveHTTP("from the VPC\n")
	s.VPC.DNS.Set("app.internal", netip.MustParseAddr(at.host))
	at.host = "app.internal" // which only the VPC's resolver knows
	f := s.startForward("--service", "gate", "-D", "0").becomes()
	if len(f.ready.Forwards) != 1 || f.ready.Forwards[0].Port == 0 || f.ready.Forwards[0].Host != "" || !f.ready.Forwards[0].Socks {
		t.Errorf("ready says %+v", f.ready.Forwards)
	}
	if n := s.VPC.DNS.Queries("any.fumidai.invalid"); n != 0 {
		t.Errorf("the session's placeholder was looked up %d times", n)
	}
	for _, way := range [][]string{
		{"--socks5-hostname", f.proxyAt(0)},
		{"--socks4a", f.proxyAt(0)},
		{"--proxytunnel", "--proxy", "http://" + f.proxyAt(0)},
		{"--proxytunnel", "--proxy", fmt.Sprintf("http://localhost:%d", f.ready.Forwards[0].Port)},
	} {
		cmd := exec.CommandContext(ctx, "curl", append([]string{"--silent", "--show-error", "--max-time", "20", "http://" + at.String() + "/"}, way...)...)
		cmd.Env = []string{}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "from the VPC\n" {
			t.Errorf("curl %q: %v, %s", way, err, out)
		}
	}
	c, err := f.socksDial(0, s.remote.String())
	s.must(err)
	f.inTime(20*time.Second, "the server's first word", func() error { return await(c) })
	f.inTime(30*time.Second, "a conversation", func() error { return ask(c, 300_000, 3_000_000, 0x100) })
	s.must(c.Close())
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
}

// Beside a forward with a target of its own, whether that is the task itself or another host.
func TestForwardSocksBesideOthers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	other := s.serve(func(c net.Conn) { _, _ = c.Write([]byte("the other one\n")) })
	for _, first := range []endpoint{s.remote, {"localhost", s.local.port}} {
		f := s.startForward("--service", "gate", "--sessions", "2", "-D", "0", "-L", first.to("0")).becomes()
		f.asks(0, 1000, 1000)
		c, err := f.socksDial(1, other.String())
		s.must(err)
		if line, _ := bufio.NewReader(c).ReadString('\n'); line != "the other one\n" {
			t.Errorf("through SOCKS: %q", line)
		}
		f.asks(0, 1000, 1000)
		s.must(f.cmd.Process.Signal(syscall.SIGINT))
		f.ends(5*time.Second, 0)
	}
	cmd := s.forwardCommand("--service", "gate", "-D", "0", "--", "sh", "-c", `echo "$FUMIDAI_SOCKS"; env | grep -ci _proxy=`)
	out, _ := cmd.Output()
	var at string
	var proxies int
	if n, _ := fmt.Sscan(string(out), &at, &proxies); n != 2 || !strings.HasPrefix(at, "127.0.0.1:") || proxies != 0 {
		t.Errorf("the command says %q", out)
	}
	s.wantNoSession()
}

// What can't be had is said in the client's own language, at once.
func TestForwardSocksRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-D", "0").becomes()
	for _, c := range []struct{ target, socks, http string }{
		{s.remote.host + ":1", "connection refused", "502"},
		{"169.254.170.2:80", "connection not allowed by ruleset", "403"},
		{"no-such-host.internal:80", "host unreachable", "502"},
		{"any.fumidai.invalid:1", "host unreachable", "502"},
	} {
		began := time.Now()
		if _, err := f.socksDial(0, c.target); err == nil || !strings.Contains(err.Error(), c.socks) {
			t.Errorf("%s: %v, want %q", c.target, err, c.socks)
		}
		conn := f.dial(0)
		_, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", c.target, c.target)
		s.must(err)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		s.must(err)
		body, err := io.ReadAll(answer.Body)
		s.must(err)
		if !strings.HasPrefix(answer.Status, c.http) || len(body) < 20 {
			t.Errorf("%s: %s, %s", c.target, answer.Status, body)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: refused after %v", c.target, took)
		}
	}
	f.socksWorks(s.remote)
}

// socksWorks has one conversation through the first forward.
func (f *forward) socksWorks(with endpoint) {
	f.Helper()
	c, err := f.socksDial(0, with.String())
	f.must(err)
	f.inTime(20*time.Second, "the server's first word", func() error { return await(c) })
	f.inTime(30*time.Second, "a conversation", func() error { return ask(c, 1000, 1000, 0x100) })
	f.must(c.Close())
}

// An agent that takes no targets of its clients: the sentence, and no second session.
func TestForwardSocksNeedsFumidai(t *testing.T) {
	t.Parallel()
	s := referenceSite(t, "", stream.Config{})
	says := []string{"-D needs fumidai at the other end, and a document that leaves the host to its user"}
	s.fails(1, says, "--service", "gate", "-D", "0")
	if n := len(s.Gateway.Sessions("")); n != 1 {
		t.Errorf("%d sessions", n)
	}
	s.fails(125, append(says, "0.0.0.0:", " is open to other machines"), "--service", "gate", "-D", "*:0", "-L", s.remote.to("0"), "--", "true")
	s.wantNoSession()
}

// Clients that speak nonsense, byte by byte, without waiting, or not at all.
func TestForwardSocksClients(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-D", "0").becomes()
	port := []byte{0x15, 0x3f} // 5439
	for _, c := range []struct {
		name, says, hears string
	}{
		{"nonsense", "\x16\x03\x01\x02\x00", ""},
		{"a web request", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 405"},
		{"a password only", "\x05\x01\x02", "\x05\xff"},
		{"BIND", "\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01" + string(port), "\x05\x00\x05\x07"},
		{"no end of the head", "CONNECT a:1 HTTP/1.1\r\n" + strings.Repeat("x", 9000), "HTTP/1.1 431"},
	} {
		conn := f.dial(0)
		_, err := conn.Write([]byte(c.says))
		s.must(err)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.HasPrefix(got, []byte(c.hears)) || (c.hears == "" && len(got) > 0) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}

	echo := s.serve(echoBytes)
	words := strings.Repeat("all of it ", 10000)
	request := "CONNECT " + echo.String() + " HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, slowly := range []bool{false, true} {
		conn := f.dial(0)
		if slowly {
			for _, b := range []byte(request) {
				_, err := conn.Write([]byte{b})
				s.must(err)
				time.Sleep(time.Millisecond)
			}
		} else { // and what follows, without waiting for the answer
			words = request + words
		}
		go func() {
			_, _ = conn.Write([]byte(words))
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		got, err := io.ReadAll(conn)
		words = strings.TrimPrefix(words, request)
		if want := "HTTP/1.1 200 Connection established\r\n\r\n" + words; err != nil || string(got) != want {
			t.Errorf("slowly %v: %d bytes of %d, %v", slowly, len(got), len(want), err)
		}
	}

	for range 50 { // those who say nothing, and those who leave, keep nobody else out
		_ = f.dial(0)
		c := f.dial(0)
		_, err := c.Write([]byte("\x04\x01\x00\x50\x0a\xff\xff\x01me\x00"))
		s.must(err)
		s.must(c.Close())
	}
	f.socksWorks(s.remote)
}

// More connections at once than may ask at once.
func TestForwardSocksMany(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-D", "0", "--max-messages-per-second", "0").becomes()
	var all sync.WaitGroup
	failed := make(chan error, 300)
	for range cap(failed) {
		all.Add(1)
		go func() {
			defer all.Done()
			d, _ := proxy.SOCKS5("tcp", f.proxyAt(0), nil, &net.Dialer{Timeout: 30 * time.Second})
			c, err := d.Dial("tcp", s.remote.String())
			if err == nil {
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				if err = await(c); err == nil {
					err = ask(c, 1000, 10_000, 0x100)
				}
				_ = c.Close()
			}
			if err != nil {
				failed <- err
			}
		}()
	}
	all.Wait()
	close(failed)
	for err := range failed {
		t.Error(err)
	}
}

// A session that is over while the port is quiet, at the moment of the next connection, and while somebody waits for an answer.
func TestForwardSocksReplaces(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	f := s.startForward("--service", "gate", "-D", "0").becomes()
	f.socksWorks(s.remote)
	s.endSessions()
	f.event("session", 5*time.Second)
	f.socksWorks(s.remote)
	s.endSessions()
	f.socksWorks(s.remote)

	s.VPC.DNS.Set("late.internal", netip.MustParseAddr(s.remote.host))
	answer := s.VPC.DNS.Fail(fargate.DNSFault{Name: "late.internal", Silent: true})
	dialled := make(chan error, 1)
	go func() {
		c, err := f.socksDial(0, "late.internal:"+s.remote.port)
		if err == nil {
			err = await(c)
		}
		dialled <- err
	}()
	s.eventually("the agent's question", 5*time.Second, func() bool { return s.VPC.DNS.Queries("late.internal") > 0 })
	s.endSessions()
	answer()
	f.inTime(20*time.Second, "the answer through the next session", func() error { return <-dialled })
	s.must(f.cmd.Process.Signal(syscall.SIGINT))
	f.ends(5*time.Second, 0)
	s.wantNoSession()
}

func (s *site) endSessions() {
	for _, session := range s.Gateway.Sessions("") {
		session.Terminate()
	}
}
