package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/stream"
	"fumidai/tests/tools"
	"fumidai/tests/tools/plugintest"
)

// This file is about fumidai under the name session-manager-plugin, where programs expect AWS's.

const toTask = "AWS-StartPortForwardingSession"

// ourPlugin is a folder's link of that name to fumidai.
func ourPlugin(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "session-manager-plugin")
	if err := os.Symlink(binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// startPlugin starts a session to a server and ours on it, called as the AWS CLI calls it.
func (s *site) startPlugin(document string, parameters map[string][]string, adjust ...func(*plugintest.Options)) *dialer {
	s.Helper()
	o, err := s.api.Start(s.Context(), s.target, document, parameters)
	s.must(err)
	request, _ := json.Marshal(map[string]any{"Target": s.target, "DocumentName": document, "Parameters": parameters})
	options := plugintest.Options{Session: o, Target: s.target, Region: s.Region, Endpoint: s.api.URL, Env: s.toolEnv(),
		Path: ourPlugin(s.T), Request: string(request)}
	for _, f := range adjust {
		f(&options)
	}
	p, err := plugintest.Start(s.Context(), options)
	s.must(err)
	s.Cleanup(p.Kill)
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("the plugin says %q", p.Output())
		}
	})
	return &dialer{session: s.Gateway.Session(o.SessionID), plugin: p, dial: func() (io.ReadWriteCloser, error) { return p.Dial() }}
}

func (e endpoint) parameters() map[string][]string {
	return map[string][]string{"host": {e.host}, "portNumber": {e.port}, "localPortNumber": {"0"}}
}

// endsBy waits for the plugin's end: exit status 0, no session left.
func (s *site) endsBy(d *dialer, limit time.Duration) {
	s.Helper()
	select {
	case <-d.plugin.Exited():
	case <-time.After(limit):
		s.Fatalf("after %v it still runs, and has said %s", limit, d.plugin.Output())
	}
	if d.plugin.ExitCode() != 0 {
		s.Errorf("exit status %d", d.plugin.ExitCode())
	}
	s.eventually("the session's end", 5*time.Second, d.session.Ended)
}

// countCalls counts the calls of an action.
func (s *site) countCalls(action string) int {
	return len(s.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Action == action }))
}

// What it prints, to the byte; its end by flag, without a call; and the token is nowhere to be read.
func TestPluginLines(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	d := s.startPlugin(toRemoteHost, s.remote.parameters())
	for range 2 {
		s.converse(d)
	}
	for _, file := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", d.plugin.PID(), file))
		if err == nil && bytes.Contains(text, []byte("TokenValue")) {
			t.Errorf("the token is in %s", file)
		}
	}
	s.must(d.plugin.Interrupt())
	s.endsBy(d, 5*time.Second)
	id := d.session.ID
	banner := regexp.MustCompile(`(?m)^Reached .*\n`)
	if got := d.plugin.Output(); !banner.MatchString(got) {
		t.Errorf("no banner in %q", got)
	}
	want := "\nStarting session with SessionId: " + id + "\nPort " + d.plugin.Port + " opened for sessionId " + id +
		".\nWaiting for connections...\n\nConnection accepted for session [" + id +
		"]\nTerminate signal received, exiting.\n\n\nExiting session with sessionId: " + id + ".\n\n"
	if got := banner.ReplaceAllString(d.plugin.Output(), ""); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if n := s.countCalls("TerminateSession"); n != 0 {
		t.Errorf("%d calls of TerminateSession", n)
	}
	for args, want := range map[string]string{
		"":          "\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a session.\n\n",
		"--version": "1.2.804.0\n"} {
		out, err := exec.Command(ourPlugin(t), strings.Fields(args)...).Output() //nolint:gosec // a test's
		if err != nil || string(out) != want {
			t.Errorf("%q: %v, %q", args, err, out)
		}
		out, err = exec.Command(binary, append([]string{"session-manager-plugin"}, strings.Fields(args)...)...).Output() //nolint:gosec // a test's
		if err != nil || string(out) != want {
			t.Errorf("by another name, %q: %v, %q", args, err, out)
		}
	}
}

