package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fumidai/tests/emulator"
	"fumidai/tests/emulator/agentmsg"
	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/proxy"
	"fumidai/tests/emulator/stream"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ecs"
	"golang.org/x/net/dns/dnsmessage"
)

// What the relay refuses and what it survives: hostile targets, sessions that can't start, its own death, a service that
// is unwell. Whatever happens, the user is told why.

// isolated is newSite for tests that need a VPC or a relay to look at.
func isolated(t *testing.T, variables map[string]string, prepare ...func(*site, map[string]string)) *site {
	t.Helper()
	t.Parallel()
	if os.Getuid() != 0 || os.Getenv("FUMIDAI_E2E_AGENT") == "reference" {
		t.Skip("needs root, for namespaces, and the relay")
	}
	return newSite(t, variables, prepare...)
}

// remoteHost is a session document's parameters.
func remoteHost(host, port string) map[string][]string {
	return map[string][]string{"host": {host}, "portNumber": {port}}
}

const toRemoteHost = "AWS-StartPortForwardingSessionToRemoteHost"

// refused starts a session that can't start, and returns what its client is told.
func (s *site) refused(document string, parameters map[string][]string) string {
	s.Helper()
	o, err := s.api.Start(s.Context(), s.target, document, parameters)
	if err != nil {
		s.Fatal(err)
	}
	return s.toldWhy(o)
}

func (s *site) toldWhy(o client.Options) string {
	s.Helper()
	o.HandshakeTimeout = 10 * time.Second
	c, err := client.Open(s.Context(), o)
	if err == nil {
		c.Close()
		s.Errorf("the session was opened: %s", c.CustomerMessage)
		return ""
	}
	var closed *stream.ClosedError
	if !errors.As(err, &closed) {
		s.Errorf("the client was not told why: %v", err)
		return ""
	}
	session := s.Gateway.Session(o.SessionID)
	if task := session.Task(); task == nil || task.FinalTaskStatus != "Failed" || task.Output != closed.Output {
		s.Errorf("the report is %+v, the client was told %q", task, closed.Output)
	}
	return closed.Output
}

// events are the lines of the task's log with a message.
func (s *site) events(message string) (found []map[string]any) {
	for line := range strings.Lines(s.task.Output()) {
		var event map[string]any
		if json.Unmarshal([]byte(line), &event) == nil && event["msg"] == message {
			found = append(found, event)
		}
	}
	return found
}

// event waits for a line of the log that has these attributes.
func (s *site) event(message string, want map[string]any) map[string]any {
	s.Helper()
	var found map[string]any
	s.eventually(fmt.Sprintf("log %q with %v", message, want), 5*time.Second, func() bool {
		for _, event := range s.events(message) {
			fits := true
			for name, value := range want {
				fits = fits && fmt.Sprint(event[name]) == fmt.Sprint(value)
			}
			if fits {
				found = event
				return true
			}
		}
		return false
	})
	return found
}

func (w *world) eventually(what string, limit time.Duration, ok func() bool) time.Duration {
	w.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			w.Fatalf("%s: not within %v", what, limit)
		}
	}
}

// converse holds one conversation over a new connection of a session.
func (s *site) converse(d *dialer) {
	s.Helper()
	s.inTime(10*time.Second, "a conversation", func() error {
		c, err := s.connect(d)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // a test's
		return ask(c, 10_000, 100_000, 0x100)
	})
}

// relay is the process id of the task's relay, as this machine counts.
func (s *site) relay() int {
	s.Helper()
	all := relays(s.task.Container(0).PID())
	if len(all) != 1 {
		s.Fatalf("one relay, not %v", all)
	}
	return all[0]
}

// relays are those of a keeper, whatever they serve.
func relays(keeper int) []int {
	return append(named(keeper, "fumidai-relay"), named(keeper, "fumidai-ports")...)
}

// --- what may not be dialled -------------------------------------------------------------------------------------------

func TestGuardForbiddenTargets(t *testing.T) {
	s := isolated(t, nil)
	for name, address := range map[string]string{"credentials.example": "169.254.170.2", "metadata.example": "169.254.169.254",
		"v6.example": "fd00:ec2::254", "mapped.example": "::ffff:169.254.170.2", "zero.example": "0.0.0.0", "router.example": "10.0.0.1"} {
		s.VPC.DNS.Set(name, netip.MustParseAddr(address))
	}
	s.VPC.DNS.Set("both.example", netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.169.254"))
	linkLocal, reserved := "link-local 169.254.0.0/16", "AWS reserves in this task's subnet"
	for host, rule := range map[string]string{
		"169.254.170.2": linkLocal, "169.254.169.254": linkLocal, "169.254.170.23": linkLocal, "169.254.1.1": linkLocal,
		"::ffff:169.254.170.2": linkLocal, "::ffff:a9fe:aa02": linkLocal, "64:ff9b::a9fe:aa02": linkLocal, "2002:a9fe:aa02::1": linkLocal,
		"fd00:ec2::254": "fd00:ec2::/32", "fd00:ec2::23": "fd00:ec2::/32", "fe80::1": "fe80::/10",
		"0.0.0.0": "0.0.0.0/8", "0.1.2.3": "0.0.0.0/8", "::0": ":: is unspecified", "224.0.0.1": "multicast", "ff02::1": "multicast",
		"255.255.255.255": "reserved or broadcast",
		"10.0.0.0":        reserved, "10.0.0.1": reserved, "10.0.0.2": reserved, "10.0.0.3": reserved, "10.0.0.255": reserved,
		"credentials.example": linkLocal, "metadata.example": linkLocal, "both.example": linkLocal, "mapped.example": linkLocal,
		"v6.example": "fd00:ec2::/32", "zero.example": "0.0.0.0/8", "router.example": reserved,
		// Other ways of writing an address that some resolvers understand.
		"2852039170": "", "0xa9feaa02": "", "0251.0376.0252.02": "", "169.254.43522": "", "CREDENTIALS.example.": linkLocal,
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			why := s.refused(toRemoteHost, remoteHost(host, "80"))
			if !strings.Contains(why, rule) || rule != "" && !strings.Contains(why, "may not be dialled") {
				t.Errorf("the client is told %q, which does not name %q", why, rule)
			}
			if !strings.Contains(strings.ToLower(why), strings.ToLower(strings.TrimSuffix(host, "."))) {
				t.Errorf("the client is told %q, which does not name the target", why)
			}
			if e := s.event("session ended", map[string]any{"reason": why, "failed": true}); e["streams"] != float64(0) {
				t.Errorf("logged as %v", e)
			}
		})
	}
}

