package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/client"
	"fumidai/tests/emulator/edge"
	"fumidai/tests/emulator/gateway"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// What is known of the service beyond the protocol, and what nobody knows: either way the relay has to do.

// as gives the site's calls the credentials of another principal.
func (s *site) as(arn string) {
	s.Helper()
	key := s.Edge.Keys.Temporary(edge.Principal{ARN: arn}, time.Now().Add(time.Hour))
	api := *s.api
	api.Credentials = aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey, SessionToken: key.Token}
	s.api = &api
}

// Session ids begin with the role session's name, which may hold more than letters: an e-mail address, a label.
func TestServiceSessionIDs(t *testing.T) {
	s := isolated(t, nil)
	for _, name := range []string{"taro.yamada@example.com", "a+b=c,d@e-f_g", "GitHubActions", "1,2=3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			s.as("arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Bastion_0123456789abcdef/" + name)
			d := s.open(way{where: "remote"})
			if !strings.HasPrefix(d.session.ID, name+"-") {
				t.Fatalf("the session is %s", d.session.ID)
			}
			c, err := s.connect(d)
			s.must(err)
			for i, lose := range []func(){func() { d.session.Bye("agent") }, func() { d.session.Bye("client") }, func() { d.session.Cut("agent") }} {
				lose()
				s.inTime(15*time.Second, "a conversation after a loss", func() error { return ask(c, 10_000, 100_000, uint32(i+0x100)) })
			}
			s.must(s.api.Terminate(s.Context(), d.session.ID))
			e := s.event("session ended", map[string]any{"session": d.session.ID})
			if e["failed"] != false {
				t.Errorf("logged as %v", e)
			}
			s.eventually("its report", 5*time.Second, func() bool { return d.session.Task() != nil })
		})
	}
}

// Whether the gateway keeps what is sent to a side that has never come, or loses it: sessions begin, with AWS's client, too, and
// at any moment at which a client may come.
func TestServiceLosesWhatIsSentTooEarly(t *testing.T) {
	s := isolated(t, nil)
	s.Gateway.Set(func(g *gateway.Settings) { g.Away = gateway.AwayDrop })
	for _, w := range []way{{where: "remote"}, {basic: true, where: "remote"}, {plugin: true, where: "remote"}, {plugin: true, basic: true, where: "remote"}} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			d := s.open(w)
			s.inTime(10*time.Second, "a conversation", func() error {
				c, err := s.connect(d)
				if err != nil {
					return err
				}
				return ask(c, 10_000, 100_000, 0x100)
			})
		})
	}
	for _, wait := range []time.Duration{0, 10, 20, 50, 100, 300, 1000, 3000} {
		t.Run(fmt.Sprintf("%d ms late", wait), func(t *testing.T) {
			t.Parallel()
			s := s.in(t)
			o, err := s.api.Start(s.Context(), s.target, toRemoteHost, remoteHost(s.remote.host, s.remote.port))
			s.must(err)
			time.Sleep(wait * time.Millisecond)
			c, err := client.Open(s.Context(), o)
			s.must(err)
			defer c.Close()
			s.converse(&dialer{client: c, dial: func() (io.ReadWriteCloser, error) { return c.Dial() }})
		})
	}
}

// Stream URLs without the parameter that the service has added, clients that do not sign, and a service that refuses those.
func TestServiceStreamURLs(t *testing.T) {
	s := isolated(t, nil)
	for _, plain := range []bool{true, false} {
		s.Gateway.Set(func(g *gateway.Settings) { g.PlainURLs = plain })
		for _, w := range []way{{where: "remote"}, {basic: true, where: "remote"}, {plugin: true, where: "remote"}} {
			d := s.open(w)
			s.inTime(10*time.Second, "a conversation", func() error {
				c, err := s.connect(d)
				if err != nil {
					return err
				}
				return ask(c, 1000, 1000, 0x100)
			})
		}
	}
	s.Gateway.Set(func(g *gateway.Settings) { g.RefuseUnsigned = true })
	d := s.open(way{where: "remote"})
	s.converse(d)
	d.session.Bye("client")
	s.converse(d)
}
