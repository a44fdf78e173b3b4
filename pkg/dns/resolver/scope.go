package resolver

import (
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
)

// A scope is a view, with what follows from it for queries that others answer.
type scope struct {
	*zone.View
	// forwards is true where somebody else may be asked: servers, which were named for
	// the container, or where there are none those of the host.
	forwards bool
	servers  []netip.AddrPort
	// key tells apart whose answers may be cached together: a server's address
	// may mean another server on another network.
	key string
}

func newScope(v *zone.View) *scope {
	s := &scope{View: v}
	for _, server := range v.Servers() {
		// A container that is a server itself is not asked what it asks.
		if !slices.ContainsFunc(v.Records, func(r *zone.Record) bool { return slices.Contains(r.Addrs, server.Addr()) }) {
			s.servers = append(s.servers, server)
		}
	}
	s.forwards = v.Outside() || len(s.servers) > 0
	if len(s.servers) > 0 {
		s.key = v.Records[0].Mark.Container()
	}
	return s
}
