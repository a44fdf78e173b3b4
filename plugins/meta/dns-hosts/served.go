package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A served has the daemon open its sockets in the container before the plugin ends,
// so that the first query is not refused. It is asked before anything else is done,
// works while the plugin does, and is waited for when the result is out. Without a
// daemon, or with one that is busy, there is nothing to do: it finds the container by
// itself.
type served struct {
	socket  string // the daemon's
	mark    owner.Mark
	netns   string
	capture bool
	last    func(func()) // has something done before the plugin ends
}

// enough is how long ADD waits for the daemon.
const enough = 100 * time.Millisecond

// request is for the daemon: whom to serve, with or without capture, and where.
func (s served) request() string {
	return fmt.Sprintf("serve %s %t %s", s.mark, s.capture, s.netns)
}

// Key implements engine.Resource.
func (s served) Key() string { return "resolver of " + string(s.mark) }

func (s served) String() string { return fmt.Sprintf("echo %s | nc -U %s", s.request(), s.socket) }

// Observe implements engine.Resource. CHECK does not ask for a daemon, which may
// be away for a moment.
func (s served) Observe(context.Context) (engine.Diff, error) { return engine.Same, nil }

// Apply implements engine.Resource.
func (s served) Apply(context.Context) error {
	if call, err := control.Begin(s.socket, s.request(), enough); err == nil {
		s.last(func() {
			_, _ = call.Line()
			call.End()
		})
	}
	return nil
}

// Remove implements engine.Resource: the daemon finds out by itself.
func (s served) Remove(context.Context) error { return nil }
