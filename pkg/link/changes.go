package link

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/netns"
)

// Changes returns a channel that receives whenever something about one of these
// links of the host changes, or about the routes and neighbours by them, or about
// routes that refuse, which are by no link. Several changes may come as one. It ends with ctx; an end before is an error of the
// kernel's messages, and closes the channel.
func Changes(ctx context.Context, names ...string) (<-chan struct{}, error) {
	links, routes, neighbours := make(chan netlink.LinkUpdate, 64), make(chan netlink.RouteUpdate, 64), make(chan netlink.NeighUpdate, 64)
	for _, subscribe := range []func() error{
		func() error { return netlink.LinkSubscribe(links, ctx.Done()) },
		func() error { return netlink.RouteSubscribe(routes, ctx.Done()) },
		func() error { return netlink.NeighSubscribe(neighbours, ctx.Done()) },
	} {
		if err := subscribe(); err != nil {
			return nil, fmt.Errorf("changes of links: %w", err)
		}
	}
	ours := map[string]bool{}
	for _, name := range names {
		ours[name] = true
	}
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		for {
			about, ok := false, true
			select {
			case u, open := <-links:
				if ok = open; open {
					about = ours[u.Attrs().Name]
				}
			case u, open := <-routes:
				about, ok = u.Type == unix.RTN_UNREACHABLE || isOne(u.LinkIndex, names), open
			case u, open := <-neighbours:
				about, ok = isOne(u.LinkIndex, names), open
			}
			if !ok {
				return
			}
			if about {
				select {
				case out <- struct{}{}:
				default: // it has one to take already
				}
			}
		}
	}()
	return out, nil
}

func isOne(index int, names []string) bool {
	for _, name := range names {
		if _, l, err := find(netns.Host(), name); err == nil && l != nil && l.Attrs().Index == index {
			return true
		}
	}
	return false
}
