package dad

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// An Announce tells the neighbours of a container's link who has its addresses
// now, so that they forget who had them before: by gratuitous ARP (RFC 5227, 3)
// and unsolicited neighbour advertisement (RFC 4861, 7.2.6). It leaves nothing
// to observe.
//
// The kernel sends them itself for a link whose arp_notify and ndisc_notify are
// set, when its hardware address is set, here to what it is already. A packet
// socket could send the same, but closing one waits for a grace period of RCU
// (packet_release), which is longer than all the rest of ADD.
type Announce struct {
	NS   *netns.NS
	Link string
	// Port is the bridge port towards the link, if there is one: until it has a
	// carrier it forwards nothing.
	Port string
	// ARP are the IPv4 addresses of a link that has its hardware address from
	// its parent, so that it cannot be set: the plugin sends for them itself. For
	// its IPv6 addresses the kernel does, when they are added.
	ARP []netip.Addr
}

// Key implements engine.Resource.
func (a Announce) Key() string { return fmt.Sprintf("announce %s%s", a.NS, a.Link) }

func (a Announce) String() string {
	if len(a.ARP) > 0 {
		var commands []string
		for _, addr := range a.ARP {
			commands = append(commands, fmt.Sprintf("arping -U -c 1 -I %s %s", a.Link, addr))
		}
		return "nsenter --net=" + a.NS.Path() + " " + strings.Join(commands, " ; ")
	}
	return fmt.Sprintf("ip %slink set %s address $(ip %slink show %s) # arp_notify, ndisc_notify", a.NS, a.Link, a.NS, a.Link)
}

// Observe implements engine.Resource.
func (a Announce) Observe(context.Context) (engine.Diff, error) { return engine.Same, nil }

// Apply implements engine.Resource.
func (a Announce) Apply(ctx context.Context) error {
	if len(a.ARP) > 0 {
		return a.send()
	}
	if a.Port != "" {
		if err := awaitCarrier(ctx, a.Port, netns.KernelLimit); err != nil {
			return err
		}
	}
	h, l, err := link.MustFind(a.NS, a.Link)
	if err != nil {
		return err
	}
	return h.LinkSetHardwareAddr(l, l.Attrs().HardwareAddr)
}

func (a Announce) send() error {
	lines, err := openLines(a.NS, a.Link, arp)
	if err != nil {
		return err
	}
	for _, addr := range a.ARP {
		if err := lines[0].send(arpRequestFor(lines[0].mac, addr, addr)); err != nil && !errors.Is(err, unix.ENETDOWN) {
			return fmt.Errorf("announce %s: %w", addr, err)
		}
	}
	return nil
}

// Remove implements engine.Resource.
func (a Announce) Remove(context.Context) error { return nil }

// awaitCarrier returns when the kernel says that a link of the host is
// operational. The container's end is up by now, so this is a matter of the
// kernel's own work queue, or of nothing at all: since Linux 6.8 asking for a
// link first brings its state up to date.
func awaitCarrier(ctx context.Context, name string, limit time.Duration) error {
	_, l, err := link.MustFind(netns.Host(), name)
	if err != nil || operational(l) {
		return err
	}
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	defer close(done)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("link %s has no carrier after %v", name, limit))
	defer cancel()
	if err = netlink.LinkSubscribe(updates, done); err != nil {
		return err
	}
	for _, l, err = link.MustFind(netns.Host(), name); err == nil && !operational(l); {
		select {
		case u, ok := <-updates:
			if !ok {
				return fmt.Errorf("link %s: events ended", name)
			}
			if u.Attrs().Index == l.Attrs().Index {
				l = u.Link
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return err
}

func operational(l netlink.Link) bool { return l.Attrs().OperState == netlink.OperUp }
