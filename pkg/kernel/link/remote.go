package link

import (
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// remote finds the link of a mark in a namespace of that number: by its name, by
// that which it was born with, and, as somebody in the container may have renamed
// it, by its alias; nil where there is none, or no namespace. Another link of the
// same name has another alias.
func remote(id int, m owner.Mark) (netlink.Link, error) {
	for _, name := range []string{m.IfName(), m.Link(temporary), ""} {
		links, err := netns.Dump(func() ([]netlink.Link, error) { return lookup(id, name) })
		if err != nil && !Gone(err) {
			return nil, ignoreErrno(err, unix.EINVAL)
		}
		for _, l := range links {
			if a := l.Attrs(); a.Alias == string(m) || a.Alias == "" && a.Name == m.Link(temporary) {
				return l, nil
			}
		}
	}
	return nil, nil
}

// lookup finds a link by its name in a namespace of that number, or all links;
// EINVAL is the answer if no namespace has it, ENODEV if it has no such link.
func lookup(id int, name string) ([]netlink.Link, error) {
	flags := 0
	if name == "" {
		flags = unix.NLM_F_DUMP
	}
	req := request(unix.RTM_GETLINK, flags, id)
	if name != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	replies, err := req.Execute(unix.NETLINK_ROUTE, 0)
	var links []netlink.Link
	for _, reply := range replies {
		l, failed := netlink.LinkDeserialize(nil, reply)
		if failed != nil {
			return nil, failed
		}
		links = append(links, l)
	}
	return links, err
}

func ignoreErrno(err error, errno unix.Errno) error {
	if errors.Is(err, errno) {
		return nil
	}
	return err
}

// request is an rtnetlink message about links of a namespace that the host
// knows by number: nobody needs to have its path any more.
func request(kind, flags, id int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(uint32(id))))
	return req
}