// Bytes arrive unchanged, whatever the kind of session, and the local port is the one that was asked for.
func TestPluginSizes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for name, d := range map[string]*dialer{
		"remote":       s.startPlugin(toRemoteHost, s.remote.parameters()),
		"task":         s.startPlugin(toTask, map[string][]string{"portNumber": {s.fixed}}),
		"without much": s.startPlugin(toTask, map[string][]string{"portNumber": {s.fixed}}, func(o *plugintest.Options) { o.Request, o.Endpoint = "", "" }),
	} {
		for i, n := range []int64{0, 1, 1024, 32769, 1_000_000} {
			s.inTime(20*time.Second, fmt.Sprintf("%s: %d bytes each way", name, n), func() error {
				c, err := s.connect(d)
				if err != nil {
					return err
				}
				defer c.Close() //nolint:errcheck // a test's
				return ask(c, n, n, uint32(i+0x100))
			})
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	parameters := s.remote.parameters()
	parameters["localPortNumber"] = []string{port}
	o, err := s.api.Start(s.Context(), s.target, toRemoteHost, parameters)
	s.must(err)
	taken := s.runPlugin(o, s.toolEnv(), "{}")
	if !strings.Contains(taken, "can't listen on 127.0.0.1:"+port+": Address ") {
		t.Errorf("on a port that is taken it says %q", taken)
	}
	s.eventually("the session's end", 5*time.Second, s.Gateway.Session(o.SessionID).Ended)
	s.must(l.Close())
	if d := s.startPlugin(toRemoteHost, parameters); d.plugin.Port != port {
		t.Errorf("port %s, want %s", d.plugin.Port, port)
	}
}

// runPlugin runs ours to its end, with StartSession's answer in a variable. What it says, on both streams.
func (s *site) runPlugin(o client.Options, env []string, request string) string {
	s.Helper()
	answer, _ := json.Marshal(map[string]string{"SessionId": o.SessionID, "StreamUrl": o.StreamURL, "TokenValue": o.Token})
	path := ourPlugin(s.T)
	cmd := exec.CommandContext(s.Context(), path, "AWS_SSM_START_SESSION_RESPONSE", s.Region, "StartSession", "", request, s.api.URL) //nolint:gosec // a test's
	cmd.Env = append([]string{"HOME=" + filepath.Dir(path), "PATH=" + os.Getenv("PATH"), "AWS_SSM_START_SESSION_RESPONSE=" + string(answer)}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Errorf("it ends with %v: %s", err, out)
	}
	return string(out)
}

// Hourly Byes and cut connections: local connections do not notice.
func TestPluginConnectionsSurvive(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.Gateway.Set(func(g *gateway.Settings) { g.RefuseUnsigned = true })
	d := s.startPlugin(toRemoteHost, s.remote.parameters())
	c, err := s.connect(d)
	s.must(err)
	defer c.Close() //nolint:errcheck // a test's
	for i := range 6 {
		done := make(chan error, 1)
		go func() { done <- ask(c, 300_000, 1_000_000, 0x100) }()
		time.Sleep(10 * time.Millisecond)
		if i%2 == 0 {
			d.session.Bye("client")
		} else {
			d.session.Cut("client")
		}
		s.inTime(30*time.Second, "a conversation", func() error { return <-done })
	}
	if n := s.countCalls("ResumeSession"); n < 6 {
		t.Errorf("%d calls of ResumeSession", n)
	}
	s.must(d.plugin.Interrupt())
	s.endsBy(d, 5*time.Second)
}

// Each signal ends the session; so does the service, which says why.
func TestPluginEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, number := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		d := s.startPlugin(toRemoteHost, s.remote.parameters())
		s.converse(d)
		s.must(syscall.Kill(d.plugin.PID(), number))
		s.endsBy(d, 5*time.Second)
	}
	d := s.startPlugin(toRemoteHost, s.remote.parameters())
	d.session.Terminate()
	s.endsBy(d, 5*time.Second)
	if !strings.HasSuffix(d.plugin.Output(), "\n\nExiting session with sessionId: "+d.session.ID+".\n\n") {
		t.Errorf("it says %q", d.plugin.Output())
	}
	d = s.startPlugin(toRemoteHost, s.remote.parameters())
	s.Gateway.Set(func(g *gateway.Settings) { g.IdleTimeout = time.Millisecond })
	s.endsBy(d, 10*time.Second)
	if !strings.Contains(d.plugin.Output(), "\n\nSessionId: "+d.session.ID+" : Session timed out") {
		t.Errorf("it says %q", d.plugin.Output())
	}
	if n := s.countCalls("TerminateSession"); n != 0 {
		t.Errorf("%d calls of TerminateSession", n)
	}
}