func TestGuardBracketsAndBasicSessions(t *testing.T) {
	s := isolated(t, nil)
	for i, host := range []string{"[fd00:ec2::254]", "169.254.170.2", "[::ffff:169.254.170.2]"} {
		name := fmt.Sprintf("Own-%d", i)
		s.must(s.Gateway.PutDocument(name, `{"schemaVersion":"1.0","sessionType":"Port","properties":{"portNumber":"80","host":"`+host+`"}}`))
		if why := s.refused(name, nil); why == "" {
			t.Errorf("%s: no reason", host)
		}
	}
}

// What name servers do, inside the relay's sandbox. None of it makes a name unreachable that has an address.
func TestGuardNameServerFaults(t *testing.T) {
	s := isolated(t, nil)
	for name, fault := range map[string]fargate.DNSFault{
		"unwell.example":    {Type: dnsmessage.TypeAAAA, RCode: dnsmessage.RCodeServerFailure},
		"wrong.example":     {Type: dnsmessage.TypeAAAA, RCode: dnsmessage.RCodeNameError},
		"lost.example":      {Type: dnsmessage.TypeAAAA, Silent: true},
		"lossy.example":     {Silent: true, Times: 2},
		"garbled.example":   {Garbage: true, Times: 2},
		"forged.example":    {Forge: true},
		"truncated.example": {Truncate: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			fault.Name = name
			s.VPC.DNS.SetAlias(name, "cluster."+name)
			s.VPC.DNS.Set("cluster."+name, netip.MustParseAddr(s.remote.host))
			s.VPC.DNS.Fail(fault)
			before := s.VPC.DNS.TCPQueries()
			s.remote.host = name
			started := time.Now()
			d := s.open(way{where: "remote"})
			if took := time.Since(started); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			s.converse(d)
			if fault.Truncate && s.VPC.DNS.TCPQueries() == before {
				t.Error("it was not asked for over TCP")
			}
		})
	}
}

// What the user is told when no address can be had: a name that does not exist ends the session, a server that fails may
// do better at the next connection.
func TestGuardNameServerSaysNo(t *testing.T) {
	s := isolated(t, nil)
	for name, test := range map[string]struct {
		fault fargate.DNSFault
		want  string
		final bool
	}{
		"unknown.example": {fargate.DNSFault{RCode: dnsmessage.RCodeNameError}, "no such name", true},
		"empty.example":   {fargate.DNSFault{Unrelated: true}, "the name has no addresses", true},
		"failing.example": {fargate.DNSFault{RCode: dnsmessage.RCodeServerFailure}, "name server 10.0.0.2 failed (SERVFAIL)", false},
		"refused.example": {fargate.DNSFault{RCode: dnsmessage.RCodeRefused}, "name server 10.0.0.2 refused to answer (REFUSED)", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			test.fault.Name = name
			s.VPC.DNS.Set(name, netip.MustParseAddr(s.remote.host))
			s.VPC.DNS.Fail(test.fault)
			var why string
			if test.final {
				why = s.refused(toRemoteHost, remoteHost(name, "80"))
			} else {
				s.remote.host = name
				why = s.open(way{where: "remote"}).client.CustomerMessage
			}
			if !strings.Contains(why, test.want) {
				t.Errorf("the client is told %q, which does not say %q", why, test.want)
			}
		})
	}
}

// A name that means something else at the stream's dial than it did at the probe is checked again.
func TestGuardAnswerThatChanges(t *testing.T) {
	s := isolated(t, nil)
	good, bad := netip.MustParseAddr(s.remote.host), netip.MustParseAddr("169.254.170.2")
	s.VPC.DNS.SetFunc("turncoat.example", func(n int) []netip.Addr {
		return [][]netip.Addr{{good}, {bad}, {bad, good}, {good}}[min(n, 3)]
	})
	s.remote.host = "turncoat.example"
	d := s.open(way{where: "remote"})
	if !strings.Contains(d.client.CustomerMessage, "Reached turncoat.example") {
		t.Errorf("the banner is %q", d.client.CustomerMessage)
	}
	s.converse(d) // over the connection that was made before the session was ready
	c, err := d.dial()
	s.must(err)
	s.inTime(10*time.Second, "the refused stream", func() error {
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, io.EOF) {
			t.Logf("the refused stream ends with %v", err)
		}
		return nil
	})
	s.must(d.client.WaitFlag(agentmsg.ConnectToPortError, 0, 5*time.Second))
	e := s.event("stream closed", map[string]any{"session": d.session.ID, "target": ""})
	if why := fmt.Sprint(e["why"]); !strings.Contains(why, "dial turncoat.example:"+s.remote.port+": 169.254.170.2:"+s.remote.port+": may not be dialled: link-local") {
		t.Errorf("logged as %v", e)
	}
	s.converse(d) // one of two addresses is good: that one is dialled
	s.converse(d)
	if n := len(d.client.Flags()); n != 1 {
		t.Errorf("%d flags, want 1", n)
	}
}

