package fargate

import (
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is the VPC's resolver. AWS's host names lead to the resolver's own address, where the edge listens; other
// names are those that Set and SetFunc know. Anything else does not exist.
type DNS struct {
	self netip.Addr
	conn net.PacketConn

	mu      sync.Mutex
	names   map[string]func(n int) []netip.Addr
	queries map[string]int
	failing map[string]dnsmessage.RCode // for IPv6 addresses
}

// Set makes a name stand for addresses.
func (d *DNS) Set(name string, addresses ...netip.Addr) {
	d.SetFunc(name, func(int) []netip.Addr { return addresses })
}

// SetFunc makes a name's answer depend on how often an address of it has been asked for (0 the first time).
func (d *DNS) SetFunc(name string, answer func(n int) []netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[strings.ToLower(name)] = answer
}

// FailIPv6 makes queries for IPv6 addresses of a name fail, as they do at some name servers; those for IPv4 are answered.
func (d *DNS) FailIPv6(name string, code dnsmessage.RCode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing[strings.ToLower(name)] = code
}

// Queries is how often an address of the name has been asked for.
func (d *DNS) Queries(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries[strings.ToLower(name)]
}

// Close stops answering.
func (d *DNS) Close() error { return d.conn.Close() }

func serveDNS(ns *NetNS, address netip.Addr) (*DNS, error) {
	d := &DNS{self: address, names: map[string]func(int) []netip.Addr{}, queries: map[string]int{},
		failing: map[string]dnsmessage.RCode{}}
	err := ns.Do(func() (err error) {
		d.conn, err = net.ListenPacket("udp", netip.AddrPortFrom(address, 53).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	go d.serve()
	return d, nil
}

func (d *DNS) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := d.answer(buf[:n]); err == nil {
			d.conn.WriteTo(answer, from) //nolint:errcheck // a lost answer is asked for again
		}
	}
}

func (d *DNS) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if len(m.Questions) != 1 {
		m.RCode = dnsmessage.RCodeFormatError
		return m.Pack()
	}
	q := m.Questions[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	addresses, known := d.lookup(name, q.Type)
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	d.mu.Lock()
	if code, fails := d.failing[name]; fails && q.Type == dnsmessage.TypeAAAA {
		m.RCode = code
	}
	d.mu.Unlock()
	header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
	for _, a := range addresses {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}

// lookup counts a name's queries for IPv4 addresses only: a client that wants both kinds asks twice at once.
func (d *DNS) lookup(name string, kind dnsmessage.Type) (addresses []netip.Addr, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.queries[name]
	if kind == dnsmessage.TypeA {
		d.queries[name]++
	} else if n > 0 {
		n--
	}
	if answer := d.names[name]; answer != nil {
		return answer(n), true
	}
	for _, domain := range []string{".amazonaws.com", ".amazonaws.com.cn", ".api.aws"} {
		if strings.HasSuffix(name, domain) {
			return []netip.Addr{d.self}, true
		}
	}
	return nil, false
}
