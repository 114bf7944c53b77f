package e2e

import (
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"fumidai/tests/tools"
	"fumidai/tests/tools/plugintest"
)

// The AWS CLI as users have it: it starts the session and hands it to AWS's session-manager-plugin.
func TestAWSCLI(t *testing.T) {
	t.Parallel()
	aws, _ := tools.Path(t, "aws"), tools.Path(t, "session-manager-plugin")
	s := newSite(t, nil)
	start := func() *dialer {
		before := len(s.Gateway.Sessions(""))
		p, err := plugintest.Start(s.Context(), plugintest.Options{Env: s.toolEnv(), CLI: []string{"ssm", "start-session", "--target", s.target,
			"--document-name", toRemoteHost, "--parameters", "host=" + s.remote.host + ",portNumber=" + s.remote.port + ",localPortNumber=0"}})
		s.must(err)
		s.Cleanup(p.Kill)
		sessions := s.Gateway.Sessions("")
		if len(sessions) != before+1 {
			t.Fatalf("there are %d sessions", len(sessions))
		}
		d := &dialer{plugin: p, dial: func() (io.ReadWriteCloser, error) { return p.Dial() }}
		for _, session := range sessions {
			if strings.Contains(p.Output(), session.ID) {
				d.session = session
			}
		}
		return d
	}
	over := func(d *dialer) {
		s.eventually("the session's end", 10*time.Second, d.session.Ended)
		s.event("session ended", map[string]any{"session": d.session.ID, "failed": false})
		select {
		case <-d.plugin.Exited():
		case <-time.After(10 * time.Second):
			t.Error("the CLI does not exit")
		}
	}

	d := start()
	for range 3 {
		s.converse(d)
	}
	s.must(d.plugin.Interrupt())
	over(d)

	d = start()
	s.converse(d)
	terminate := exec.CommandContext(s.Context(), aws, "ssm", "terminate-session", "--session-id", d.session.ID) //nolint:gosec // a test's
	terminate.Env = append([]string{"HOME=" + t.TempDir()}, s.toolEnv()...)
	if out, err := terminate.CombinedOutput(); err != nil || !strings.Contains(string(out), d.session.ID) {
		t.Errorf("terminate-session: %v, %s", err, out)
	}
	over(d)
}