func TestGuardAllow(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_ALLOW": "*.allowed.example:1024-65535, 10.0.0.200/32:5439"})
	at := netip.MustParseAddr(s.remote.host)
	s.VPC.DNS.Set("db.allowed.example", at)
	s.VPC.DNS.Set("db.other.example", at)
	s.VPC.DNS.Set("metadata.allowed.example", netip.MustParseAddr("169.254.169.254"))
	address, port := s.remote.host, s.remote.port
	for host, want := range map[string]string{address: "no rule of FUMIDAI_ALLOW", "db.other.example": "no rule of FUMIDAI_ALLOW",
		"metadata.allowed.example": "link-local", "localhost": "no rule of FUMIDAI_ALLOW"} {
		if why := s.refused(toRemoteHost, remoteHost(host, port)); !strings.Contains(why, want) {
			t.Errorf("%s: the client is told %q", host, why)
		}
	}
	for _, host := range []string{"db.allowed.example", "10.0.0.200"} {
		if why := s.refused(toRemoteHost, remoteHost(host, "80")); !strings.Contains(why, "no rule of FUMIDAI_ALLOW") {
			t.Errorf("%s port 80: the client is told %q", host, why)
		}
	}
	s.remote.host = "DB.allowed.example"
	s.converse(s.open(way{where: "remote"}))
}

// A fixed relay's port is reached whatever FUMIDAI_ALLOW says of the task itself.
func TestGuardAllowAndFixedRelay(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_ALLOW": "10.0.0.0/24"})
	s.converse(s.open(way{where: "fixed"}))
	if why := s.refused("AWS-StartPortForwardingSession", map[string][]string{"portNumber": {s.local.port}}); !strings.Contains(why, "no rule of FUMIDAI_ALLOW") {
		t.Errorf("another port of the task: the client is told %q", why)
	}
}

// --- sessions that can't start -----------------------------------------------------------------------------------------

func TestGuardSessionsThatCannotStart(t *testing.T) {
	s := isolated(t, nil)
	document := func(name, text string) string {
		s.must(s.Gateway.PutDocument(name, text))
		return name
	}
	for name, test := range map[string]struct {
		document   string
		parameters map[string][]string
		want       string // a regular expression
	}{
		"shell":             {"SSM-SessionManagerRunShell", nil, `(?i)shell|Standard_Stream`},
		"command":           {"AWS-StartInteractiveCommand", map[string][]string{"command": {"id"}}, `InteractiveCommands`},
		"command, no tty":   {"AWS-StartNonInteractiveCommand", map[string][]string{"command": {"id"}}, `NonInteractiveCommands`},
		"unknown host":      {toRemoteHost, remoteHost("nobody.example", "80"), `nobody\.example.*(does not exist|not found|no such|unknown)`},
		"schema":            {document("Schema", `{"schemaVersion":"2.0","sessionType":"Port","properties":{"portNumber":"80"}}`), nil, `schemaVersion "1\.0"`},
		"no port":           {document("NoPort", `{"schemaVersion":"1.0","sessionType":"Port","properties":{"host":"db.example"}}`), nil, `portNumber`},
		"no properties":     {document("Empty", `{"schemaVersion":"1.0","sessionType":"Port"}`), nil, `properties|portNumber`},
		"port of words":     {document("Words", `{"schemaVersion":"1.0","sessionType":"Port","properties":{"portNumber":"five"}}`), nil, `five`},
		"port 65536":        {document("Large", `{"schemaVersion":"1.0","sessionType":"Port","properties":{"portNumber":"65536"}}`), nil, `65536`},
		"unknown type":      {document("Type", `{"schemaVersion":"1.0","sessionType":"Telepathy","properties":{"portNumber":"80"}}`), nil, `Telepathy`},
		"host with a slash": {document("Slash", `{"schemaVersion":"1.0","sessionType":"Port","properties":{"portNumber":"80","host":"a/b"}}`), nil, `a/b`},
		"undefined variable": {document("Undefined", `{"schemaVersion":"1.0","sessionType":"Port","properties":{"portNumber":"{{ nothing }}"}}`), nil,
			`nothing`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			why := s.refused(test.document, test.parameters)
			t.Logf("the client is told %q", why)
			if !regexp.MustCompile(test.want).MatchString(why) {
				t.Errorf("want %s", test.want)
			}
		})
	}
}

// Nonsense in the control channel neither ends it nor starts anything.
func TestGuardNonsenseOnTheControlChannel(t *testing.T) {
	s := isolated(t, nil)
	for _, payload := range []string{"", "{}", `{"Content":"{}"}`, `{"Content":"not json","TaskId":"x"}`, strings.Repeat("[", 60_000), "\x00\xff"} {
		for _, kind := range []string{agentmsg.InteractiveShell, agentmsg.ChannelClosed, agentmsg.AgentTaskAck, "of no known type"} {
			s.must(s.Gateway.SendControl(s.target, &agentmsg.Message{Type: kind, ID: agentmsg.NewUUID(), Payload: []byte(payload)}))
		}
	}
	s.converse(s.open(way{where: "remote"}))
	if st := s.Gateway.Target(s.target); st.Opened != 1 {
		t.Errorf("the control channel was opened %d times", st.Opened)
	}
	if n := len(s.events("control message of an unknown type")); n != 1 {
		t.Errorf("a type was told %d times", n)
	}
}

func TestGuardTooManySessions(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_MAX_SESSIONS": "2"})
	first := s.open(way{where: "remote"})
	second := s.open(way{where: "local"})
	parameters := remoteHost(s.remote.host, s.remote.port)
	if why := s.refused(toRemoteHost, parameters); !strings.Contains(why, "2 sessions are open") {
		t.Errorf("the client is told %q", why)
	}
	s.converse(second)
	s.must(first.client.Terminate())
	s.event("session ended", map[string]any{"session": first.session.ID})
	s.converse(s.open(way{where: "remote"})) // there is room again
	s.converse(second)
}

