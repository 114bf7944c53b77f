package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/fargate"
	"fumidai/tests/emulator/gateway"
	"fumidai/tests/emulator/proxy"

	"golang.org/x/net/dns/dnsmessage"
)

// How a data channel that was lost is opened again: what passes is survived, what is final ends the session, and neither costs
// the processor.

// A data channel that is closed as soon as it opens, every time: it is tried again with pauses that grow.
func TestReopenWhatClosesAtOnce(t *testing.T) {
	t.Parallel()
	s := smallest(t, nil)
	at := s.serve(echoBytes)
	d := s.openAt(at)
	_, err := s.firstByte(d)
	s.must(err)
	s.Gateway.SetFaults(gateway.Faults{AgentChannel: gateway.Channel{Bye: 5 * time.Millisecond}})
	over := 20 * time.Second
	began := time.Now()
	used := share(s.relayPID(), over)
	opened := d.session.Stats().Agent.Opened
	t.Logf("opened %d times in %v, %.1f%% of a core", opened, over, 100*used)
	if opened > 25 || used > .05 {
		t.Errorf("the data channel was opened %d times in %v, with %.1f%% of a core", opened, over, 100*used)
	}
	if long {
		s.eventually("the session's end", 150*time.Second-time.Since(began), func() bool { return d.session.Ended() })
		return
	}
	s.Gateway.SetFaults(gateway.Faults{})
	s.inTime(35*time.Second, "a connection afterwards", func() error {
		_, err := s.firstByte(d)
		return err
	})
}

// What fails once while a data channel is opened again does not end its session: only an API's refusal does.
func TestReopenAfterWhatPasses(t *testing.T) {
	for name, fault := range map[string]func(*site) (off func()){
		"NXDOMAIN": func(s *site) func() {
			return forAMoment(s.VPC.DNS.Fail(fargate.DNSFault{Name: ".amazonaws.com", RCode: dnsmessage.RCodeNameError}))
		},
		"SERVFAIL": func(s *site) func() {
			return forAMoment(s.VPC.DNS.Fail(fargate.DNSFault{Name: ".amazonaws.com", RCode: dnsmessage.RCodeServerFailure}))
		},
		"a silent name server": func(s *site) func() {
			return forAMoment(s.VPC.DNS.Fail(fargate.DNSFault{Name: ".amazonaws.com", Silent: true}))
		},
		"garbage for TLS": tlsFault(edge.EffectGarbage),
		"a TLS alert":     tlsFault(edge.EffectAlert),
		"a broken record": tlsFault(edge.EffectBadRecord),
		"a reset":         tlsFault(edge.EffectResetBefore),
		"500":             apiFault(500, "InternalServerError"),
		"429":             apiFault(429, "ThrottlingException"),
		"400, throttling": apiFault(400, "ThrottlingException"),
		"503":             apiFault(503, "ServiceUnavailableException"),
		"expired":         apiFault(403, "ExpiredTokenException"),
		"no token":        func(s *site) func() { s.Gateway.ExpireTokens(); return func() {} },
		"not upgraded":    openFault(500, "InternalServerError"),
	} {
		t.Run(name, func(t *testing.T) {
			s := isolated(t, nil)
			d := s.open(way{where: "remote"})
			c, err := s.connect(d)
			s.must(err)
			fault(s)
			d.session.Bye("agent")
			s.inTime(25*time.Second, "a conversation over the connection that was open", func() error { return ask(c, 10_000, 100_000, 0x100) })
			if st := d.session.Stats(); st.Agent.Opened < 2 {
				t.Errorf("the data channel was not opened again: %+v", st)
			}
		})
	}
}

func forAMoment(off func()) func() {
	time.AfterFunc(1500*time.Millisecond, off)
	return off
}

func tlsFault(effect edge.Effect) func(*site) func() {
	return func(s *site) func() {
		s.Edge.Faults.Add(edge.Fault{Service: edge.ServiceTLS, Action: "ssmmessages", Effect: effect, Times: 1})
		return func() {}
	}
}

func apiFault(status int, code string) func(*site) func() {
	return func(s *site) func() {
		s.Edge.Faults.Add(edge.Fault{Service: "ssmmessages", Action: "CreateDataChannel", Effect: edge.EffectError, Status: status, Code: code, Message: "for a moment", Times: 1})
		return func() {}
	}
}

func openFault(status int, code string) func(*site) func() {
	return func(s *site) func() {
		s.Edge.Faults.Add(edge.Fault{Service: "ssmmessages", Action: "OpenDataChannel", Effect: edge.EffectError, Status: status, Code: code, Message: "for a moment", Times: 1})
		return func() {}
	}
}

