// Package overlay is the part that one host has in a network on many hosts: what
// a configuration says of it, and what the host holds for it. The plugin makes it
// for a container; where the hosts are known from etcd, the daemon keeps it.
package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/endpoint/bridgenet"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// Config is the wire configuration: the keys of networks on a bridge, and those of
// a network on many hosts. README.md says what each means.
type Config struct {
	bridgenet.Config
	Subnets   []netip.Prefix `json:"subnets"`
	VNI       int            `json:"vni"`
	Port      int            `json:"port"`
	Underlay  string         `json:"underlay"`
	Mode      string         `json:"mode"`
	Peers     peer.Snapshot  `json:"peers"`
	PeersFile string         `json:"peersFile"`
	Group     netip.Addr     `json:"group"`
	Blocks    []netip.Prefix `json:"blocks"`
	Etcd      *Etcd          `json:"etcd"`
	StateDir  string         `json:"stateDir"`
	// TxChecksum is a string, as "auto" is neither true nor false.
	TxChecksum string `json:"txChecksum"`

	underlay underlay      // of this host
	hosts    peer.Snapshot // all that are known, this one too
	problem  string        // what the daemon cannot do, if anything
	draining []netip.Prefix
	checking bool          // what a daemon keeps
	daemon   *control.Call // that keeps what it has claimed for this container
	fault    string        // why checksums are not left to the hardware, if that is so
}

// Etcd is where the hosts of a network meet, and how they share its subnets.
type Etcd struct {
	Endpoints     []string `json:"endpoints"`
	Prefix        string   `json:"prefix"`
	CA            string   `json:"ca"`
	Cert          string   `json:"cert"`
	Key           string   `json:"key"`
	Username      string   `json:"username"`
	PasswordFile  string   `json:"passwordFile"`
	BlockSizeIPv4 int      `json:"blockSizeIPv4"`
	BlockSizeIPv6 int      `json:"blockSizeIPv6"`
	LeaseTTL      int      `json:"leaseTTL"`     // seconds
	ReclaimAfter  int      `json:"reclaimAfter"` // seconds
}

const (
	routed = "routed" // between hosts; a link within each
	flat   = "l2"     // one link on all hosts

	auto, on, off = "auto", "on", "off"

	// DefaultStateDir is where the daemon leaves what it knows.
	DefaultStateDir = "/run/dockyard/overlay"

	maxVNI      = 1<<24 - 1
	defaultPort = 4789 // RFC 7348, 5
)

// New returns a configuration with its defaults.
func New() cni.Config {
	return &Config{
		Config: bridgenet.Config{ICC: true, Announce: true, GatewayMode: nft.NAT},
		Port:   defaultPort, Mode: routed, StateDir: DefaultStateDir, TxChecksum: auto,
	}
}

// device is the name of the host's VXLAN device.
func (c *Config) device() string { return fmt.Sprintf("vx%d", c.VNI) }

// Validate implements cni.Config.
func (c *Config) Validate(r *cni.Request, rep *conf.Report) {
	if c.Bridge == "" {
		c.Bridge = fmt.Sprintf("br-vx%d", c.VNI)
	}
	c.Layout = bridgenet.Layout{Gateway: true}
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
	if t := c.TxChecksum; t != auto && t != on && t != off {
		rep.Bad("txChecksum", t, `"auto", "on" or "off"`)
	}
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

func (c *Config) validateSubnets(rep *conf.Report) {
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
func (c *Config) validateControl(rep *conf.Report) {
	if c.Mode != routed && c.Mode != flat {
		rep.Bad("mode", c.Mode, `"routed", or "l2" for one broadcast domain`)
		c.Mode = routed
	}
	c.hosts = c.Peers
	c.Peers.Validate("peers", c.Subnets, rep)
	var from []string
	for _, s := range []struct {
		key  string
		says bool
	}{{"peers", c.Peers != nil}, {"peersFile", c.PeersFile != ""}, {"group", c.Group.IsValid()}, {"etcd", c.Etcd != nil}} {
		if s.says || rep.Undecoded(s.key) {
			from = append(from, s.key)
		}
	}
	switch len(from) {
	case 0:
		rep.Missing("peers", `the hosts of the network, [{"address": "192.0.2.1", "blocks": ["10.99.1.0/24"]}, …], or one of peersFile, group and etcd, from which they are known`)
	case 1:
	default:
		rep.Conflict(strings.Join(from, ", "), "the hosts are known from one of them; leave out the others")
	}
	if c.Group.IsValid() {
		c.validateGroup(rep)
	}
	if c.Etcd != nil {
		c.validateEtcd(rep)
	}
	for _, p := range []struct{ key, path string }{{"stateDir", c.StateDir}, {"peersFile", c.PeersFile}} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			rep.Bad(p.key, p.path, "an absolute path")
		}
	}
	c.validateBlocks("peers", rep)
}