// A start message that the service repeats starts its session once, and one of a session that has ended none.
func TestGuardRepeatedStart(t *testing.T) {
	s := isolated(t, nil)
	s.Gateway.Set(func(g *gateway.Settings) { g.StartCopies = 3 })
	d := s.open(way{where: "remote"})
	s.converse(d)
	if st := d.session.Stats(); st.Agent.Opened != 1 {
		t.Errorf("%d data channels were opened", st.Agent.Opened)
	}
	if n := len(s.events("session started")); n != 1 {
		t.Errorf("%d sessions were started", n)
	}
	if n := len(s.events("session refused")); n != 0 {
		t.Errorf("%d sessions were refused", n)
	}
}

func TestGuardTerminateSession(t *testing.T) {
	s := isolated(t, nil)
	d := s.open(way{where: "remote"})
	c, err := s.connect(d)
	s.must(err)
	s.must(s.api.Terminate(s.Context(), d.session.ID))
	s.inTime(5*time.Second, "the stream's end", func() error {
		_, err := io.ReadAll(c)
		if err == nil {
			return errors.New("the stream ended as if all was well")
		}
		return nil
	})
	e := s.event("session ended", map[string]any{"session": d.session.ID})
	if e["failed"] != false || e["streams"] != float64(1) {
		t.Errorf("logged as %v", e)
	}
	s.eventually("Terminated", 5*time.Second, func() bool { return d.session.Status() == gateway.Terminated })
	if task := d.session.Task(); task == nil || task.FinalTaskStatus != "Success" {
		t.Errorf("reported as %+v", task)
	}
	s.converse(s.open(way{where: "remote"}))
}

// --- keeper and relay --------------------------------------------------------------------------------------------------

// A relay that is killed or stopped is replaced within 5 s; its users are told and can start anew.
func TestGuardRelayDies(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		for _, moment := range []string{"idle", "quiet session", "transfer"} {
			t.Run(fmt.Sprintf("%v, %s", signal, moment), func(t *testing.T) {
				s := isolated(t, nil)
				var d *dialer
				if moment != "idle" {
					d = s.open(way{where: "remote"})
				}
				if moment == "transfer" {
					c, err := s.connect(d)
					s.must(err)
					go func() { _ = ask(c, 1<<40, 1<<40, 0x100) }()
					time.Sleep(300 * time.Millisecond)
				}
				old := s.relay()
				s.must(syscall.Kill(old, signal))
				took := s.eventually("another relay", 8*time.Second, func() bool {
					all := relays(s.task.Container(0).PID())
					return len(all) == 1 && all[0] != old && s.Gateway.Connected(s.target) && s.Gateway.Target(s.target).Opened == 2
				})
				t.Logf("replaced after %v", took.Round(time.Millisecond))
				if took > 5*time.Second+500*time.Millisecond { // the machine is busy
					t.Errorf("replaced after %v", took)
				}
				if syscall.Kill(old, 0) == nil {
					t.Error("the old relay is still there")
				}
				s.converse(s.open(way{where: "remote"}))
				if d == nil {
					return
				}
				var why error
				s.inTime(5*time.Second, "the old client's end", func() error {
					<-d.client.End.Done()
					_, why = d.client.End.Next()
					return nil
				})
				var closed *stream.ClosedError
				if !errors.As(why, &closed) || !strings.Contains(closed.Output, "relay") {
					t.Errorf("the old client is told %v", why)
				}
				if n := len(s.Gateway.Sessions("")); n != 2 {
					t.Errorf("%d sessions", n)
				}
			})
		}
	}
}

// The clocks of the task's end run on whatever becomes of relays: no session lost keeps the task alive, and a relay that
// dies again and again does not put off the end.
func TestGuardRelayDiesAndTheClockRunsOn(t *testing.T) {
	s := isolated(t, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "4s", "ECS_TST_IDLE_TIMEOUT": "3s"})
	s.open(way{where: "remote"})
	time.Sleep(5 * time.Second) // longer than either
	if got := *s.task.State().LastStatus; got != "RUNNING" {
		t.Fatalf("with a session open the task is %s", got)
	}
	killed := time.Now()
	for range 2 {
		s.must(syscall.Kill(s.relay(), syscall.SIGKILL))
		time.Sleep(1200 * time.Millisecond)
	}
	s.stopped(s.task, 15*time.Second)
	s.within("ended", s.task.State().StoppingAt.Sub(killed), 3*time.Second, 3*time.Second+slack)
	s.wantEnded(family, 0)
}

// A relay does not outlive its keeper, stopped or not. Without namespaces: in one of their own the kernel would see to it.
func TestGuardRelayGoesWithItsKeeper(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{0, syscall.SIGSTOP} {
		w := newWorld(t, func(o *emulator.Options) { o.Namespaces = false })
		task := w.service(family, map[string]string{"FUMIDAI_RELAY": "on"})
		w.must(w.Gateway.WaitConnected(task.Target(), 10*time.Second))
		keeper := task.Container(0).PID()
		all := relays(keeper)
		if len(all) != 1 {
			t.Fatalf("one relay, not %v", all)
		}
		w.must(syscall.Kill(all[0], signal))
		w.must(syscall.Kill(keeper, syscall.SIGKILL))
		w.eventually("the relay's end", 2*time.Second, func() bool { return !alive(all[0]) })
	}
}

// alive tells a process from one that only waits for its parent to hear of its end.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := string(text[strings.LastIndexByte(string(text), ')')+1:])
	return !strings.HasPrefix(rest, " Z")
}

