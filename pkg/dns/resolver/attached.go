package resolver

import (
	"net"
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
)

// hasAddrs reports whether the interface of a record is in the namespace of this
// thread, with the record's addresses.
func hasAddrs(r *zone.Record) (bool, error) {
	link, err := net.InterfaceByName(r.Mark.IfName())
	if err != nil {
		return false, err
	}
	found, err := link.Addrs()
	if err != nil {
		return false, err
	}
	for _, want := range r.Addrs {
		if !slices.ContainsFunc(found, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr().Unmap() == want
		}) {
			return false, nil
		}
	}
	return true, nil
}
