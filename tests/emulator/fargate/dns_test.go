package fargate_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fumidai/tests/emulator/fargate"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver is Go's own, inside the VPC.
func resolver(v *fargate.VPC) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(_ context.Context, network, _ string) (net.Conn, error) {
		return v.NS().Dial(network, netip.AddrPortFrom(v.Resolver, 53).String())
	}}
}

func TestDNSFaults(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for namespaces")
	}
	v, err := fargate.NewVPC()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	lookup := func(limit time.Duration) ([]string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return resolver(v).LookupHost(ctx, "db.internal.")
	}
	good := []string{"10.0.0.77"}
	v.DNS.Set("db.internal", netip.MustParseAddr(good[0]))
	for name, test := range map[string]struct {
		fault  fargate.DNSFault
		want   string // in the error; "" is a good answer
		atOnce bool   // the fault is spent, and the next look-up is good
	}{
		"nothing":   {fargate.DNSFault{Name: "another.internal", RCode: dnsmessage.RCodeRefused}, "", true},
		"once":      {fargate.DNSFault{RCode: dnsmessage.RCodeNameError, Times: 2}, "no such host", true},
		"SERVFAIL":  {fargate.DNSFault{Name: ".internal", RCode: dnsmessage.RCodeServerFailure}, "server misbehaving", false},
		"silent":    {fargate.DNSFault{Silent: true}, "timeout", false},
		"late":      {fargate.DNSFault{Delay: 50 * time.Millisecond}, "", true},
		"garbage":   {fargate.DNSFault{Garbage: true}, "db.internal", false},
		"truncated": {fargate.DNSFault{Truncate: true}, "", true},
		"no TCP":    {fargate.DNSFault{Truncate: true, NoTCP: true}, "EOF", false},
		"half TCP":  {fargate.DNSFault{Truncate: true, HalfTCP: true}, "timeout", false},
		"forged":    {fargate.DNSFault{Forge: true}, "", true},
		"unrelated": {fargate.DNSFault{Unrelated: true, Type: dnsmessage.TypeA}, "", true}, // Go takes any name's records
	} {
		t.Run(name, func(t *testing.T) {
			off := v.DNS.Fail(test.fault)
			got, err := lookup(time.Second)
			var failed *net.DNSError
			switch {
			case test.want == "" && (err != nil || !slices.Equal(got, good)):
				t.Errorf("got %q, %v", got, err)
			case test.want != "" && (!errors.As(err, &failed) || !strings.Contains(err.Error(), test.want) && !(test.want == "timeout" && failed.IsTimeout)):
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
			if !test.atOnce {
				off()
			}
			if got, err := lookup(5 * time.Second); err != nil || !slices.Equal(got, good) {
				t.Errorf("afterwards: %q, %v", got, err)
			}
			off()
		})
	}
	if v.DNS.TCPQueries() == 0 {
		t.Error("nobody has asked over TCP")
	}
}

func TestDNSNames(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for namespaces")
	}
	v, err := fargate.NewVPC()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	v.DNS.SetAlias("www.example", "Front.example")
	v.DNS.SetAlias("front.example", "db.internal")
	v.DNS.Set("db.internal", netip.MustParseAddr("10.0.0.77"))
	var many []netip.Addr
	for i := range 60 {
		many = append(many, netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}))
	}
	v.DNS.Set("many.internal", many...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if got, err := resolver(v).LookupHost(ctx, "www.example."); err != nil || !slices.Equal(got, []string{"10.0.0.77"}) {
		t.Errorf("through two aliases: %q, %v", got, err)
	}
	if got, err := resolver(v).LookupHost(ctx, "many.internal."); err != nil || len(got) != len(many) {
		t.Errorf("more than a datagram holds: %d addresses, %v", len(got), err)
	}
	if v.DNS.TCPQueries() == 0 {
		t.Error("60 addresses have come in one datagram")
	}
	if got, err := resolver(v).LookupHost(ctx, "nothing.example."); err == nil {
		t.Errorf("a name that does not exist has %q", got)
	}
}