// SIGTERM: new sessions are refused, running ones have the stop timeout less 5 s, then an end with a reason.
func TestGuardSIGTERM(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_STOP_TIMEOUT": "9s"})
	d := s.open(way{where: "remote"})
	c, err := s.connect(d)
	s.must(err)
	_, err = s.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(s.task.ID())})
	s.must(err)
	s.event("no new sessions: the task is being stopped", nil)
	stopping := time.Now()
	if why := s.refused(toRemoteHost, remoteHost(s.remote.host, s.remote.port)); !strings.Contains(why, "this task is ending") {
		t.Errorf("a new client is told %q", why)
	}
	s.must(ask(c, 10_000, 100_000, 0x200))
	s.converse(d)
	// A relay that starts in this time does not open admission again, and the rest of the time is as it was.
	<-d.client.End.Done()
	s.within("the session ended", time.Since(stopping), 3*time.Second, 5*time.Second)
	_, err = d.client.End.Next()
	var closed *stream.ClosedError
	if !errors.As(err, &closed) || !strings.Contains(closed.Output, "the task ends: ECS is stopping this task") {
		t.Errorf("the client is told %v", err)
	}
	s.stopped(s.task, 10*time.Second)
	s.within("the task ended", s.task.State().ExecutionStoppedAt.Sub(stopping), 3*time.Second, 7*time.Second)
	if got := *s.task.State().Containers[0].ExitCode; got != 0 {
		t.Errorf("exit code %d", got)
	}
	s.wantCalls(s.task)
}

func TestGuardSIGTERMAndNewRelay(t *testing.T) {
	s := isolated(t, map[string]string{"FUMIDAI_STOP_TIMEOUT": "14s"})
	s.open(way{where: "remote"})
	_, err := s.sdk.StopTask(ctx, &sdk.StopTaskInput{Task: aws.String(s.task.ID())})
	s.must(err)
	s.event("no new sessions: the task is being stopped", nil)
	s.must(syscall.Kill(s.relay(), syscall.SIGKILL))
	s.eventually("another relay, or the end", 6*time.Second, func() bool {
		return s.Gateway.Target(s.target).Opened == 2 && s.Gateway.Connected(s.target) || *s.task.State().LastStatus == "STOPPED"
	})
	o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(s.remote.host, s.remote.port))
	if err == nil { // otherwise the task has gone: nobody was left
		if why := s.toldWhy(o); !strings.Contains(why, "this task is ending") {
			t.Errorf("a new client is told %q", why)
		}
	}
	s.stopped(s.task, 14*time.Second)
}

// --- the sandbox -------------------------------------------------------------------------------------------------------

// What the kernel says of a running relay. Each refused system call has a test of its own in tests/unit/test_sandbox.c.
func TestGuardSandbox(t *testing.T) {
	s := isolated(t, nil)
	s.converse(s.open(way{where: "remote"}))
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.relay()))
	s.must(err)
	want := map[string]string{"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "Groups": "", "NoNewPrivs": "1",
		"Seccomp": "2", "CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapAmb": "0000000000000000"}
	if fargate.Dynamic(binary) {
		delete(want, "Seccomp") // the sanitizers' runtimes do more than the filter lets through
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if wanted, ok := want[name]; ok {
			if got := strings.Join(strings.Fields(value), " "); got != wanted {
				t.Errorf("%s is %q, want %q", name, got, wanted)
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not told: %v", want)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.relay()))
	s.must(err)
	if !regexp.MustCompile(`Max core file size +0 +0`).Match(limits) {
		t.Errorf("core dumps are possible:\n%s", limits)
	}
}

// --- activity ----------------------------------------------------------------------------------------------------------

// A session that its user has forgotten. By "session" it keeps the task; by "stream" and by "bytes" it does not, whatever
// keep-alives pass.
func TestGuardIdleBy(t *testing.T) {
	for _, test := range []struct {
		by     string
		stream bool // there is one open, without a byte
		ends   bool
	}{{"session", false, false}, {"stream", false, true}, {"stream", true, false}, {"bytes", true, true}} {
		t.Run(fmt.Sprintf("%s, stream %v", test.by, test.stream), func(t *testing.T) {
			s := isolated(t, map[string]string{"FUMIDAI_IDLE_BY": test.by, "ECS_TST_INITIAL_WAIT_TIME": "3s", "ECS_TST_IDLE_TIMEOUT": "2s"})
			d := s.open(way{where: "remote"})
			if test.stream {
				_, err := s.connect(d)
				s.must(err)
			} else {
				s.converse(d)
			}
			quiet := time.Now()
			stop := make(chan struct{})
			defer close(stop)
			go func() { // smux's and the websocket's signs of life
				for {
					select {
					case <-stop:
						return
					case <-time.After(200 * time.Millisecond):
						d.client.Mux.Nop()
						d.session.Ping("agent")
					}
				}
			}()
			if !test.ends {
				time.Sleep(8 * time.Second)
				if got := *s.task.State().LastStatus; got != "RUNNING" {
					t.Errorf("the task is %s", got)
				}
				return
			}
			s.stopped(s.task, 12*time.Second)
			s.within("ended", s.task.State().StoppingAt.Sub(quiet), 1500*time.Millisecond, 4*time.Second+slack)
			s.wantEnded(family, 0)
			var closed *stream.ClosedError
			if _, err := d.client.End.Next(); !errors.As(err, &closed) || !strings.Contains(closed.Output, "the task ends") {
				t.Errorf("the client is told %v", err)
			}
		})
	}
}

// --- the log -----------------------------------------------------------------------------------------------------------

func TestGuardAudit(t *testing.T) {
	s := isolated(t, map[string]string{"ECS_TST_LOG_LEVEL": "debug"})
	const secret = "the-payload-that-nobody-may-log"
	s.remote = s.serve(func(c net.Conn) {
		_, _ = io.Copy(c, c)
	})
	d := s.open(way{where: "remote"})
	for range 2 {
		c, err := d.dial()
		s.must(err)
		s.must(echo(c, secret))
		s.must(c.Close())
	}
	s.must(d.client.Terminate())
	n := float64(len(secret))
	e := s.event("session ended", map[string]any{"session": d.session.ID})
	for name, want := range map[string]any{"streams": 2.0, "bytes_to_target": 2 * n, "bytes_to_client": 2 * n, "failed": false} {
		if e[name] != want {
			t.Errorf("session ended: %s is %v, want %v", name, e[name], want)
		}
	}
	if e["owner"] == "" || e["owner"] == nil {
		t.Errorf("session ended without an owner: %v", e)
	}
	e = s.event("session started", map[string]any{"session": d.session.ID})
	for name, want := range map[string]any{"document": toRemoteHost, "host": s.remote.host, "owner": s.who()} {
		if e[name] != want {
			t.Errorf("session started: %s is %v, want %v", name, e[name], want)
		}
	}
	closed := s.events("stream closed")
	if len(closed) != 2 {
		t.Fatalf("%d streams closed", len(closed))
	}
	for _, e := range closed {
		if e["bytes_to_target"] != n || e["bytes_to_client"] != n || e["target"] != net.JoinHostPort(s.remote.host, s.remote.port) || e["why"] == "" {
			t.Errorf("stream closed: %v", e)
		}
	}
	// A fixed relay's and a refused session's lines are in it too.
	s.converse(s.open(way{where: "fixed"}))
	s.refused(toRemoteHost, remoteHost("169.254.170.2", "80"))
	s.Gateway.CutControl(s.target)
	s.eventually("the control channel", 5*time.Second, func() bool { return s.Gateway.Target(s.target).Opened == 2 })
	log, key := s.task.Output(), s.task.Key()
	if key.SecretAccessKey == "" || key.Token == "" {
		t.Fatal("the emulator has given no credentials")
	}
	for what, text := range map[string]string{"payload": secret, "secret key": key.SecretAccessKey, "session token": key.Token, "channel token": "AAEAA",
		"signature": "AWS4-HMAC", "header": "Authorization", "TokenValue": "TokenValue", "credentials' path": "/v2/credentials/"} {
		if i := strings.Index(strings.ToLower(log), strings.ToLower(text)); i >= 0 {
			t.Errorf("the log holds a %s: …%s…", what, log[max(0, i-100):min(len(log), i+60)])
		}
	}
}

// echo sends text and waits for it to come back.
func echo(c io.ReadWriter, text string) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c, back); err != nil || string(back) != text {
		return fmt.Errorf("%q came back, %w", back, err)
	}
	return nil
}

