package main

import (
	"context"
	"errors"

	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// rules finds what leads a container's queries to the daemon's sockets, where a
// daemon has left it that is not there to take it away. It belongs to the
// container's last attachment.
type rules struct{ zone.Store }

// Of implements engine.Scope.
func (s rules) Of(_ context.Context, m owner.Mark) ([]engine.Found, error) {
	record, err := s.Read(m)
	if err != nil || control.Probe(s.Socket()) == nil {
		return nil, nil //nolint:nilerr // who has no record is not served
	}
	marks, err := s.MarksOf(m.Container())
	if err != nil || len(marks) > 1 {
		return nil, err
	}
	ns := netns.At(record.NetNS)
	inode, err := ns.Inode()
	if own, ownErr := ns.Same(netns.Host()); errors.Join(err, ownErr) != nil || own || !record.In(inode) {
		return nil, nil //nolint:nilerr // gone, and the rules with it
	}
	r := nft.Resolver{NS: ns}
	if there, err := r.Exists(); err != nil || !there {
		return nil, err
	}
	return []engine.Found{{Mark: m, Resource: r}}, nil
}

// All implements engine.Scope.
func (s rules) All(ctx context.Context) (out []engine.Found, err error) {
	marks, err := s.Marks()
	for _, m := range marks {
		found, ofErr := s.Of(ctx, m)
		out, err = append(out, found...), errors.Join(err, ofErr)
	}
	return out, err
}
