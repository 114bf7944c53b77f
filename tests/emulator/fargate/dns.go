package fargate

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is the VPC's resolver, over UDP and TCP. AWS's host names lead to the resolver's own address, where the edge
// listens; other names are those that Set, SetFunc and SetAlias know. Anything else does not exist. Fail makes it fail.
type DNS struct {
	self netip.Addr
	udp  net.PacketConn
	tcp  net.Listener

	mu         sync.Mutex
	names      map[string]func(n int) []netip.Addr
	aliases    map[string]string
	queries    map[string]int
	tcpQueries int
	faults     []*dnsRule
}

// DNSFault is one way in which the resolver fails. Those that say nothing of Type hit every type.
type DNSFault struct {
	Name  string          // "" is every name; ".amazonaws.com" every name that ends so
	Type  dnsmessage.Type // 0 is every type
	Times int             // how many queries it hits before it is spent; 0: no limit

	Silent    bool             // no answer at all
	RCode     dnsmessage.RCode // an answer with this code and no addresses
	Truncate  bool             // over UDP the answer has no records and says that it is truncated; over TCP it is whole
	Garbage   bool             // bytes that are not a DNS message
	Forge     bool             // before the answer come three to other queries: another id, another question, a query itself
	NoTCP     bool             // a TCP connection that asks for the name is closed without an answer
	Delay     time.Duration    // the answer comes this late
	HalfTCP   bool             // over TCP only the first half of the answer comes, then nothing
	Unrelated bool             // the answer's records are of another name
}

type dnsRule struct {
	DNSFault
	hits int
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

// SetAlias makes a name a CNAME of another. The answer has the whole chain, and the addresses at its end.
func (d *DNS) SetAlias(name, of string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aliases[strings.ToLower(name)] = strings.ToLower(of)
}

// Fail switches a fault on; the function switches it off. Of several that match, the first counts.
func (d *DNS) Fail(f DNSFault) (off func()) {
	f.Name = strings.ToLower(f.Name)
	rule := &dnsRule{DNSFault: f}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, rule)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i, r := range d.faults {
			if r == rule {
				d.faults = append(d.faults[:i:i], d.faults[i+1:]...)
				return
			}
		}
	}
}

// Queries is how often an address of the name has been asked for, over UDP and TCP.
func (d *DNS) Queries(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queries[strings.ToLower(name)]
}

// TCPQueries is how many queries came over TCP.
func (d *DNS) TCPQueries() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tcpQueries
}

// Close stops answering.
func (d *DNS) Close() error {
	_ = d.tcp.Close()
	return d.udp.Close()
}

func serveDNS(ns *NetNS, address netip.Addr) (*DNS, error) {
	d := &DNS{self: address, names: map[string]func(int) []netip.Addr{}, aliases: map[string]string{}, queries: map[string]int{}}
	at := netip.AddrPortFrom(address, 53).String()
	err := ns.Do(func() (err error) {
		d.udp, err = net.ListenPacket("udp", at)
		return err
	})
	if err != nil {
		return nil, err
	}
	if d.tcp, err = ns.Listen("tcp", at); err != nil {
		_ = d.udp.Close()
		return nil, err
	}
	go d.serveUDP()
	go d.serveTCP()
	return d, nil
}

func (d *DNS) serveUDP() {
	buf := make([]byte, 1500)
	for {
		n, from, err := d.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		answers, fault := d.answer(buf[:n], false)
		time.AfterFunc(fault.Delay, func() {
			for _, answer := range answers {
				d.udp.WriteTo(answer, from) //nolint:errcheck // a lost answer is asked for again
			}
		})
	}
}

func (d *DNS) serveTCP() {
	for {
		conn, err := d.tcp.Accept()
		if err != nil {
			return
		}
		go d.serveConn(conn)
	}
}

