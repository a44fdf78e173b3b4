// Package childlink attaches containers to a network of the host by child
// interfaces of one of its links: what the plugins macvlan and ipvlan have in
// common, which is nearly everything. A plugin embeds Config, adds the keys of its
// own, and sets the Driver.
package childlink

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/endpoint"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// Config is the wire configuration that the plugins share: the reference
// plugins' keys, then ours.
type Config struct {
	cni.Base
	Master          string `json:"master"`
	Mode            string `json:"mode"`
	MTU             int    `json:"mtu"`
	LinkInContainer bool   `json:"linkInContainer"`

	VLAN            int  `json:"vlan"`
	Internal        bool `json:"internal"`
	HostAccess      bool `json:"hostAccess"`
	GatewayPriority *int `json:"gatewayPriority"`
	Announce        bool `json:"announce"`
	DuplicateCheck  int  `json:"duplicateCheck"` // milliseconds
	AcceptRA        bool `json:"acceptRA"`

	// Driver is what kind of link is made. The plugin sets its Kind before
	// Validate, and what only its kind has.
	Driver link.Driver
	// Address is the hardware address asked for, if any.
	Address net.HardwareAddr
	// Chains: behind a plugin that makes a link of the host, that is the parent,
	// and its addresses are the container's.
	Chains bool

	parent string // the link named by Master, or the default for it
	down   string // what is lost as the parent is down, if it is
}

// Defaults returns a Config for links of that kind.
func Defaults(d link.Driver) Config {
	return Config{Mode: d.Mode, Announce: true, DuplicateCheck: 50, AcceptRA: true, Driver: d}
}

const maxDuplicateCheck = 10_000 // RFC 5227 is through after nine seconds

// Validate reports problems of the keys above.
func (c *Config) Validate(_ *cni.Request, rep *conf.Report) {
	if c.Master != "" {
		rep.LinkName("master", c.Master)
	}
	OneOf(rep, "mode", c.Mode, link.Modes(c.Driver.Kind))
	c.Driver.Mode, c.parent = c.Mode, c.Master
	rep.MTU("mtu", c.MTU, "that of the master")
	if c.GatewayPriority != nil {
		rep.Range("gatewayPriority", *c.GatewayPriority, -endpoint.MaxPriority, endpoint.MaxPriority)
	}
	rep.Range("duplicateCheck", c.DuplicateCheck, 0, maxDuplicateCheck)
	c.validateVLAN(rep)
	c.validateHostAccess(rep)
}

func (c *Config) validateVLAN(rep *conf.Report) {
	rep.Range("vlan", c.VLAN, 0, conf.MaxVLAN)
	if c.VLAN == 0 {
		return
	}
	if c.LinkInContainer {
		rep.Conflict("vlan, linkInContainer", "a VLAN is made of a link of the host only; name the VLAN's link in master")
	}
	if err := c.judgeName(); err != nil {
		rep.Conflict("master, vlan", "%v", err)
	}
	if c.dummy() {
		rep.Conflict("internal, vlan", "an internal network without a master has no line that could have VLANs; name a master, or take vlan out")
	}
}

func (c *Config) validateHostAccess(rep *conf.Report) {
	switch {
	case !c.HostAccess:
	case c.LinkInContainer:
		rep.Conflict("hostAccess, linkInContainer", "the host is not on a network whose master is in the container")
	case c.Driver.Kind == link.Macvlan && c.Mode != "bridge":
		rep.Conflict("hostAccess, mode", "links in mode %q hear nothing of others of their master, so not of the host; use \"bridge\"", c.Mode)
	case c.Driver.Flag != "" && c.Driver.Flag != "bridge":
		rep.Conflict("hostAccess, flag", "links with flag %q hear nothing of others of their master, so not of the host; use \"bridge\"", c.Driver.Flag)
	}
}

// OneOf reports a value that is not among those allowed.
func OneOf(rep *conf.Report, path, found string, allowed []string) {
	if slices.Contains(allowed, found) {
		return
	}
	rep.Bad(path, found, `"%s"`, strings.Join(allowed, `", "`))
}

// dummy reports whether the network is without a line of its own.
func (c *Config) dummy() bool { return c.Internal && c.Master == "" && !c.LinkInContainer }

// judgeName fails if the VLAN's link cannot be called as it should be.
func (c *Config) judgeName() error {
	if name := c.name(""); c.VLAN != 0 && len(name) > conf.MaxLinkName {
		return fmt.Errorf("the link of the VLAN would be called %q, which is longer than %d bytes; make it by hand under another name, and name that in master", name, conf.MaxLinkName)
	}
	return nil
}
