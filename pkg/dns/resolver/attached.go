package resolver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// verify fails unless the namespace is that of a container with these records: not the
// host's, of the inode number that they name, and, for a thread that is in it, with an
// interface and an address of one of them. A number alone proves little, as the kernel
// uses it again.
func verify(ns *netns.NS, host *netns.NS, records []*zone.Record) error {
	if own, err := ns.Same(host); err != nil {
		return err
	} else if own {
		return errors.New("netns " + ns.Path() + " is the host's by now")
	}
	inode, err := ns.Inode()
	if err != nil {
		return err
	}
	for _, r := range records {
		if !r.In(inode) {
			return fmt.Errorf("netns %s is another one by now: its inode is %d, and was %d at ADD", ns.Path(), inode, r.NetNSInode)
		}
	}
	return ns.Do(func() error {
		if len(records) > 0 && !slices.ContainsFunc(records, hasAddr) {
			return fmt.Errorf("netns %s is another one by now: it has no interface of the container with its address", ns.Path())
		}
		return nil
	})
}

// hasAddr reports whether the interface of a record is in the namespace of this thread
// with an address of the record: the kernel takes those of IPv6 away from one that is
// down for a moment.
func hasAddr(r *zone.Record) bool {
	link, err := net.InterfaceByName(r.Mark.IfName())
	if err != nil {
		return false
	}
	found, err := link.Addrs()
	return err == nil && (len(r.Addrs) == 0 || slices.ContainsFunc(found, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && slices.Contains(r.Addrs, p.Addr().Unmap())
	}))
}

// attached reports whether the container of a record still has its interface.
func attached(r *zone.Record) bool {
	ns := netns.At(r.NetNS)
	defer ns.Close()
	return verify(ns, netns.Host(), []*zone.Record{r}) == nil
}
