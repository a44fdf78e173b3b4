// Package dad is duplicate address detection as resources: a container's addresses
// are asked for before it has them, and announced when it has (RFC 5227, RFC 4862).
package dad

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A Probe asks, before a container gets its addresses, whether another machine of
// its network has one of them, or this host: by ARP (RFC 5227, 2.1) and by
// neighbor solicitation (RFC 4862, 5.4.2), both in the same wait. The RFCs ask up
// to three times in up to nine seconds, or once in up to two; this asks once, and
// waits for as long as the user chose. It leaves nothing to observe. The error
// of an address that is taken wraps engine.ErrDuplicate.
type Probe struct {
	NS    *netns.NS
	Link  string // through which to ask
	Addrs []netip.Addr
	Wait  time.Duration
}

// Key implements engine.Resource.
func (p Probe) Key() string { return fmt.Sprintf("probe %s%s", p.NS, p.Link) }

func (p Probe) String() string {
	var commands []string
	for _, a := range p.Addrs {
		command := fmt.Sprintf("arping -D -c 1 -w %g -I %s %s", p.Wait.Seconds(), p.Link, a)
		if a.Is6() {
			command = fmt.Sprintf("ndisc6 -1 -r 1 -w %d %s %s", p.Wait.Milliseconds(), a, p.Link)
		}
		commands = append(commands, command)
	}
	if path := p.NS.Path(); path != "" {
		return "nsenter --net=" + path + " " + strings.Join(commands, " ; ")
	}
	return strings.Join(commands, " ; ")
}

// Observe implements engine.Resource.
func (p Probe) Observe(context.Context) (engine.Diff, error) { return engine.Same, nil }

// Apply implements engine.Resource.
func (p Probe) Apply(ctx context.Context) error {
	if err := p.askHost(); err != nil {
		return err
	}
	lines, err := openLines(p.NS, p.Link, p.protocols()...)
	if err != nil {
		return err
	}
	for _, l := range lines {
		for _, a := range p.Addrs {
			if a.Is6() != l.is6 {
				continue
			}
			if err = l.send(l.question(l.mac, a)); errors.Is(err, unix.ENETDOWN) {
				return nil // there is nobody to ask by a link that is down
			} else if err != nil {
				return fmt.Errorf("probe %s: %w", a, err)
			}
		}
	}
	by, err := listen(ctx, lines, p.Wait, func(c claim) bool { return slices.Contains(p.Addrs, c.addr) })
	if err == nil && by != nil {
		err = fmt.Errorf("address %s %w by a machine whose hardware address is %s", by.addr, engine.ErrDuplicate, by.mac)
	}
	return err
}

func (p Probe) protocols() (needed []protocol) {
	for _, proto := range []protocol{arp, ndp} {
		if slices.ContainsFunc(p.Addrs, func(a netip.Addr) bool { return a.Is6() == proto.is6 }) {
			needed = append(needed, proto)
		}
	}
	return needed
}

// askHost: the host does not hear what is said on links that stand on its own.
func (p Probe) askHost() error {
	h, err := netns.Host().Netlink()
	if err != nil {
		return err
	}
	for _, a := range p.Addrs {
		routes, err := h.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return fmt.Errorf("address %s %w by this host", a, engine.ErrDuplicate)
		}
	}
	return nil
}

// Remove has nothing to do.
func (p Probe) Remove(context.Context) error { return nil }
