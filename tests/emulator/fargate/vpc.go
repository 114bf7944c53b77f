package fargate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// VPC is a private network on this machine: a bridge in a network namespace of its own. Tasks are attached to it, and
// nothing leads out of it. Resolver answers names there and, like interface endpoints with private DNS, AWS's host
// names lead to it; the emulator's edge listens on it at port 443.
type VPC struct {
	Subnet   netip.Prefix // 10.0.0.0/24
	Resolver netip.Addr   // its second address, as in a real VPC
	DNS      *DNS
	// NoIPv4 gives the tasks that start from now on a default route by IPv6 instead of IPv4. Their VPC stays IPv4.
	NoIPv4 bool

	ns *NetNS

	mu    sync.Mutex
	taken map[netip.Addr]bool
	links int
}

const bridgeName = "vpc"

// bridgeAddress is given, because a bridge without one takes a port's: with that task's end it would change, and the other
// tasks would talk to the old one for up to a minute.
var bridgeAddress = net.HardwareAddr{0x02, 0, 0, 0, 0, 1}

// NewVPC makes a VPC. Needs root.
func NewVPC() (*VPC, error) {
	v := &VPC{Subnet: netip.MustParsePrefix("10.0.0.0/24"), Resolver: netip.MustParseAddr("10.0.0.2"), taken: map[netip.Addr]bool{}}
	var err error
	if v.ns, err = newNetNS(); err != nil {
		return nil, fmt.Errorf("make a network namespace (needs root): %w", err)
	}
	err = v.ns.link(func(h *netlink.Handle) error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName, HardwareAddr: bridgeAddress}}
		if err := h.LinkAdd(bridge); err != nil {
			return err
		}
		for _, host := range []int{1, 2} { // the router and the resolver
			if err := addAddress(h, bridge, v.host(host), v.Subnet.Bits()); err != nil {
				return err
			}
		}
		return h.LinkSetUp(bridge)
	})
	if err == nil {
		v.DNS, err = serveDNS(v.ns, v.Resolver)
	}
	if err != nil {
		v.Close()
		return nil, fmt.Errorf("make the VPC: %w", err)
	}
	return v, nil
}

// Close removes the VPC.
func (v *VPC) Close() error {
	if v.DNS != nil {
		v.DNS.Close()
	}
	return v.ns.Close()
}

// Listen listens inside the VPC. The address must be Resolver's, or one that Host has given.
func (v *VPC) Listen(network, address string) (net.Listener, error) {
	return v.ns.Listen(network, address)
}

// NS is the VPC's own network namespace, where servers for tasks to reach can run.
func (v *VPC) NS() *NetNS { return v.ns }

// Host gives the VPC a host: a fresh address that Listen and programs run in NS can use.
func (v *VPC) Host() (netip.Addr, error) {
	address, err := v.allocate()
	if err != nil {
		return address, err
	}
	return address, v.ns.link(func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(bridgeName)
		if err != nil {
			return err
		}
		return addAddress(h, bridge, address, v.Subnet.Bits())
	})
}

// Machine gives the VPC a host with a network of its own, which Unplug takes away. Its address is eth1's.
func (v *VPC) Machine() (*NetNS, netip.Addr, error) { return v.attach() }

func (v *VPC) host(n int) netip.Addr {
	b := v.Subnet.Addr().As4()
	b[3] = byte(n)
	return netip.AddrFrom4(b)
}

func (v *VPC) allocate() (netip.Addr, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for n := 10; n < 255; n++ { // the first four are AWS's, some more are kept for tests
		if address := v.host(n); !v.taken[address] {
			v.taken[address] = true
			return address, nil
		}
	}
	return netip.Addr{}, errors.New("the subnet has no free addresses")
}