// Bad answers of a proxy while a data channel is opened again.
func badProxies() map[string]proxy.Fault {
	once := func(f proxy.Fault) proxy.Fault {
		f.Times = 1
		return f
	}
	return map[string]proxy.Fault{
		"502": once(proxy.Fault{Answer: proxy.BadGateway}), "403": once(proxy.Fault{Answer: proxy.Forbidden}),
		"407": once(proxy.Fault{Answer: proxy.AuthNeeded}), "not HTTP": once(proxy.Fault{Answer: proxy.NotHTTP}),
		"interrupted": once(proxy.Fault{Answer: proxy.Interrupted}), "endless": once(proxy.Fault{Answer: proxy.Endless()}),
		"reset": once(proxy.Fault{Reset: true}), "silent": once(proxy.Fault{Silent: true}),
		"cut in the TLS handshake": once(proxy.Fault{Cut: 100}), "cut in the answer": once(proxy.Fault{Cut: 2000}),
	}
}

func TestReopenThroughAProxyThatFails(t *testing.T) {
	for name, fault := range badProxies() {
		t.Run(name, func(t *testing.T) {
			var off func()
			s := isolated(t, nil, func(s *site, env map[string]string) {
				p, at := s.connectProxy()
				env["HTTPS_PROXY"] = "http://" + net.JoinHostPort(at.host, at.port)
				env["NO_PROXY"] = "169.254.170.2"
				off = func() { p.Fail(fault) }
			})
			d := s.open(way{where: "remote"})
			c, err := s.connect(d)
			s.must(err)
			off()
			d.session.Bye("agent")
			s.inTime(40*time.Second, "a conversation over the connection that was open", func() error { return ask(c, 10_000, 100_000, 0x100) })
		})
	}
}

// Refusals in the form of bad requests.
const (
	unauthorized    = `<BadRequest xmlns=""><message>Unauthorized request.</message></BadRequest>`
	unauthenticated = `<BadRequest xmlns=""><message>0A1B2C: Request is not authenticated.</message></BadRequest>`
)

// What an API refuses for good ends the session at once, and the user is told.
func TestReopenWhatIsRefused(t *testing.T) {
	for name, fault := range map[string]edge.Fault{
		"404 for a token":             {Action: "CreateDataChannel", Status: 404, Code: "ResourceNotFoundException", Message: "no such session"},
		"404 for an upgrade":          {Action: "OpenDataChannel", Status: 404, Code: "ResourceNotFoundException", Message: "no such session"},
		"403":                         {Action: "CreateDataChannel", Status: 403, Code: "AccessDeniedException", Message: "User is not authorized"},
		"unauthorized for a token":    {Action: "CreateDataChannel", Status: 400, Body: unauthorized},
		"unauthorized for an upgrade": {Action: "OpenDataChannel", Status: 400, Body: unauthenticated},
		"already terminated":          {Action: "CreateDataChannel", Status: 400, Code: "InvalidRequestException", Message: "Session is already terminated"},
		"500":                         {Action: "CreateDataChannel", Status: 500, Code: "UnheardOf", Message: "Session is already terminated"},
		"503 for an upgrade":          {Action: "OpenDataChannel", Status: 503, Code: "UnheardOf", Message: "Session is already terminated"},
	} {
		t.Run(name, func(t *testing.T) {
			s := isolated(t, map[string]string{"ECS_TST_INITIAL_WAIT_TIME": "3s", "ECS_TST_IDLE_TIMEOUT": "3s"})
			d := s.open(way{where: "remote"})
			s.converse(d)
			_, err := s.connect(d)
			s.must(err)
			fault.Service, fault.Effect = "ssmmessages", edge.EffectError
			s.Edge.Faults.Add(fault)
			d.session.Bye("agent")
			took := s.eventually("the report", 10*time.Second, func() bool { return d.session.Task() != nil })
			if task := d.session.Task(); task.FinalTaskStatus != "Failed" || task.Output == "" {
				t.Errorf("reported as %+v", task)
			} else if fault.Body != "" && !strings.Contains(task.Output, "the task role lacks ssmmessages:"+fault.Action) {
				t.Errorf("the user is told %q, which does not name the action", task.Output)
			}
			t.Logf("after %v: %s", took.Round(time.Millisecond), d.session.Task().Output)
			s.eventually("the end of both connections", time.Second, func() bool { return len(s.events("stream closed")) == 2 })
			s.stopped(s.task, 12*time.Second) // the idle time has begun
		})
	}
}
