package resolver

import (
	"context"
	"errors"
	"net/netip"

	"github.com/dockyard-cni/dockyard/pkg/netns"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/state"
	"github.com/dockyard-cni/dockyard/pkg/zone"
)

// rules lead the container's queries to the server.
func (s *server) rules(capture bool) nft.Resolver {
	udp, tcp := s.ports()
	return nft.Resolver{NS: s.ns, Addr: netip.MustParseAddr(zone.Resolver), UDP: udp, TCP: tcp, Capture: capture}
}

// RulesScope finds the rules in a container that a daemon has left which is not
// there to take them away; alive says whether one is. They belong to the
// container's last attachment.
func RulesScope(s zone.Store, alive func() bool) state.Scope { return rulesScope{s, alive} }

type rulesScope struct {
	zone.Store
	alive func() bool
}

// Of implements state.Scope.
func (s rulesScope) Of(ctx context.Context, m owner.Mark) ([]state.Found, error) {
	record, err := s.Read(m)
	if err != nil || s.alive() {
		return nil, nil //nolint:nilerr // who has no record is not served
	}
	marks, err := s.MarksOf(m.Container())
	if err != nil || len(marks) > 1 {
		return nil, err
	}
	ns := netns.At(record.NetNS)
	if own, err := ns.Same(netns.Host()); err != nil || own {
		return nil, nil //nolint:nilerr // gone, and the rules with it
	}
	rules := nft.Resolver{NS: ns}
	if diff, err := rules.Observe(ctx); err != nil || diff == state.Absent {
		return nil, err
	}
	return []state.Found{{Mark: m, Resource: rules}}, nil
}

// All implements state.Scope.
func (s rulesScope) All(ctx context.Context) (out []state.Found, err error) {
	marks, err := s.Marks()
	for _, m := range marks {
		found, ofErr := s.Of(ctx, m)
		out, err = append(out, found...), errors.Join(err, ofErr)
	}
	return out, err
}
