package overlay

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/kernel/route"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// An underlay is this host's end of the tunnels.
type underlay struct {
	addr netip.Addr
	link string // that has the address; "" until it was looked for
	mtu  int    // of that link
}

// What VXLAN adds to a packet: an Ethernet, an IPv4 or IPv6, a UDP and a VXLAN
// header (RFC 7348, 5).
const (
	overheadV4 = 14 + 20 + 8 + 8
	overheadV6 = 14 + 40 + 8 + 8
)

// innerMTU is the MTU that the underlay leaves to the network.
func (u underlay) innerMTU() int {
	if u.addr.Is4() {
		return u.mtu - overheadV4
	}
	return u.mtu - overheadV6
}

// locate finds this host in the underlay.
func (c *Config) locate() error {
	if c.underlay.link != "" {
		return nil
	}
	if err := c.readHosts(); err != nil {
		return err
	}
	return c.locateSelf()
}

// locateSelf is locate for who knows the hosts.
func (c *Config) locateSelf() error {
	a, err := c.localAddress()
	if err != nil {
		return err
	}
	c.underlay.addr = a
	if c.underlay.link, c.underlay.mtu, err = route.Local(a); err != nil {
		return err
	}
	if c.underlay.link == "" {
		return cni.Errorf(cni.CodeConfig, "underlay: found %q, want an address of this host%s", c.Underlay, c.ourPeers())
	}
	return nil
}

// readHosts reads the hosts that the configuration does not have itself.
func (c *Config) readHosts() error {
	switch {
	case c.PeersFile != "":
		hosts, err := c.readPeers()
		if err != nil {
			return cni.Errorf(cni.CodeConfig, "peersFile: %w", err)
		}
		c.hosts = hosts
	case c.Etcd != nil:
		return c.readState()
	}
	return nil
}

func (c *Config) localAddress() (a netip.Addr, err error) {
	switch {
	case c.underlay.addr.IsValid():
		return c.underlay.addr, nil
	case c.Underlay != "":
		if a, err = route.AddrOf(c.Underlay); err == nil && !a.IsValid() {
			err = errors.New("it has no address")
		}
		if err != nil {
			err = cni.Errorf(cni.CodeConfig, "underlay: found %q, want a link with an address of this host: %w", c.Underlay, err)
		}
		return a, err
	case c.Etcd != nil:
		return c.sourceOf(netip.MustParseAddr("192.0.2.1"), "to the outside") // for documentation, RFC 5737
	case c.Group.IsValid():
		return c.sourceOf(c.Group, "to group "+c.Group.String())
	}
	return c.localPeer()
}

// sourceOf is the address with which the host sends there.
func (c *Config) sourceOf(dst netip.Addr, where string) (netip.Addr, error) {
	a, err := route.Source(dst)
	if err == nil && !a.IsValid() {
		err = cni.Errorf(cni.CodeConfig, "underlay: missing, want an address of this host, as it has no route %s", where)
	}
	return a, err
}

// localPeer finds the host in the list that is this one. It is the one with whose
// address this one would send to another of them, but where hosts have several.
func (c *Config) localPeer() (netip.Addr, error) {
	if len(c.hosts) > 0 {
		a, err := route.Source(c.hosts[0].Address)
		if _, listed := c.hosts.Find(a); err != nil || listed {
			return a, err
		}
	}
	for _, h := range c.hosts {
		link, _, err := route.Local(h.Address)
		if err != nil || link != "" {
			return h.Address, err
		}
	}
	return netip.Addr{}, cni.Errorf(cni.CodeConfig, "underlay: missing, and none of peers %v has an address of this host; add this host to them, or name its address and its blocks", c.hosts.Addresses())
}

// ourPeers hints at what may have been meant.
func (c *Config) ourPeers() string {
	for _, h := range c.hosts {
		if link, _, err := route.Local(h.Address); err == nil && link != "" {
			return fmt.Sprintf(" such as %q", h.Address)
		}
	}
	return ""
}

// self is this host, with the blocks that the list or its own configuration names.
func (c *Config) self() peer.Host {
	h, _ := c.hosts.Find(c.underlay.addr)
	if len(h.Blocks) == 0 {
		h.Blocks = c.Blocks
	}
	return h
}
