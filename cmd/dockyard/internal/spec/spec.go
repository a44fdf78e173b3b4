// Package spec makes of what a person asks for the file that describes the network to
// every runtime. It is pure: what it has to know of the host it is told.
package spec

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// A Request is what a person asks for.
type Request struct {
	Name, Driver                string
	Subnets, IPRanges, Gateways []string
	Aux                         map[string]string
	DNS                         []string
	Internal, NoIPv4, IPv6      bool
	IPAM                        string
	Labels, Options             map[string]string
	Metadata                    inventory.Metadata
}

// A Host is what has to be known of the host.
type Host interface {
	// Subnet chooses a subnet of a family that nobody has.
	Subnet(ipv6 bool) (netip.Prefix, error)
	// Taken says who has the name of a link already, "" if nobody has.
	Taken(link string) string
}

// nameForm is what libcni takes for the name of a network.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// maxName leaves room for what files are called after a network: libcni's cache has
// the container's ID in the name, too.
const maxName = 128

// CheckName refuses names that no network can have.
func CheckName(name string) error {
	switch {
	case name == "host" || name == "none":
		return fmt.Errorf("operation is not permitted on predefined %s network: the word means something else to runtimes; choose another name", name)
	case len(name) > maxName:
		return fmt.Errorf("invalid network name of %d bytes: it may have %d", len(name), maxName)
	case !nameForm.MatchString(name):
		return fmt.Errorf("invalid network name: %q; want letters, digits, '_', '.' and '-', and a letter or digit first", name)
	}
	return nil
}

// drivers are those of create, in docker's words, and the plugin of each.
var drivers = map[string]string{"bridge": "bridge", "macvlan": "macvlan", "ipvlan": "ipvlan", "overlay": "vxlan-overlay"}

// Build returns the conflist for a request. Every problem is in the error.
func Build(r Request, h Host) ([]byte, error) {
	b := &builder{Request: r, host: h, plugins: map[string]*object{}}
	b.check(CheckName(r.Name))
	if drivers[r.Driver] == "" {
		b.check(fmt.Errorf("could not find plugin %s in v1 plugin registry: unknown driver%s", r.Driver, meant(r.Driver, slices.Sorted(maps.Keys(drivers)))))
		return nil, errors.Join(b.problems...)
	}
	b.options()
	b.subnets()
	if len(b.problems) > 0 {
		return nil, errors.Join(b.problems...)
	}
	return b.conflist()
}

type builder struct {
	Request
	host     Host
	plugins  map[string]*object // "" is the one that makes the interface
	ranges   []subnet
	problems []error
}

type subnet struct {
	prefix, ipRange netip.Prefix
	gateway         netip.Addr
	exclude         []string
}

func (b *builder) check(err error) {
	if err != nil {
		b.problems = append(b.problems, err)
	}
}

// main is the plugin that makes the interface.
func (b *builder) plugin(name string) *object {
	if b.plugins[name] == nil {
		b.plugins[name] = &object{}
	}
	return b.plugins[name]
}

// options sorts the options to the plugins that they are for.
func (b *builder) options() {
	for _, o := range slices.Sorted(maps.Keys(b.Options)) {
		text := b.Options[o]
		plugin, key, k, err := place(b.Driver, o)
		if err != nil {
			b.check(err)
			continue
		}
		v, err := value(o, text, k)
		b.check(err)
		if key == "etcd" && err == nil {
			v = (&object{}).set("endpoints", v)
		}
		b.plugin(plugin).set(key, v)
	}
	b.parentVLAN()
}

// parentVLAN reads parent=eth0.10 as docker does: VLAN 10 of eth0.
func (b *builder) parentVLAN() {
	p := b.plugin("")
	master, _ := p.values["master"].(string)
	link, id, ok := strings.Cut(master, ".")
	if _, given := p.values["vlan"]; !ok || given || b.host.Taken(master) != "" {
		return
	}
	n, err := value("parent", id, number)
	if err == nil {
		p.set("master", link).set("vlan", n)
	}
}

