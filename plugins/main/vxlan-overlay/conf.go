package main

import (
	"fmt"
	"net/netip"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/peer"
	"github.com/dockyard-cni/dockyard/pkg/segment"
)

// config is the wire configuration: the keys of networks on a bridge, and those of
// a network on many hosts. README.md says what each means.
type config struct {
	segment.Config
	Subnets   []netip.Prefix `json:"subnets"`
	VNI       int            `json:"vni"`
	Port      int            `json:"port"`
	Underlay  string         `json:"underlay"`
	Mode      string         `json:"mode"`
	Peers     peer.Snapshot  `json:"peers"`
	PeersFile string         `json:"peersFile"`
	Group     netip.Addr     `json:"group"`
	Blocks    []netip.Prefix `json:"blocks"`

	underlay underlay      // of this host
	hosts    peer.Snapshot // all that are known, this one too
}

const (
	routed = "routed" // between hosts; a link within each
	flat   = "l2"     // one link on all hosts

	maxVNI      = 1<<24 - 1
	defaultPort = 4789 // RFC 7348, 5
)

func newConfig() cni.Config {
	return &config{
		Config: segment.Config{ICC: true, Announce: true, GatewayMode: nft.NAT},
		Port:   defaultPort, Mode: routed,
	}
}

// device is the name of the host's VXLAN device.
func (c *config) device() string { return fmt.Sprintf("vx%d", c.VNI) }

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	if c.Bridge == "" {
		c.Bridge = fmt.Sprintf("br-vx%d", c.VNI)
	}
	c.Layout = segment.Layout{Gateway: true}
	if c.Mode == routed {
		c.Layout.Kin = []string{c.device()}
	}
	if c.VNI < 1 || c.VNI > maxVNI {
		rep.Bad("vni", c.VNI, "1 to %d, the same on all hosts and another than any other network's", maxVNI)
		c.VNI = 1
	} else {
		c.Config.Validate(rep, "that of the underlay less what VXLAN adds")
	}
	rep.Range("port", c.Port, 1, 65535)
	c.validateSubnets(rep)
	c.validateControl(rep)
	c.validateUnderlay(rep)
	c.ValidatePolicy(rep)
	for _, ipv6 := range []bool{false, true} {
		if c.Mode == routed && c.Config.Mode(ipv6) == nft.Isolated {
			rep.Conflict("mode, gatewayMode", "the host is the gateway between the hosts' parts of a routed network, so it cannot be isolated; set \"mode\": \"l2\", or leave out gatewayMode")
			break
		}
	}
	c.ValidateRequest(r, rep)
}

func (c *config) validateSubnets(rep *conf.Report) {
	if len(c.Subnets) == 0 && !rep.Undecoded("subnets") {
		rep.Missing("subnets", `the subnets of the whole network, such as ["10.99.0.0/16", "fd00:99::/48"]`)
	}
	for i, s := range c.Subnets {
		path := conf.Index("subnets", i)
		if !s.IsValid() {
			continue
		}
		if s != s.Masked() {
			rep.Bad(path, s, "%s: the bits after the prefix must be 0", s.Masked())
		}
		for _, o := range c.Subnets[:i] {
			if o.IsValid() && o.Addr().Is4() == s.Addr().Is4() {
				rep.Conflict("subnets, "+path, "found %s and %s, want one of IPv4, one of IPv6, or one of each", o, s)
			}
		}
	}
}

// validateControl judges where the hosts are known from.
func (c *config) validateControl(rep *conf.Report) {
	if c.Mode != routed && c.Mode != flat {
		rep.Bad("mode", c.Mode, `"routed", or "l2" for one broadcast domain`)
		c.Mode = routed
	}
	static := c.Peers != nil || c.PeersFile != ""
	switch {
	case c.Group.IsValid() && static:
		rep.Conflict("group, peers, peersFile", "hosts are known from a list, or found by multicast; leave one out")
	case c.Group.IsValid():
		c.validateGroup(rep)
	case c.Peers != nil && c.PeersFile != "":
		rep.Conflict("peers, peersFile", "the hosts stand in one place; leave one out")
	case !static && !rep.Undecoded("peers") && !rep.Undecoded("group"):
		rep.Missing("peers", `the hosts of the network, [{"address": "192.0.2.1", "blocks": ["10.99.1.0/24"]}, …], or peersFile, or group`)
	}
	c.hosts = c.Peers
	path := "peers"
	if c.PeersFile != "" && !static {
		return
	}
	if c.PeersFile != "" {
		path = "peersFile: peers"
		c.readPeers(rep)
	}
	c.hosts.Validate(path, c.Subnets, rep)
	c.validateBlocks(path, rep)
}

func (c *config) readPeers(rep *conf.Report) {
	var inFile conf.Report
	hosts, err := peer.ReadFile(c.PeersFile, &inFile)
	if err != nil {
		rep.Bad("peersFile", c.PeersFile, `a file {"peers": [...]} (%v)`, err)
	}
	for _, p := range inFile.Problems() {
		rep.Conflict("peersFile", "%s: %s", c.PeersFile, p)
	}
	c.hosts = hosts
}

// validateBlocks judges the blocks of this host where no list tells them.
func (c *config) validateBlocks(path string, rep *conf.Report) {
	for i, b := range c.Blocks {
		at := conf.Index("blocks", i)
		if !peer.ValidateBlock(at, b, c.Subnets, rep) {
			continue
		}
		for _, h := range c.hosts {
			for _, o := range h.Blocks {
				if o.Overlaps(b) && h.Address.String() != c.Underlay {
					rep.Conflict(at+", "+path, "%s overlaps %s of host %s; an address has one host", b, o, h.Address)
				}
			}
		}
		for _, o := range c.Blocks[:i] {
			if o.Overlaps(b) {
				rep.Conflict("blocks, "+at, "%s and %s overlap", o, b)
			}
		}
	}
	if c.Group.IsValid() && len(c.Blocks) == 0 && !rep.Undecoded("blocks") {
		rep.Missing("blocks", `this host's part of the subnets, such as ["10.99.1.0/24"], as nobody else tells the hosts apart`)
	}
}

func (c *config) validateGroup(rep *conf.Report) {
	if !c.Group.IsMulticast() || c.Group.Is4In6() {
		rep.Bad("group", c.Group, `a multicast address such as "239.1.1.1" or "ff05::100"`)
	}
	if c.Mode == routed {
		rep.Conflict("group, mode", `a group tells no routes, so the network is one link; set "mode": "l2"`)
	}
}

// validateUnderlay judges what can be judged of it without looking at the host.
func (c *config) validateUnderlay(rep *conf.Report) {
	a, err := netip.ParseAddr(c.Underlay)
	if c.Underlay == "" {
		return
	}
	if err != nil {
		if !validName(c.Underlay) {
			rep.Bad("underlay", c.Underlay, "an address of this host, or the name of a link")
		}
		return
	}
	for _, h := range c.hosts {
		if h.Address.IsValid() && h.Address.Is4() != a.Is4() {
			rep.Conflict("underlay, peers", "found %s and %s, want addresses of one family", a, h.Address)
			return
		}
	}
	c.underlay.addr = a
}

func validName(s string) bool {
	var one conf.Report
	one.LinkName("", s)
	return one.Err() == nil
}