// --- modes and networks ------------------------------------------------------------------------------------------------

func TestGuardMode(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: without namespaces the agents of other tests are seen")
	}
	for _, test := range []struct {
		relay         string
		agent         bool
		mode, because string
	}{
		{"auto", true, "watch", "AWS's exec agent is in this container"},
		{"auto", false, "relay", "AWS's exec agent is not in this container"},
		{"on", true, "relay", "FUMIDAI_RELAY is on"},
		{"off", false, "watch", "FUMIDAI_RELAY is off"},
	} {
		t.Run(fmt.Sprintf("%s, agent %v", test.relay, test.agent), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := &site{world: w}
			if test.agent {
				s.task = w.service(family, map[string]string{"FUMIDAI_RELAY": test.relay})
			} else {
				s.task = w.bastion(map[string]string{"FUMIDAI_RELAY": test.relay})
			}
			if e := s.event("starting", map[string]any{"mode": test.mode}); !strings.Contains(fmt.Sprint(e["because"]), test.because) {
				t.Errorf("%v", e)
			}
			if test.mode == "relay" {
				w.must(w.Gateway.WaitConnected(s.task.Target(), 10*time.Second))
				return
			}
			time.Sleep(time.Second)
			if w.Gateway.Connected(s.task.Target()) || len(relays(s.task.Container(0).PID())) != 0 {
				t.Error("it relays all the same")
			}
		})
	}
}

// connectProxy is an HTTP proxy in the VPC, and where it listens. Whatever host it is asked for, it leads to the emulator.
func (s *site) connectProxy() (*proxy.Proxy, endpoint) {
	s.Helper()
	host, err := s.VPC.Host()
	s.must(err)
	l, err := s.VPC.Listen("tcp", net.JoinHostPort(host.String(), "0"))
	s.must(err)
	s.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return proxy.Serve(l, func(string) (net.Conn, error) {
		return s.VPC.NS().Dial("tcp", net.JoinHostPort(s.VPC.Resolver.String(), "443"))
	}), endpoint{host.String(), port}
}

// The first answers of the metadata endpoint may not describe the network: until one does, what may be reserved is not dialled.
func TestGuardBeforeTheSubnetIsKnown(t *testing.T) {
	s := isolated(t, nil, func(s *site, _ map[string]string) { s.ECS.Timing.Networks = 3 * time.Second })
	why := s.refused(toRemoteHost, remoteHost("10.0.99.3", "5432")) // of another subnet
	if !strings.Contains(why, "has not told this task's subnet") {
		t.Errorf("refused with %q", why)
	}
	s.event("the metadata does not tell the task's subnet yet, asking again", nil)
	s.eventually("the subnet to be known", 15*time.Second, func() bool {
		return strings.Contains(s.refused(toRemoteHost, remoteHost("10.0.0.2", "53")), "AWS reserves in this task's subnet")
	})
	s.converse(s.open(way{where: "remote"}))
}

// A proxy that can't be used, or whose setting makes no sense, keeps nobody's command from running and no task from ending.
func TestGuardProxyUnusable(t *testing.T) {
	for name, test := range map[string]struct{ setting, want string }{
		"TLS":       {"https://user:hunter2@10.0.0.5:3128", "only a proxy with http:// is supported"},
		"SOCKS":     {"socks5://10.0.0.5:1080", "only a proxy with http:// is supported"},
		"malformed": {"http://user:hunter2@10.0.0.5:port", "port is not a number"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			task := w.service(family, map[string]string{"HTTPS_PROXY": test.setting, "NO_PROXY": "169.254.170.2", "FUMIDAI_RELAY": "on"},
				"--", "/dummy", "id", "sleep=2s")
			w.stopped(task, 20*time.Second)
			w.wantEnded(family, 0)
			w.wantCalls(task, ended...)
			out := task.Output()
			if !strings.Contains(out, "\nid ") {
				t.Error("the command did not run")
			}
			for _, line := range []string{"calling AWS without the proxy", "control channel is down"} {
				if !regexp.MustCompile(line + ".*HTTPS_PROXY: .*" + test.want).MatchString(out) {
					t.Errorf("no line %q with the reason", line)
				}
			}
			if strings.Contains(out, "hunter2") {
				t.Error("the password is in the log")
			}
		})
	}
}

