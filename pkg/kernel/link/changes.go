package link

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// Changes returns a channel that receives whenever something about one of these
// links of the host changes, or about the routes and neighbours by them, or about
// routes that are by no link. Several changes may come as one; where there were so
// many that the kernel left some out, it receives as well. It ends with ctx; an
// end before is an error of the kernel's messages, and closes the channel.
func Changes(ctx context.Context, names ...string) (<-chan struct{}, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("changes of links: %w", err)
	}
	f := filter{}
	for _, name := range names {
		if _, l, err := Find(netns.Host(), name); err != nil {
			s.Close()
			return nil, err
		} else if f[name] = 0; l != nil {
			f[name] = int32(l.Attrs().Index)
		}
	}
	context.AfterFunc(ctx, s.Close)
	out := make(chan struct{}, 1)
	go func() {
		defer close(out)
		for {
			messages, _, err := s.Receive()
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				s.Close()
				return
			}
			if err != nil || f.about(messages) {
				select {
				case out <- struct{}{}:
				default: // it has one to take already
				}
			}
		}
	}()
	return out, nil
}

// A filter has the index of each link by its name, 0 for one that is not there.
// Messages are looked at one by one, thousands at a time, so nothing is asked.
type filter map[string]int32

func (f filter) about(messages []syscall.NetlinkMessage) (about bool) {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			about = f.link(m) || about
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			about = about || len(m.Data) >= unix.SizeofNdMsg && f.has(int32(nl.NativeEndian().Uint32(m.Data[4:])))
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			about = about || f.route(m.Data)
		}
	}
	return about
}

func (f filter) has(index int32) bool {
	for _, i := range f {
		if i == index && i != 0 {
			return true
		}
	}
	return false
}

// link takes note of links that come, go, and change their names.
func (f filter) link(m syscall.NetlinkMessage) bool {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return false
	}
	index, name := nl.DeserializeIfInfomsg(m.Data).Index, ""
	attrs, _ := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_IFNAME {
			name = strings.TrimRight(string(a.Value), "\x00")
		}
	}
	about := f.has(index)
	for n, i := range f {
		if i == index {
			f[n] = 0
		}
	}
	if _, ours := f[name]; ours {
		if about = true; m.Header.Type == unix.RTM_NEWLINK {
			f[name] = index
		}
	}
	return about
}

func (f filter) route(data []byte) bool {
	if len(data) < unix.SizeofRtMsg {
		return false
	}
	attrs, _ := nl.ParseRouteAttr(data[unix.SizeofRtMsg:])
	for _, a := range attrs {
		if a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4 {
			return f.has(int32(nl.NativeEndian().Uint32(a.Value)))
		}
	}
	return true // it is by none, or by several
}
