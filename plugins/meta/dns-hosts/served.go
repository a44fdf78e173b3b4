package main

import (
	"context"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/desk"
	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/state"
	"github.com/dockyard-cni/dockyard/pkg/zone"
)

// served has the daemon open its sockets in the container before ADD returns, so
// that the first query is not refused. Without a daemon, or with one that is
// busy, there is nothing to do: it finds the container by itself.
type served struct {
	store zone.Store
	mark  owner.Mark
	call  *desk.Call
}

// begin asks the daemon, which needs no more than the record.
func (s *served) begin() {
	s.call, _ = desk.Begin(s.store.Desk(), "serve "+string(s.mark), enough)
}

// enough is how long ADD waits for the daemon.
const enough = 100 * time.Millisecond

// Key implements state.Resource.
func (s *served) Key() string { return "resolver of " + string(s.mark) }

func (s *served) String() string {
	return "echo serve " + string(s.mark) + " | nc -U " + s.store.Desk()
}

// Observe implements state.Resource. CHECK does not ask for a daemon, which may
// be away for a moment.
func (s *served) Observe(context.Context) (state.Diff, error) { return state.Same, nil }

// Apply implements state.Resource.
func (s *served) Apply(context.Context) error {
	if s.call != nil {
		_, _ = s.call.Answer()
	}
	return nil
}

// Remove implements state.Resource: the daemon finds out by itself.
func (s *served) Remove(context.Context) error { return nil }