// Ended before the session is open: by the API, since there is nobody to send the flag to.
func TestPluginEndsEarly(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer silent.Close() //nolint:errcheck // a test's
	d := s.startPlugin(toRemoteHost, s.remote.parameters(), func(o *plugintest.Options) {
		o.Session.StreamURL = "ws://" + silent.Addr().String() + "/v1/data-channel/" + o.Session.SessionID + "?role=publish_subscribe"
		o.Stdio = true // it says nothing of a port
	})
	c, err := silent.Accept()
	s.must(err)
	defer c.Close() //nolint:errcheck // a test's
	s.must(d.plugin.Interrupt())
	s.endsBy(d, 3*time.Second)
	if n := s.countCalls("TerminateSession"); n != 1 {
		t.Errorf("%d calls of TerminateSession", n)
	}
}

// A target that refuses: the reason is our agent's.
func TestPluginTargetRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	d := s.startPlugin(toRemoteHost, endpoint{s.remote.host, "1"}.parameters())
	if c, err := d.plugin.Dial(); err == nil { // the answer may be that quick
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	s.must(d.plugin.WaitOutput("\nConnection to destination port failed, ", 5*time.Second))
	if !regexp.MustCompile(`failed, .*:1.*: Connection refused`).MatchString(d.plugin.Output()) {
		t.Errorf("it says %q", d.plugin.Output())
	}
}

// Standard input and output are the connection, as ssh uses them.
func TestPluginStdio(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	at := s.serve(func(c net.Conn) {
		_, _ = io.WriteString(c, marker)
		line := make([]byte, 5)
		if _, err := io.ReadFull(c, line); err == nil && string(line) == "adieu" {
			_, _ = io.CopyN(c, noise(7), 300_000)
			return
		}
		_, _ = c.Write(line)
		echoBytes(c)
	})
	properties, _ := json.Marshal(map[string]string{"host": at.host, "portNumber": at.port})
	s.must(s.Gateway.PutDocument("Stdio", `{"schemaVersion":"1.0","sessionType":"Port","properties":`+string(properties)+`}`))
	start := func() (*dialer, stdio) {
		d := s.startPlugin("Stdio", nil, func(o *plugintest.Options) { o.Stdio = true })
		c := stdio{d.plugin.Stdout, d.plugin.Stdin}
		s.inTime(10*time.Second, "the server's first word", func() error { return await(c) })
		return d, c
	}
	d, c := start()
	s.inTime(20*time.Second, "an echo", func() error {
		go func() { _, _ = io.CopyN(c, noise(1), 1_000_000) }()
		want, _ := io.ReadAll(io.LimitReader(noise(1), 1_000_000))
		got, err := io.ReadAll(io.LimitReader(c, 1_000_000))
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%d bytes came back changed", len(got))
		}
		return err
	})
	s.must(syscall.Kill(d.plugin.PID(), syscall.SIGHUP)) // as ssh ends it
	s.endsBy(d, 5*time.Second)

	d, c = start() // the server ends it: all that it said arrives, and nothing else
	_, err := io.WriteString(c, "adieu")
	s.must(err)
	s.inTime(20*time.Second, "the rest", func() error {
		got, err := io.ReadAll(c)
		want, _ := io.ReadAll(io.LimitReader(noise(7), 300_000))
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%d bytes, and other ones", len(got))
		}
		return err
	})
	s.endsBy(d, 5*time.Second)

	d, c = start() // standard input ends; the answer is waited for
	_, err = io.WriteString(c, "adieu")
	s.must(err)
	s.must(d.plugin.Stdin.Close())
	s.inTime(20*time.Second, "the rest", func() error {
		n, err := io.Copy(io.Discard, c)
		if n != 300_000 {
			err = fmt.Errorf("%d bytes, %v", n, err)
		}
		return err
	})
	s.endsBy(d, 5*time.Second)
	if d.plugin.Output() != "" {
		t.Errorf("it says %q", d.plugin.Output())
	}
}