// What people write as a password is the password.
func TestGuardProxyPasswords(t *testing.T) {
	var through *proxy.Proxy
	s := isolated(t, map[string]string{"NO_PROXY": "169.254.170.2"}, func(s *site, env map[string]string) {
		var at endpoint
		through, at = s.connectProxy()
		env["HTTPS_PROXY"] = `http://us@er:p@s#s\/%20%@` + net.JoinHostPort(at.host, at.port)
	})
	s.converse(s.open(way{where: "remote"}))
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(`us@er:p@s#s\/ %`))
	if got := through.Asked()[0].Authorization; got != want {
		t.Errorf("the proxy got %q, want %q", got, want)
	}
}

func TestGuardProxy(t *testing.T) {
	for _, test := range []struct{ name, except, calls string }{
		{"for everything", "169.254.170.2", "ssmmessages ecs"},
		{"but for ssmmessages", "169.254.170.2,ssmmessages.ap-northeast-1.amazonaws.com", "ecs"},
		{"but for AWS", "169.254.170.2,.amazonaws.com", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var through *proxy.Proxy
			s := isolated(t, map[string]string{"NO_PROXY": test.except, "ECS_TST_INITIAL_WAIT_TIME": "5s", "ECS_TST_IDLE_TIMEOUT": "500ms"},
				func(s *site, env map[string]string) {
					var at endpoint
					through, at = s.connectProxy()
					env["HTTPS_PROXY"] = "http://" + net.JoinHostPort(at.host, at.port)
				})
			d := s.open(way{where: "remote"})
			s.converse(d)
			s.must(d.client.Terminate())
			s.stopped(s.task, 15*time.Second)
			s.wantEnded(family, 0)
			var hosts []string
			for _, asked := range through.Asked() {
				host := strings.TrimSuffix(strings.TrimPrefix(asked.Line, "CONNECT "), ".ap-northeast-1.amazonaws.com:443")
				if !slices.Contains(hosts, host) {
					hosts = append(hosts, host)
				}
			}
			slices.Sort(hosts)
			want := strings.Fields(test.calls)
			slices.Sort(want)
			if !slices.Equal(hosts, want) {
				t.Errorf("the proxy was asked for %q", through.Asked())
			}
		})
	}
}

// --- a service that is unwell ------------------------------------------------------------------------------------------

func TestGuardClockIsWrong(t *testing.T) {
	for _, skew := range []time.Duration{-40 * time.Minute, 40 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			s := isolated(t, nil, func(s *site, _ map[string]string) { s.Edge.SetSkew(skew) })
			o, err := s.Gateway.StartSession("ws://"+s.Addr(), "arn:aws:iam::123456789012:user/operator", s.target, toRemoteHost, "",
				remoteHost(s.remote.host, s.remote.port))
			s.must(err)
			c, err := client.Open(s.Context(), client.Options{SessionID: o.SessionID, StreamURL: o.StreamURL, Token: *o.TokenValue})
			s.must(err)
			t.Cleanup(c.Close)
			s.converse(&dialer{client: c, dial: func() (io.ReadWriteCloser, error) { return c.Dial() }})
		})
	}
}

// The control channel is refused for a while; the running session does not notice, and everything is as before afterwards.
func TestGuardControlChannelIsRefused(t *testing.T) {
	for name, fault := range map[string]edge.Fault{
		"403":           {Status: 403, Code: "AccessDeniedException", Message: "User is not authorized"},
		"429":           {Status: 429, Code: "ThrottlingException", Message: "Rate exceeded"},
		"500":           {Status: 500, Code: "InternalServerError", Message: "Internal server error"},
		"expired token": {Status: 403, Code: "ExpiredTokenException", Message: "The security token included in the request is expired"},
	} {
		t.Run(name, func(t *testing.T) {
			s := isolated(t, nil)
			d := s.open(way{where: "remote"})
			c, err := s.connect(d)
			s.must(err)
			fault.Service, fault.Action, fault.Effect, fault.Times = "ssmmessages", "CreateControlChannel", edge.EffectError, 2
			s.Edge.Faults.Add(fault)
			s.Gateway.CutControl(s.target)
			s.inTime(20*time.Second, "a transfer meanwhile", func() error { return ask(c, 5_000_000, 5_000_000, 0x100) })
			took := s.eventually("the control channel", 30*time.Second, func() bool { return s.Gateway.Target(s.target).Opened == 2 })
			t.Logf("open again after %v more", took.Round(time.Millisecond))
			s.must(ask(c, 10_000, 10_000, 0x101))
			s.converse(s.open(way{where: "remote"}))
			if st := d.session.Stats(); st.Agent.Opened != 1 || st.Status != gateway.Connected {
				t.Errorf("the running session was disturbed: %+v", st)
			}
			hit := s.Edge.Recorder.Calls(func(r edge.Record) bool { return r.Action == "CreateControlChannel" && r.Fault != "" })
			if len(hit) != 2 {
				t.Errorf("%d calls were refused", len(hit))
			}
			if e := s.events("control channel is down, trying again"); len(e) < 2 || !strings.Contains(fmt.Sprint(e[len(e)-1]["error"]), fault.Code) {
				t.Errorf("logged: %v", e)
			}
		})
	}
}

