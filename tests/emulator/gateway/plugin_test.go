package gateway_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/gateway/agenttest"
	"fumidai/tests/tools"
	"fumidai/tests/tools/plugintest"
)

// plugin starts AWS's own client on a session.
func (w *world) plugin(document string, parameters map[string][]string, stdio bool) *plugintest.Plugin {
	w.t.Helper()
	tools.Path(w.t, "session-manager-plugin")
	o, err := w.api.Start(w.ctx, target, document, parameters)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := plugintest.Start(w.ctx, plugintest.Options{Session: o, Target: target, Region: w.emu.Region,
		Endpoint: "http://" + w.emu.Addr(), Env: w.emu.ToolEnv(false), Stdio: stdio})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Kill)
	return p
}

// AWS's own client is content with this gateway, reconnects through it, and is told why a session ends.
func TestPlugin(t *testing.T) {
	w := newWorld(t, func(o *agenttest.Options) { o.Stream.GiveUp = true })
	// The plugin sends a message before it notes it as sent. Over loopback the acknowledgement is often faster; the message
	// then counts as unacknowledged until it has been resent, which the plugin does ten times a second and in order: what
	// is really lost waits behind all of these. Networks are slower than that.
	w.gw.SetFaults(gateway.Faults{AgentToClient: gateway.Line{Delay: time.Millisecond}})
	p := w.plugin("AWS-StartPortForwardingSessionToRemoteHost",
		map[string][]string{"host": {"127.0.0.1"}, "portNumber": {listen(t, echo)}, "localPortNumber": {"0"}}, false)
	s := w.gw.Sessions("")[0]
	for i := range 3 {
		c, err := p.Dial()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- exchange(c, uint64(i), 1<<20) }()
		time.Sleep(300 * time.Millisecond)
		s.Cut("agent")
		stuck := time.AfterFunc(10*time.Second, func() { w.report(nil) })
		within(t, 20*time.Second, "1 MB each way", func() error { return <-done })
		stuck.Stop()
		_ = c.Close()
		time.Sleep(200 * time.Millisecond)
		s.Bye("client") // not while it sends, and be it a FIN: a failure to send ends its upload for good
		within(t, 5*time.Second, "its return", func() error {
			for s.Stats().Client.Opened < i+2 {
				time.Sleep(time.Millisecond)
			}
			return nil
		})
	}
	if st := s.Stats(); st.Client.Opened < 4 || st.Agent.Opened < 4 || !strings.Contains(p.Output(), "reference agent") {
		t.Errorf("%+v\n%s", st, p.Output())
	}
	w.gw.Set(func(s *gateway.Settings) { s.IdleTimeout = time.Millisecond })
	if err := p.WaitOutput("Session timed out", 5*time.Second); err != nil {
		t.Error(err)
	}
	within(t, 5*time.Second, "its end", func() error { <-p.Exited(); return nil })
	w.settled()
}

func TestPluginOverStandardStreams(t *testing.T) {
	w := newWorld(t)
	const marker = "here it begins:"
	port := listen(t, func(c net.Conn) {
		_, _ = fmt.Fprint(c, marker)
		echo(c)
	})
	if err := w.gw.PutDocument("Basic", fmt.Sprintf(`{"schemaVersion":"1.0","sessionType":"Port","properties":{"host":"127.0.0.1","portNumber":"%s"}}`, port)); err != nil {
		t.Fatal(err)
	}
	p := w.plugin("Basic", nil, true)
	question := bytes.ReplaceAll(random(1, 100_000), []byte{'\n'}, []byte{'\r'})
	within(t, 20*time.Second, "100 kB each way", func() error {
		go func() { _, _ = p.Stdin.Write(question) }()
		var all []byte
		buf := make([]byte, 4096)
		for {
			n, err := p.Stdout.Read(buf)
			all = append(all, buf[:n]...)
			if _, after, ok := bytes.Cut(all, []byte(marker)); ok && len(after) >= len(question) {
				if !bytes.Equal(after, question) {
					return fmt.Errorf("bytes came back changed")
				}
				return nil
			}
			if err != nil {
				return fmt.Errorf("%w after %q", err, all)
			}
		}
	})
	w.settled()
}