// AWS's agent at the other end, and older ones of it: one connection at a time, and one that does not know the flag.
func TestPluginToAWSAgents(t *testing.T) {
	t.Parallel()
	for version, terminations := range map[string]int{"": 0, "3.0.100.0": 0, "2.3.700.0": 1} {
		t.Run("version "+version, func(t *testing.T) {
			s := referenceSite(t, version, stream.Config{})
			at := s.serve(echoBytes)
			d := s.startPlugin(toTask, map[string][]string{"portNumber": {at.port}})
			for range 3 {
				c, err := d.plugin.Dial()
				s.must(err)
				go func() { _, _ = io.CopyN(c, noise(1), 300_000) }()
				s.inTime(20*time.Second, "an echo", func() error {
					_, err := io.CopyN(io.Discard, c, 300_000)
					return err
				})
				s.must(c.Close())
			}
			s.must(d.plugin.Interrupt())
			s.endsBy(d, 5*time.Second)
			if n := s.countCalls("TerminateSession"); n != terminations {
				t.Errorf("%d calls of TerminateSession, want %d", n, terminations)
			}
		})
	}
}

// Shells are AWS's plugin's, if it is there; nothing is opened before that is known.
func TestPluginShells(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	answer := `{"SessionId":"me-0a","StreamUrl":"wss://127.0.0.1:1/v1/data-channel/me-0a?role=publish_subscribe","TokenValue":"secret"}`
	request := `{"Target":"i-0a","DocumentName":"SSM-SessionManagerRunShell"}`
	path := ourPlugin(t)
	run := func(env ...string) string {
		cmd := exec.CommandContext(s.Context(), path, answer, s.Region, "StartSession", "", request) //nolint:gosec // a test's
		cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		return string(out)
	}
	if out := run(); !strings.Contains(out, "opens no shells") || strings.Contains(out, "secret") {
		t.Errorf("it says %q", out)
	}
	script := "#!/bin/sh\nprintf '%s|' real \"$@\"\n"
	elsewhere := t.TempDir()
	s.must(os.WriteFile(filepath.Join(elsewhere, "session-manager-plugin.real"), []byte(script), 0o755)) //nolint:gosec // it is to be run
	want := "real|" + answer + "|" + s.Region + "|StartSession||" + request + "|"
	if out := run("PATH=" + elsewhere + ":" + os.Getenv("PATH")); out != want {
		t.Errorf("in PATH: %q", out)
	}
	beside := filepath.Join(filepath.Dir(path), "session-manager-plugin.real")
	s.must(os.Symlink(binary, beside)) // ourselves: not for ever
	if out := run(); !strings.Contains(out, "opens no shells") {
		t.Errorf("beside it, a link to itself: %q", out)
	}
	s.must(os.Remove(beside))
	s.must(os.WriteFile(beside, []byte(script), 0o755)) //nolint:gosec // it is to be run
	if out := run(); out != want {
		t.Errorf("beside it: %q", out)
	}
	if n := s.countCalls("OpenDataChannel"); n != 0 {
		t.Errorf("%d data channels", n)
	}
}

