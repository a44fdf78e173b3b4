// Package route is addresses and routes of links as resources.
package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// An Addr is an address of a link.
type Addr struct {
	NS     *netns.NS
	Link   string
	Prefix netip.Prefix // the address with the length of its subnet
	DAD    DAD
	// NoSubnet leaves out the route to the subnet that the kernel would add.
	NoSubnet bool
}

// DAD is what is done about duplicates of an IPv6 address (RFC 4862, 5.4).
type DAD uint8

const (
	// NoDAD is right where our IPAM alone gives out the subnet's addresses.
	NoDAD DAD = iota
	// Optimistic makes the address usable at once, while the kernel looks for
	// duplicates (RFC 4429); if it finds one it takes the address out of use, and
	// Observe says so. The link's sysctl optimistic_dad must be 1.
	Optimistic
	// Wait is over when the kernel has looked, after one to two seconds.
	Wait
)

// Key implements engine.Resource.
func (a Addr) Key() string { return fmt.Sprintf("addr %s%s %s", a.NS, a.Link, a.Prefix) }

func (a Addr) String() string {
	s := fmt.Sprintf("ip %saddr add %s dev %s", a.NS, a.Prefix, a.Link)
	if a.is6() {
		s += [...]string{NoDAD: " nodad", Optimistic: " optimistic", Wait: ""}[a.DAD]
	}
	if a.NoSubnet {
		s += " noprefixroute"
	}
	return s
}

func (a Addr) is6() bool { return a.Prefix.Addr().Is6() }

// Observe implements engine.Resource.
func (a Addr) Observe(context.Context) (engine.Diff, error) {
	h, err := a.NS.Netlink()
	if err != nil {
		return engine.Same, err
	}
	l, err := h.LinkByName(a.Link)
	if notFound(err) {
		return engine.Absent, nil
	}
	if err != nil {
		return engine.Same, err
	}
	list, err := netns.Dump(func() ([]netlink.Addr, error) { return h.AddrList(l, family(a.Prefix.Addr())) })
	if err != nil {
		return engine.Same, err
	}
	for _, found := range list {
		addr, _ := netip.AddrFromSlice(found.IP)
		if addr.Unmap() != a.Prefix.Addr() {
			continue
		}
		ones, _ := found.Mask.Size()
		if found.Flags&unix.IFA_F_DADFAILED != 0 {
			return "a duplicate was detected (dadfailed)", nil
		}
		bare := found.Flags&unix.IFA_F_NOPREFIXROUTE != 0
		return engine.First(
			engine.Differ("prefix length", ones, a.Prefix.Bits()),
			engine.Differ("noprefixroute", a.NoSubnet && bare, a.NoSubnet)), nil
	}
	return engine.Absent, nil
}

// Apply implements engine.Resource.
func (a Addr) Apply(ctx context.Context) error {
	h, err := a.NS.Netlink()
	if err != nil {
		return err
	}
	l, err := h.LinkByName(a.Link)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(a.Prefix)}
	if a.NoSubnet {
		addr.Flags = unix.IFA_F_NOPREFIXROUTE
	}
	if a.is6() {
		switch a.DAD {
		case NoDAD:
			addr.Flags |= unix.IFA_F_NODAD
		case Optimistic:
			addr.Flags |= unix.IFA_F_OPTIMISTIC
		case Wait:
			return a.addAndWait(ctx, h, l, addr, netns.KernelLimit)
		}
	}
	return a.explain(h.AddrAdd(l, addr))
}

// explain: one that is there already is as good, unless another link of the same
// parent has it (ipvlan).
func (a Addr) explain(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("address %s %w by another container on the same parent", a.Prefix.Addr(), engine.ErrDuplicate)
	}
	return ignore(err, unix.EEXIST)
}

// addAndWait returns when the kernel has told the outcome of duplicate address
// detection.
func (a Addr) addAndWait(ctx context.Context, h *netlink.Handle, l netlink.Link, addr *netlink.Addr, limit time.Duration) error {
	fd, err := a.NS.FD()
	if err != nil {
		return err
	}
	updates, done := make(chan netlink.AddrUpdate, 16), make(chan struct{})
	defer close(done)
	handle := vns.NsHandle(fd)
	options := netlink.AddrSubscribeOptions{}
	if fd >= 0 {
		options.Namespace = &handle
	}
	if err := netlink.AddrSubscribeWithOptions(updates, done, options); err != nil {
		return err
	}
	if err := h.AddrAdd(l, addr); err != nil {
		return a.explain(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit,
		fmt.Errorf("link %s: duplicate address detection of %s is not over after %v", a.Link, a.Prefix.Addr(), limit))
	defer cancel()
	for {
		select {
		case u, ok := <-updates:
			switch {
			case !ok:
				return errors.New("address events ended")
			case u.LinkIndex != l.Attrs().Index || !u.LinkAddress.IP.Equal(addr.IP) || !u.NewAddr:
			case u.Flags&unix.IFA_F_DADFAILED != 0:
				return fmt.Errorf("address %s %w", a.Prefix.Addr(), engine.ErrDuplicate)
			case u.Flags&unix.IFA_F_TENTATIVE == 0:
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Remove implements engine.Resource.
func (a Addr) Remove(context.Context) error {
	h, err := a.NS.Netlink()
	if err != nil {
		return err
	}
	l, err := h.LinkByName(a.Link)
	if err != nil {
		if notFound(err) {
			return nil
		}
		return err
	}
	return ignore(h.AddrDel(l, &netlink.Addr{IPNet: ipNet(a.Prefix)}), unix.EADDRNOTAVAIL)
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func notFound(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none)
}

func ignore(err error, errno unix.Errno) error {
	if errors.Is(err, errno) {
		return nil
	}
	return err
}
