package link

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A Driver is how a sub-interface shares its parent's line: by hardware address
// (macvlan) or by IP address (ipvlan).
type Driver struct {
	Kind       string             // Macvlan or Ipvlan
	Mode       string             // one of Modes
	Flag       string             // ipvlan: one of Flags
	BCQueueLen uint32             // macvlan: broadcast queue of the parent, 0 for the kernel's default
	Sources    []net.HardwareAddr // macvlan in mode source: whose frames it gets
}

// The kinds of Driver, as the kernel calls them.
const (
	Macvlan = "macvlan"
	Ipvlan  = "ipvlan"
)

// Passthru is the mode of macvlan that has its parent to itself.
const Passthru = "passthru"

var (
	macvlanModes = map[string]netlink.MacvlanMode{
		"bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA,
		Passthru: netlink.MACVLAN_MODE_PASSTHRU, "source": netlink.MACVLAN_MODE_SOURCE,
	}
	ipvlanModes = map[string]netlink.IPVlanMode{
		"l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
	}
	ipvlanFlags = map[string]netlink.IPVlanFlag{
		"bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA,
	}
)

// Modes returns the modes of a kind, sorted.
func Modes(kind string) []string {
	if kind == Ipvlan {
		return slices.Sorted(maps.Keys(ipvlanModes))
	}
	return slices.Sorted(maps.Keys(macvlanModes))
}

// Flags returns the flags of ipvlan, sorted.
func Flags() []string { return slices.Sorted(maps.Keys(ipvlanFlags)) }

// String is what ip(8) takes after "type".
func (d Driver) String() string {
	s := d.Kind + " mode " + d.Mode
	if d.Flag != "" {
		s += " " + d.Flag
	}
	if d.BCQueueLen > 0 {
		s += fmt.Sprintf(" bcqueuelen %d", d.BCQueueLen)
	}
	if len(d.Sources) > 0 {
		s += " macaddr set"
	}
	for _, mac := range d.Sources {
		s += " " + mac.String()
	}
	return s
}

// Layer3 reports whether packets go by IP address alone: there is no ARP and no
// broadcast.
func (d Driver) Layer3() bool { return d.Kind == Ipvlan && d.Mode != "l2" }

// Echoes reports whether a link hears what it sent itself where a switch sends
// frames back (hairpin): in other modes the kernel keeps them from it
// (macvlan_multicast_rx), and of ipvlan it sends nothing before it has looked.
func (d Driver) Echoes() bool {
	return d.Kind == Macvlan && d.Mode != "bridge" && d.Mode != "vepa"
}

// sharing is what all who share a parent must have in common. The kernel keeps
// mode and flag of ipvlan per parent: the last one that is made would change
// them for all.
func (d Driver) sharing() string {
	switch {
	case d.Kind == Ipvlan:
		return d.Kind + " mode " + d.Mode + " " + d.Flag
	case d.Mode == Passthru:
		return d.Kind + " mode " + d.Mode
	}
	return d.Kind
}

// exclusive reports whether a parent shared this way has no room for another.
func exclusive(sharing string) bool { return strings.HasSuffix(sharing, Passthru) }

func (d Driver) link(attrs netlink.LinkAttrs) netlink.Link {
	if d.Kind == Ipvlan {
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: ipvlanModes[d.Mode], Flag: ipvlanFlags[d.Flag]}
	}
	return &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[d.Mode], BCQueueLen: d.BCQueueLen}
}

// compare says how a link differs in what the driver sets.
func (d Driver) compare(l netlink.Link) engine.Diff {
	switch l := l.(type) {
	case *netlink.IPVlan:
		return engine.First(engine.Differ("type", l.Type(), d.Kind),
			engine.Differ("mode", nameOf(ipvlanModes, l.Mode), d.Mode),
			engine.Differ("flag", nameOf(ipvlanFlags, l.Flag), d.Flag))
	case *netlink.Macvlan:
		return engine.First(engine.Differ("type", l.Type(), d.Kind),
			engine.Differ("mode", nameOf(macvlanModes, l.Mode), d.Mode),
			engine.Differ("sources", list(l.MACAddrs), list(d.Sources)))
	}
	return engine.Differ("type", l.Type(), d.Kind)
}

func nameOf[T comparable](names map[string]T, value T) string {
	for name, v := range names {
		if v == value {
			return name
		}
	}
	return fmt.Sprint(value)
}

func list(macs []net.HardwareAddr) string {
	var words []string
	for _, mac := range macs {
		words = append(words, mac.String())
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}