// Whose keys: the profile in argv; none at all is no reason not to try; and it can be told not to sign.
func TestPluginCredentials(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	c := s.api.Credentials
	file := t.TempDir() + "/credentials"
	s.must(os.WriteFile(file, fmt.Appendf(nil, "[p]\naws_access_key_id=%s\naws_secret_access_key=%s\naws_session_token=%s\n",
		c.AccessKeyID, c.SecretAccessKey, c.SessionToken), 0o600))
	bare := append(s.ToolEnv(false), "AWS_EC2_METADATA_DISABLED=true")
	for i := range bare {
		if name, _, _ := strings.Cut(bare[i], "="); name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY" || name == "AWS_SESSION_TOKEN" {
			bare[i] = name + "="
		}
	}
	s.Gateway.Set(func(g *gateway.Settings) { g.RefuseUnsigned = true })
	d := s.startPlugin(toRemoteHost, s.remote.parameters(), func(o *plugintest.Options) {
		o.Profile, o.Env = "p", append(bare, "AWS_SHARED_CREDENTIALS_FILE="+file)
	})
	s.converse(d)
	d.session.Bye("client")
	s.converse(d)
	s.must(d.plugin.Interrupt())
	s.endsBy(d, 5*time.Second)

	o, err := s.api.Start(s.Context(), s.target, toRemoteHost, s.remote.parameters())
	s.must(err)
	if out := s.runPlugin(o, append(s.toolEnv(), "SSM_PLUGIN_SKIP_CLIENT_CONFIGURE=true"), "{}"); !strings.Contains(out, "\n\nSessionId: "+o.SessionID+" : ") {
		t.Errorf("refused, it says %q", out)
	}
	s.eventually("the session's end", 5*time.Second, s.Gateway.Session(o.SessionID).Ended)

	s.Gateway.Set(func(g *gateway.Settings) { g.RefuseUnsigned = false })
	d = s.startPlugin(toRemoteHost, s.remote.parameters(), func(o *plugintest.Options) { o.Env = bare })
	s.converse(d)
	s.must(d.plugin.Interrupt())
	s.endsBy(d, 5*time.Second)
	if !strings.Contains(d.plugin.Output(), "no credentials: the websocket's request is not signed") {
		t.Errorf("it says %q", d.plugin.Output())
	}
}

// The AWS CLI and ecsta run on it as on AWS's.
func TestPluginUnderTheCLI(t *testing.T) {
	t.Parallel()
	tools.Path(t, "aws")
	s := newSite(t, nil)
	p, err := plugintest.Start(s.Context(), plugintest.Options{Path: ourPlugin(t), Env: s.toolEnv(), CLI: []string{"ssm", "start-session", "--target", s.target,
		"--document-name", toRemoteHost, "--parameters", "host=" + s.remote.host + ",portNumber=" + s.remote.port + ",localPortNumber=0"}})
	s.must(err)
	s.Cleanup(p.Kill)
	d := &dialer{session: s.Gateway.Sessions("")[0], plugin: p, dial: func() (io.ReadWriteCloser, error) { return p.Dial() }}
	s.converse(d)
	s.must(p.Interrupt())
	s.endsBy(d, 10*time.Second)
}

func TestPluginUnderEcsta(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"0.4.1", "0.8.2"} {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, map[string]string{"FUMIDAI_STOP_TIMEOUT": "7s"})
			e := s.newEcsta(version, true)
			home := strings.TrimPrefix(e.env[0], "HOME=")
			s.must(os.Remove(filepath.Join(home, "session-manager-plugin")))
			s.must(os.Symlink(binary, filepath.Join(home, "session-manager-plugin")))
			e.testForward(toRemoteHost, "--remote-host", e.remote.host, "--remote-port", e.remote.port)
			e.testForward(toTask, "--remote-port", e.fixed)
			e.testStop()
		})
	}
}