func (b *builder) subnets() {
	for _, text := range b.Subnets {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			b.check(fmt.Errorf("invalid subnet %s: want one such as 172.20.0.0/24", text))
		case p != p.Masked():
			b.check(fmt.Errorf("invalid subnet %s: it should be %s", text, p.Masked()))
		default:
			b.ranges = append(b.ranges, subnet{prefix: p})
		}
	}
	if len(b.problems) > 0 {
		return
	}
	b.choose()
	b.within()
}

// choose takes subnets for the families that none was asked for.
func (b *builder) choose() {
	has := func(ipv6 bool) bool {
		return slices.ContainsFunc(b.ranges, func(s subnet) bool { return s.prefix.Addr().Is6() == ipv6 })
	}
	if !b.leases() {
		return
	}
	if b.onLAN() && len(b.ranges) == 0 {
		b.check(fmt.Errorf("driver %s needs --subnet: containers take addresses of the network that %v is on", b.Driver, b.plugin("").values["master"]))
		return
	}
	wanted := map[bool]bool{false: !b.NoIPv4 && len(b.ranges) == 0, true: b.IPv6}
	for _, ipv6 := range []bool{false, true} {
		if !wanted[ipv6] || has(ipv6) {
			continue
		}
		p, err := b.host.Subnet(ipv6)
		b.check(err)
		if err == nil {
			b.ranges = append(b.ranges, subnet{prefix: p})
		}
	}
	if b.NoIPv4 && !b.IPv6 && len(b.ranges) == 0 {
		b.check(errors.New("IPv4 or IPv6 must be enabled"))
	}
}

// onLAN reports whether containers are on a network of the host's.
func (b *builder) onLAN() bool {
	return (b.Driver == "macvlan" || b.Driver == "ipvlan") && !b.Internal && b.plugin("").values["master"] != nil
}

// leases reports whether addresses come from ranges.
func (b *builder) leases() bool { return b.IPAM == "" || b.IPAM == "default" || b.IPAM == "host-local" }

// within sorts gateways, ranges and excluded addresses to the subnets.
func (b *builder) within() {
	find := func(a netip.Addr) *subnet {
		for i := range b.ranges {
			if b.ranges[i].prefix.Contains(a) {
				return &b.ranges[i]
			}
		}
		return nil
	}
	for _, text := range b.IPRanges {
		p, err := netip.ParsePrefix(text)
		if s := find(p.Addr()); err != nil || s == nil || p.Bits() < s.prefix.Bits() {
			b.check(fmt.Errorf("no matching subnet for range %s", text))
		} else {
			s.ipRange = p.Masked()
		}
	}
	for _, text := range b.Gateways {
		a, err := netip.ParseAddr(text)
		if s := find(a); err != nil || s == nil {
			b.check(fmt.Errorf("no matching subnet for gateway %s", text))
		} else {
			s.gateway = a
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Aux)) {
		a, err := netip.ParseAddr(b.Aux[name])
		if s := find(a); err != nil || s == nil {
			b.check(fmt.Errorf("no matching subnet for aux-address %s", b.Aux[name]))
		} else {
			s.exclude = append(s.exclude, a.String())
		}
	}
}

// conflist is the file.
func (b *builder) conflist() ([]byte, error) {
	plugins := []*object{b.interfacePlugin()}
	if b.Driver == "bridge" || b.Driver == "overlay" {
		if !b.Internal {
			plugins = append(plugins, b.portmap())
		}
	}
	if b.leases() {
		plugins = append(plugins, b.names())
	}
	b.Metadata.Labels, b.Metadata.Options = b.Labels, b.Options
	top := (&object{}).set("cniVersion", "1.1.0").set("name", b.Name).
		set("disableGC", true).set("dockyard", b.Metadata).set("plugins", plugins)
	text, err := json.Marshal(top)
	if err != nil {
		return nil, err
	}
	return pretty(text)
}

