package resolver

import (
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
)

// A scope is a view, with what follows from it for queries that others answer.
type scope struct {
	*zone.View
	forwards bool
	// servers are those that were named for the container; none: the host's.
	servers []netip.AddrPort
	// key tells apart whose answers may be cached together: a server's address
	// may mean another server on another network.
	key string
}

func newScope(v *zone.View) *scope {
	s := &scope{View: v, forwards: v.Forwards()}
	for _, server := range v.Servers() {
		// A container that is a server itself is not asked what it asks.
		if !slices.ContainsFunc(v.Records, func(r *zone.Record) bool { return slices.Contains(r.Addrs, server.Addr()) }) {
			s.servers = append(s.servers, server)
		}
	}
	if len(s.servers) > 0 {
		s.key = v.Records[0].Mark.Container()
	}
	return s
}