// attach makes a namespace for a task, on the VPC.
func (v *VPC) attach() (*NetNS, netip.Addr, error) {
	address, err := v.allocate()
	if err != nil {
		return nil, address, err
	}
	ns, err := newNetNS()
	if err != nil {
		return nil, address, err
	}
	v.mu.Lock()
	v.links++
	port := fmt.Sprintf("task%d", v.links)
	v.mu.Unlock()
	err = v.ns.link(func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(bridgeName)
		if err != nil {
			return err
		}
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: port, MasterIndex: bridge.Attrs().Index},
			PeerName:  "eth1", PeerNamespace: netlink.NsFd(ns.handle),
		}
		if err := h.LinkAdd(veth); err != nil {
			return err
		}
		return h.LinkSetUp(veth)
	})
	if err == nil {
		err = ns.link(func(h *netlink.Handle) error { return v.configureTask(h, address) })
	}
	if err != nil {
		v.detach(ns, address)
		return nil, address, err
	}
	return ns, address, nil
}

// configureTask gives a task's namespace its addresses: the private one on eth1, and Fargate's link-local one.
func (v *VPC) configureTask(h *netlink.Handle, address netip.Addr) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := addAddress(h, lo, netip.MustParseAddr(linkLocal), 32); err != nil {
		return err
	}
	eth, err := h.LinkByName("eth1")
	if err != nil {
		return err
	}
	if err := addAddress(h, eth, address, v.Subnet.Bits()); err != nil {
		return err
	}
	if err := h.LinkSetUp(eth); err != nil {
		return err
	}
	if v.NoIPv4 {
		own, everything := netip.MustParsePrefix("fd00:0:0:1::10/64"), &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		mask := net.CIDRMask(own.Bits(), 128)
		if err := h.AddrAdd(eth, &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr().AsSlice(), Mask: mask}, Flags: unix.IFA_F_NODAD}); err != nil {
			return err
		}
		return h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Dst: everything, Gw: net.ParseIP("fd00:0:0:1::1")})
	}
	return h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: v.host(1).AsSlice()})
}

func (v *VPC) detach(ns *NetNS, address netip.Addr) {
	if ns != nil {
		ns.Close() // the veth pair goes with it
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.taken, address)
}

func addAddress(h *netlink.Handle, link netlink.Link, address netip.Addr, bits int) error {
	return h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, 32)}})
}

// NetNS is a network namespace without a name: it lives as long as this handle, or a process in it.
type NetNS struct{ handle netns.NsHandle }

func newNetNS() (*NetNS, error) {
	n := &NetNS{}
	errs := make(chan error)
	go onOwnThread(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.handle, err = netns.Get()
		}
		errs <- err
	})
	if err := <-errs; err != nil {
		return nil, err
	}
	return n, n.link(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
}

// NetNSOf is the network namespace of a process: a task's, for a test to serve or dial inside it. It has to be closed.
func NetNSOf(pid int) (*NetNS, error) {
	handle, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	return &NetNS{handle: handle}, nil
}

// Close releases the namespace.
func (n *NetNS) Close() error { return n.handle.Close() }

// Do runs f on a thread that is in the namespace. Sockets made by f and processes it starts belong to it.
func (n *NetNS) Do(f func() error) error {
	errs := make(chan error)
	go onOwnThread(func() {
		if err := netns.Set(n.handle); err != nil {
			errs <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		errs <- f()
	})
	return <-errs
}

// Listen listens inside the namespace.
func (n *NetNS) Listen(network, address string) (l net.Listener, err error) {
	err = n.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Dial connects from inside the namespace.
func (n *NetNS) Dial(network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = net.Dial(network, address)
		return err
	})
	return c, err
}

// Unplug ends all traffic of a Machine without a word to its peers.
func (n *NetNS) Unplug() error {
	return n.link(func(h *netlink.Handle) error {
		eth, err := h.LinkByName("eth1")
		if err != nil {
			return err
		}
		return h.LinkSetDown(eth)
	})
}

// Path is a file by which other programs (nsenter --net=…) can enter the namespace while this process lives.
func (n *NetNS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(n.handle)) }

func (n *NetNS) link(f func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(n.handle)
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}
