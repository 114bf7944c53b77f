package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"fumidai/tests/emulator/proxy"
)

// through asks the proxy at an address for a host and reads a line of what comes.
func through(address, host string) (status, line string, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", "", err
	}
	defer c.Close() //nolint:errcheck // a test's
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\nProxy-Authorization: Basic dTpw\r\n\r\n"); err != nil {
		return "", "", err
	}
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return "", "", err
	}
	if res.StatusCode != http.StatusOK {
		return res.Status, "", nil
	}
	line, err = in.ReadString('\n')
	return res.Status, line, err
}

func TestProxy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := proxy.Serve(l, func(hostPort string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			_, _ = io.WriteString(far, "this is "+hostPort+"\n")
			_ = far.Close()
		}()
		return near, nil
	})
	const good = "this is db.example:443\n"
	for name, test := range map[string]struct {
		fault  proxy.Fault
		status string // "" means no answer, or one that can't be read, or a tunnel that breaks
	}{
		"another host": {proxy.Fault{Host: "other.example", Reset: true}, "200 Connection established"},
		"slow":         {proxy.Fault{Slow: time.Millisecond}, "200 Connection established"},
		"forbidden":    {proxy.Fault{Host: "db.example", Answer: proxy.Forbidden}, "403 Forbidden"},
		"unreachable":  {proxy.Fault{Answer: proxy.BadGateway}, "502 Bad Gateway"},
		"password":     {proxy.Fault{Answer: proxy.AuthNeeded}, "407 Proxy Authentication Required"},
		"not HTTP":     {proxy.Fault{Answer: proxy.NotHTTP}, ""},
		"interrupted":  {proxy.Fault{Answer: proxy.Interrupted}, ""},
		"endless":      {proxy.Fault{Answer: proxy.Endless()}, ""},
		"silent":       {proxy.Fault{Silent: true}, ""},
		"reset":        {proxy.Fault{Reset: true}, ""},
		"cut":          {proxy.Fault{Cut: 7}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.fault.Times = 1
			off := p.Fail(test.fault)
			status, line, err := through(l.Addr().String(), "db.example:443")
			if test.status == "" && err == nil || test.status != "" && (err != nil || status != test.status) {
				t.Errorf("%q %q %v", status, line, err)
			}
			off()
			if _, line, err := through(l.Addr().String(), "db.example:443"); err != nil || line != good {
				t.Errorf("the next one: %q %v", line, err)
			}
		})
	}
	if asked := p.Asked(); len(asked) != 22 || asked[0] != (proxy.Request{Line: "CONNECT db.example:443", Authorization: "Basic dTpw"}) {
		t.Errorf("asked for %q", asked)
	}
}