func (d *DNS) serveConn(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // nothing to save
	for {
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		d.mu.Lock()
		d.tcpQueries++
		d.mu.Unlock()
		answers, fault := d.answer(query, true)
		time.Sleep(fault.Delay)
		if fault.NoTCP {
			return
		}
		for _, answer := range answers {
			framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)
			if fault.HalfTCP {
				framed = framed[:len(framed)/2]
			}
			if _, err := conn.Write(framed); err != nil {
				return
			}
		}
	}
}

func nameOf(q dnsmessage.Question) string {
	return strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
}

func (r *dnsRule) matches(name string, kind dnsmessage.Type) bool {
	return (r.Name == "" || r.Name == name || r.Name[0] == '.' && strings.HasSuffix(name, r.Name)) && (r.Type == 0 || r.Type == kind)
}

// answer is what a query is answered with, messages in their order, and the fault it has met.
func (d *DNS) answer(query []byte, tcp bool) ([][]byte, DNSFault) {
	var m dnsmessage.Message
	if m.Unpack(query) != nil {
		return nil, DNSFault{}
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if len(m.Questions) != 1 {
		m.RCode = dnsmessage.RCodeFormatError
		return [][]byte{packed(&m)}, DNSFault{}
	}
	fault := d.resolve(&m)
	if fault.Silent {
		return nil, fault
	}
	if fault.Garbage {
		return [][]byte{[]byte("\x00this is not a DNS message")}, fault
	}
	var all [][]byte
	if fault.Forge {
		all = forged(&m)
	}
	whole := packed(&m)
	if !tcp && (fault.Truncate || len(whole) > datagramBytes) {
		m.Truncated, m.Answers = true, nil
		whole = packed(&m)
	}
	return append(all, whole), fault
}

// datagramBytes is the longest answer over UDP to whoever announces no more, and nobody here is listened to (RFC 1035, 4.2.1).
const datagramBytes = 512

func packed(m *dnsmessage.Message) []byte {
	b, _ := m.Pack()
	return b
}

// forged are answers to another query that name a link-local address: no resolver may take one.
func forged(m *dnsmessage.Message) (all [][]byte) {
	for _, change := range []func(*dnsmessage.Message){
		func(m *dnsmessage.Message) { m.ID++ },
		func(m *dnsmessage.Message) {
			m.Questions = []dnsmessage.Question{{Name: another, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
		},
		func(m *dnsmessage.Message) { m.Response = false },
	} {
		bad := *m
		bad.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 60},
			Body: &dnsmessage.AResource{A: [4]byte{169, 254, 170, 2}}}}
		change(&bad)
		all = append(all, packed(&bad))
	}
	return all
}

var another = dnsmessage.MustNewName("another.example.")

// resolve fills the answer in and returns the fault it has met, an empty one if none.
func (d *DNS) resolve(m *dnsmessage.Message) DNSFault {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := m.Questions[0]
	name := nameOf(q)
	var fault DNSFault
	for _, r := range d.faults {
		if r.matches(name, q.Type) && (r.Times == 0 || r.hits < r.Times) {
			r.hits++
			fault = r.DNSFault
			break
		}
	}
	at := q.Name
	for hops := 0; d.aliases[name] != "" && hops < 16; hops++ {
		name = d.aliases[name]
		next := dnsmessage.MustNewName(name + ".")
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: at, Type: dnsmessage.TypeCNAME, Class: q.Class, TTL: 1},
			Body: &dnsmessage.CNAMEResource{CNAME: next}})
		at = next
	}
	addresses, known := d.lookup(name, q.Type)
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	if fault.RCode != 0 {
		m.RCode, m.Answers = fault.RCode, nil
		return fault
	}
	if fault.Unrelated {
		at = another
	}
	header := dnsmessage.ResourceHeader{Name: at, Type: q.Type, Class: q.Class, TTL: 1}
	for _, a := range addresses {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return fault
}

// lookup counts a name's queries for IPv4 addresses only: a client that wants both kinds asks twice at once.
func (d *DNS) lookup(name string, kind dnsmessage.Type) (addresses []netip.Addr, known bool) {
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