// Credentials that expire in the middle of a life: new ones are fetched, for data channels as for the control channel.
func TestGuardCredentialsExpire(t *testing.T) {
	s := isolated(t, nil)
	d := s.open(way{where: "remote"})
	s.converse(d)
	fault := edge.ExpiredToken("ssmmessages", "CreateDataChannel", 0)
	fault.Times = 1
	s.Edge.Faults.Add(fault)
	d.session.Cut("agent")
	s.converse(d)
	if st := d.session.Stats(); st.Agent.Opened != 2 {
		t.Errorf("%d data channels", st.Agent.Opened)
	}
}

// The order to end a session reaches the relay over the control channel when its data channel is away.
func TestGuardTerminateWithoutDataChannel(t *testing.T) {
	s := isolated(t, nil)
	d := s.open(way{where: "remote"})
	s.converse(d)
	s.Edge.Faults.Add(edge.ServerError("ssmmessages", "CreateDataChannel", 0))
	d.session.Cut("agent")
	s.eventually("the loss", 5*time.Second, func() bool { return len(s.events("data channel lost, connecting anew")) > 0 })
	s.must(s.api.Terminate(s.Context(), d.session.ID))
	e := s.event("session ended", map[string]any{"session": d.session.ID})
	if !strings.Contains(fmt.Sprint(e["reason"]), "the service ended the session") {
		t.Errorf("logged as %v", e)
	}
}

// Many sessions are lost at once: every user is told.
func TestGuardRelayDiesWithManySessions(t *testing.T) {
	const sessions = 40
	s := isolated(t, nil)
	var all []*dialer
	for range sessions {
		all = append(all, s.open(way{where: "remote"}))
	}
	s.must(all[0].client.Terminate()) // this one has ended well before
	s.eventually("the end of the first", 5*time.Second, func() bool { return all[0].session.Status() == gateway.Terminated })
	s.must(syscall.Kill(s.relay(), syscall.SIGKILL))
	for _, d := range all[1:] {
		s.inTime(10*time.Second, "a client's end", func() error {
			<-d.client.End.Done()
			_, err := d.client.End.Next()
			var closed *stream.ClosedError
			if !errors.As(err, &closed) || !strings.Contains(closed.Output, "start the session again") {
				return fmt.Errorf("the client is told %w", err)
			}
			return nil
		})
	}
	if n := len(s.events("a session was lost with the relay before this one")); n != sessions-1 {
		t.Errorf("%d sessions were reported, want %d", n, sessions-1)
	}
	if task := all[0].session.Task(); task.FinalTaskStatus != "Success" {
		t.Errorf("the first was reported again: %+v", task)
	}
	s.converse(s.open(way{where: "remote"}))
}

// Fixed relays beside AWS's exec agent: the process that serves them is not an agent, is replaced like one, and its
// connections hold the task.
func TestGuardFixedRelaysBesideTheExecAgent(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, for namespaces")
	}
	w := newWorld(t)
	s := &site{world: w}
	s.remote = s.serve(question)
	s.task = w.service(family, map[string]string{"FUMIDAI_LISTEN": fixedPort + "=" + net.JoinHostPort(s.remote.host, s.remote.port),
		"ECS_TST_INITIAL_WAIT_TIME": "4s", "ECS_TST_IDLE_TIMEOUT": "2s"})
	ns, err := fargate.NetNSOf(s.task.Container(0).PID())
	w.must(err)
	defer ns.Close() //nolint:errcheck // a test's
	dial := func() (c net.Conn) {
		w.eventually("the fixed relay", 5*time.Second, func() bool {
			c, err = ns.Dial("tcp", "127.0.0.1:"+fixedPort)
			return err == nil
		})
		w.must(await(c))
		return c
	}
	s.event("starting", map[string]any{"mode": "watch"})
	_ = dial().Close()
	old := s.relay()
	w.must(syscall.Kill(old, syscall.SIGKILL))
	w.eventually("another", 5*time.Second, func() bool {
		all := relays(s.task.Container(0).PID())
		return len(all) == 1 && all[0] != old
	})
	c := dial()
	w.must(ask(c, 100_000, 100_000, 0x100))
	time.Sleep(5 * time.Second) // longer than any wait: the connection holds the task
	if got := *s.task.State().LastStatus; got != "RUNNING" {
		t.Fatalf("the task is %s", got)
	}
	w.must(ask(c, 1000, 1000, 0x101))
	gone := time.Now()
	w.must(c.Close())
	w.stopped(s.task, 12*time.Second)
	w.within("ended", s.task.State().StoppingAt.Sub(gone), 2*time.Second, 2*time.Second+slack)
	w.wantEnded(family, 0)
	if w.Gateway.Target(s.task.Target()).Opened != 0 {
		t.Error("it has opened a control channel beside the agent's")
	}
}

// A task without a way into the world by IPv4 uses AWS's dual-stack names.
func TestGuardIPv6Only(t *testing.T) {
	for _, only := range []bool{true, false} {
		t.Run(fmt.Sprint(only), func(t *testing.T) {
			s := isolated(t, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "5s", "ECS_TST_IDLE_TIMEOUT": "500ms"},
				func(s *site, _ map[string]string) { s.VPC.NoIPv4 = only })
			d := s.open(way{where: "remote"})
			s.converse(d)
			s.must(d.client.Terminate())
			s.stopped(s.task, 15*time.Second)
			s.wantEnded(family, 0)
			for _, service := range []string{"ecs.", "ssmmessages."} {
				dual, plain := s.VPC.DNS.Queries(service+s.Region+".api.aws"), s.VPC.DNS.Queries(service+s.Region+".amazonaws.com")
				if dual > 0 != only || plain > 0 == only {
					t.Errorf("%s: asked for the dual-stack name %d times, for the other one %d times", service, dual, plain)
				}
			}
		})
	}
}