func (b *builder) interfacePlugin() *object {
	given := b.plugin("")
	p := (&object{}).set("type", drivers[b.Driver])
	switch b.Driver {
	case "bridge":
		p.set("bridge", b.link())
		if b.Internal {
			p.set("isGateway", given.values["gatewayMode"] == nil && given.values["gatewayModeIPv4"] == nil)
		} else if given.values["gatewayModeIPv4"] == nil || given.values["gatewayModeIPv6"] == nil {
			p.set("gatewayMode", "nat")
		}
		p.set("hairpinMode", true)
	case "overlay":
		p.set("bridge", b.link()).set("vni", VNI(b.Name)).set("subnets", b.prefixes()).set("hairpinMode", true)
	case "macvlan":
		p.set("mode", "bridge")
	case "ipvlan":
		p.set("mode", "l2")
	}
	if b.Internal {
		p.set("internal", true)
	}
	for _, k := range given.keys {
		p.set(k, given.values[k])
	}
	return p.set("capabilities", (&object{}).set("ips", true).set("mac", b.Driver != "ipvlan")).set("ipam", b.ipam())
}

// link is the bridge's name: the network's, where a link can have it and none has.
func (b *builder) link() string {
	sum := sha256.Sum256([]byte(b.Name))
	if len(b.Name) <= 15 && b.Name != "all" && b.Name != "default" && !strings.ContainsAny(b.Name, "/ :") && b.host.Taken(b.Name) == "" {
		return b.Name
	}
	return "dy-" + hex.EncodeToString(sum[:6])
}

// VNI is an overlay's number, the same on all hosts without asking: those below 4097
// are left to people.
func VNI(name string) int {
	sum := sha256.Sum256([]byte(name))
	const least, all = 4097, 1 << 24
	return least + int(binary.BigEndian.Uint32(sum[:])%(all-least))
}

func (b *builder) prefixes() []string {
	var out []string
	for _, s := range b.ranges {
		out = append(out, s.prefix.String())
	}
	return out
}

func (b *builder) ipam() *object {
	switch {
	case b.IPAM == "none" || b.IPAM == "null":
		return &object{}
	case !b.leases():
		return (&object{}).set("type", b.IPAM)
	case b.Driver == "overlay":
		return (&object{}).set("type", "host-local")
	}
	p := (&object{}).set("type", "host-local").set("ranges", b.sets())
	var routes []*object
	var exclude []string
	for _, s := range b.ranges {
		dst := "0.0.0.0/0"
		if s.prefix.Addr().Is6() {
			dst = "::/0"
		}
		if !slices.ContainsFunc(routes, func(o *object) bool { return o.values["dst"] == dst }) {
			routes = append(routes, (&object{}).set("dst", dst))
		}
		exclude = append(exclude, s.exclude...)
	}
	if !b.Internal {
		p.set("routes", routes)
	}
	if exclude != nil {
		p.set("exclude", exclude)
	}
	return p
}

// sets are the ranges by family: a container gets an address of each set.
func (b *builder) sets() [][]*object {
	var out [][]*object
	for _, ipv6 := range []bool{false, true} {
		var set []*object
		for _, s := range b.ranges {
			if s.prefix.Addr().Is6() != ipv6 {
				continue
			}
			o := (&object{}).set("subnet", s.prefix.String())
			if s.ipRange.IsValid() {
				first, last := bounds(s)
				o.set("rangeStart", first.String()).set("rangeEnd", last.String())
			}
			gateway := s.gateway
			if !gateway.IsValid() {
				gateway = s.prefix.Addr().Next()
			}
			set = append(set, o.set("gateway", gateway.String()))
		}
		if set != nil {
			out = append(out, set)
		}
	}
	return out
}

// bounds are the first and last address of a range that containers can have.
func bounds(s subnet) (first, last netip.Addr) {
	first, last = s.ipRange.Addr(), Last(s.ipRange)
	if first == s.prefix.Addr() {
		first = first.Next()
	}
	if last == Last(s.prefix) && last.Is4() {
		last = last.Prev()
	}
	return first, last
}

// Last is the last address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