// validateBlocks judges the blocks of this host where no list tells them.
func (c *Config) validateBlocks(path string, rep *conf.Report) {
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

func (c *Config) validateEtcd(rep *conf.Report) {
	e := c.Etcd
	if e.Prefix == "" {
		e.Prefix = "/dockyard/overlay"
	}
	if c.Mode != routed {
		rep.Conflict("etcd, mode", `hosts that share the subnets by blocks are routed; leave out mode, or etcd`)
	}
	if c.Blocks != nil {
		rep.Conflict("etcd, blocks", "this host gets its blocks by etcd; leave them out")
	}
	e.validateAccess(rep)
	rep.Range("etcd.leaseTTL", e.LeaseTTL, 0, 3600)
	if e.ReclaimAfter != 0 && e.ReclaimAfter < e.LeaseTTL {
		rep.Conflict("etcd.reclaimAfter, etcd.leaseTTL", "found %d and %d, want the first not below the second", e.ReclaimAfter, e.LeaseTTL)
	}
	for _, s := range c.Subnets {
		c.validateBlockSize(s, rep)
	}
}

// validateAccess judges how etcd is to be reached.
func (e *Etcd) validateAccess(rep *conf.Report) {
	if len(e.Endpoints) == 0 && !rep.Undecoded("etcd.endpoints") {
		rep.Missing("etcd.endpoints", `at least one URL such as "https://192.0.2.1:2379"`)
	}
	for i, text := range e.Endpoints {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			rep.Bad(conf.Index("etcd.endpoints", i), text, `a URL such as "https://192.0.2.1:2379"`)
		}
	}
	if plain, secure := e.schemes(); plain && secure {
		rep.Conflict("etcd.endpoints", "found http and https, want one of them for all: what is said to one endpoint in the clear need not be encrypted to another, and whoever answers there is believed")
	} else if plain && cmp.Or(e.CA, e.Cert, e.Key) != "" {
		rep.Conflict("etcd.endpoints, etcd.ca, etcd.cert, etcd.key", "found http, want https for all endpoints, or no certificates: they are not used with http")
	}
	if (e.Cert == "") != (e.Key == "") {
		rep.Conflict("etcd.cert, etcd.key", "want both, or neither")
	}
	if (e.Username == "") != (e.PasswordFile == "") {
		rep.Conflict("etcd.username, etcd.passwordFile", "want both, or neither")
	}
}

// schemes reports whether there are endpoints without TLS, and with it.
func (e *Etcd) schemes() (plain, secure bool) {
	for _, text := range e.Endpoints {
		scheme, _, _ := strings.Cut(strings.ToLower(text), ":")
		plain, secure = plain || scheme == "http", secure || scheme == "https"
	}
	return plain, secure
}

// validateBlockSize judges the length of a block's prefix against its subnet's.
func (c *Config) validateBlockSize(s netip.Prefix, rep *conf.Report) {
	if !s.IsValid() {
		return
	}
	const smallest = 3 // bits: gateway and containers
	path, size := "etcd.blockSizeIPv4", c.Etcd.BlockSizeIPv4
	if s.Addr().Is6() {
		path, size = "etcd.blockSizeIPv6", c.Etcd.BlockSizeIPv6
	}
	if most := s.Addr().BitLen() - smallest; size != 0 && (size < s.Bits() || size > most) {
		rep.Bad(path, size, "%d to %d, the length of a prefix within the subnet %s", s.Bits(), most, s)
	}
}

// blockSize is the length of the prefix of the blocks of a subnet.
func (c *Config) blockSize(s netip.Prefix) int {
	size, usual := c.Etcd.BlockSizeIPv4, 24
	if s.Addr().Is6() {
		size, usual = c.Etcd.BlockSizeIPv6, 64
	}
	if size == 0 {
		size = min(max(usual, s.Bits()), s.Addr().BitLen()-8)
		size = max(size, s.Bits())
	}
	return size
}

func (c *Config) validateGroup(rep *conf.Report) {
	if !c.Group.IsMulticast() || c.Group.Is4In6() {
		rep.Bad("group", c.Group, `a multicast address such as "239.1.1.1" or "ff05::100"`)
	}
	if c.Mode == routed {
		rep.Conflict("group, mode", `a group tells no routes, so the network is one link; set "mode": "l2"`)
	}
}

// validateUnderlay judges what can be judged of it without looking at the host.
func (c *Config) validateUnderlay(rep *conf.Report) {
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
	if len(c.hosts) > 0 && c.hosts[0].Address.IsValid() && c.hosts[0].Address.Is4() != a.Is4() {
		rep.Conflict("underlay, peers", "found %s and %s, want addresses of one family", a, c.hosts[0].Address)
		return
	}
	c.underlay.addr = a
}

func validName(s string) bool {
	var one conf.Report
	one.LinkName("", s)
	return one.Err() == nil
}
