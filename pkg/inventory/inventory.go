package inventory

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// Sources are what the layers can list. Each says what it knows, under the marks of
// owners; none of them has all.
type Sources struct {
	Networks   []Network
	Cache      []Cached
	Containers []Container
	Links      []link.Listed
	Placed     []link.Placed
	Claims     []nft.Claim
	Ports      []nft.HeldPort
	Leases     []lease.Held
	Records    []zone.Record

	// NetNS tells whether the path of a namespace is one.
	NetNS func(path string) bool
	Boot  time.Time // when the host was started, the zero Time if unknown
}

// A State is whether an attachment's container is there.
type State string

// The states of an attachment.
const (
	Up      State = "up"
	Gone    State = "gone"    // what it left behind is an orphan
	Unknown State = "unknown" // nothing tells
)

// An Attachment is one interface of one container on one network.
type Attachment struct {
	owner.Key
	Mark      owner.Mark
	Container *Container // nil if no runtime's files know it
	Name      string     // of the container, "" if nobody says
	Runtime   string
	NetNS     string
	HostLink  string // the host's end of its pair, or the parent of its interface
	Addrs     []netip.Addr
	MAC       string
	Ports     []Port
	Names     []string
	State     State
	Reason    string // why it is thought to be gone
	Since     time.Time
	Cached    *Cached // nil if libcni does not know it

	RxBytes, TxBytes uint64 // of its container
	parts            []string
}

// A Port is a published port.
type Port struct {
	HostIP    string // "" for all addresses
	HostPort  uint16
	Protocol  string
	Container uint16
	// Held: it leads to this attachment. Otherwise another network of the container
	// has it, and this one stands by.
	Held bool
}

// An Inventory is a host.
type Inventory struct {
	Networks    []Network
	Attachments []*Attachment
	Containers  []Container
	Links       []link.Listed
	Claims      []nft.Claim
	// Problems are files that are of no use.
	Problems []string
}

// Join joins the sources.
func Join(s Sources) *Inventory {
	inv := &Inventory{Networks: s.Networks, Containers: s.Containers, Links: s.Links, Claims: s.Claims}
	for _, n := range s.Networks {
		if n.Problem != "" {
			inv.Problems = append(inv.Problems, n.File+": "+n.Problem)
		}
	}
	j := joiner{s: s, byMark: map[owner.Mark]*Attachment{}, containers: map[string]*Container{}}
	for i := range inv.Containers {
		j.containers[inv.Containers[i].CNIID] = &inv.Containers[i]
	}
	j.whole() // first, as they say what marks have cut
	j.marked()
	for _, a := range j.byMark {
		j.judge(a)
		inv.Attachments = append(inv.Attachments, a)
	}
	slices.SortFunc(inv.Attachments, func(a, b *Attachment) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Title(), b.Title()), cmp.Compare(a.Mark, b.Mark))
	})
	slices.SortStableFunc(inv.Networks, func(a, b Network) int { return Natural(a.Name, b.Name) })
	return inv
}

type joiner struct {
	s          Sources
	byMark     map[owner.Mark]*Attachment
	containers map[string]*Container
	links      map[string]*link.Listed
}

// of returns the attachment of a mark, and notes what said so.
func (j *joiner) of(m owner.Mark, part string) *Attachment {
	a := j.byMark[m]
	if a == nil {
		fields := strings.SplitN(string(m), "/", 3)
		a = &Attachment{Key: owner.Key{Network: fields[0], ContainerID: fields[1], IfName: fields[2]}, Mark: m}
		j.byMark[m] = a
	}
	a.parts = append(a.parts, part)
	return a
}

func (j *joiner) ofKey(k owner.Key, part string) *Attachment {
	a := j.of(k.Mark(), part)
	a.Key = k
	return a
}

// whole joins the sources that have names in full.
func (j *joiner) whole() {
	for i := range j.s.Cache {
		c := &j.s.Cache[i]
		a := j.ofKey(c.Key, "cache")
		a.Cached, a.NetNS, a.MAC, a.Since = c, c.NetNS, c.MAC, c.Since
		for _, p := range c.IPs {
			a.Addrs = append(a.Addrs, p.Addr())
		}
	}
	for _, l := range j.s.Leases {
		a := j.ofKey(l.Key, "lease "+l.Addr.String())
		a.addr(l.Addr)
		a.since(l.Since)
	}
	for i := range j.s.Records {
		r := &j.s.Records[i]
		_, ifName, _ := cutLast(string(r.Mark), "/")
		a := j.ofKey(owner.Key{Network: r.Network, ContainerID: r.ContainerID, IfName: ifName}, "name record")
		a.Names = r.Names
		if a.NetNS == "" {
			a.NetNS = r.NetNS
		}
		for _, addr := range r.Addrs {
			a.addr(addr)
		}
	}
}

// marked joins the sources that have marks alone.
func (j *joiner) marked() {
	j.links = make(map[string]*link.Listed, len(j.s.Links))
	for i := range j.s.Links {
		l := &j.s.Links[i]
		j.links[l.Name] = l
		m := owner.Mark(l.Alias)
		if !ofAttachment(m) || m.Link("veth") != l.Name {
			continue
		}
		a := j.of(m, "link "+l.Name)
		a.HostLink, a.RxBytes, a.TxBytes = l.Name, l.TxBytes, l.RxBytes
	}
	for _, p := range j.s.Placed {
		if !ofAttachment(p.Mark) {
			continue
		}
		a := j.of(p.Mark, "record of its parent "+p.Parent)
		if a.HostLink == "" {
			a.HostLink = p.Parent
		}
		for _, addr := range p.Addrs {
			a.addr(addr)
		}
		a.State = Gone
		if p.Alive {
			a.State = Up
		}
	}
	for _, c := range j.s.Claims {
		if ofAttachment(c.Mark) {
			j.of(c.Mark, "nft "+c.Kind)
		}
	}
	j.ports()
}

func ofAttachment(m owner.Mark) bool { return m.Valid() && !m.OnNetwork("*") }

// ports joins what was asked for and what the firewall holds: what it does not hold
// stands by. One for both families is one.
func (j *joiner) ports() {
	for _, p := range j.s.Ports {
		if !ofAttachment(p.Mark) {
			continue
		}
		a := j.of(p.Mark, "port")
		port := Port{HostPort: p.HostPort, Protocol: p.Protocol.String(), Container: p.Target.Port(), Held: true}
		if p.HostIP.IsValid() {
			port.HostIP = p.HostIP.String()
		}
		if !slices.Contains(a.Ports, port) {
			a.Ports = append(a.Ports, port)
		}
	}
	for _, a := range j.byMark {
		if a.Cached == nil {
			continue
		}
		for _, p := range a.Cached.Ports {
			a.asked(p, j.s.Ports != nil)
		}
	}
}

func (a *Attachment) asked(p AskedPort, known bool) {
	proto := strings.ToLower(cmp.Or(p.Protocol, "tcp"))
	for i, h := range a.Ports {
		same := h.HostPort == uint16(p.HostPort) && h.Protocol == proto
		if same && h.Container == 0 {
			a.Ports[i].Container = uint16(p.ContainerPort)
		}
		if same {
			return
		}
	}
	if p.HostPort > 0 {
		ip := p.HostIP
		if addr, err := netip.ParseAddr(ip); err == nil && addr.IsUnspecified() {
			ip = ""
		}
		a.Ports = append(a.Ports, Port{HostIP: ip, HostPort: uint16(p.HostPort), Protocol: proto, Container: uint16(p.ContainerPort), Held: !known})
	}
}

func (a *Attachment) addr(addr netip.Addr) {
	if !slices.Contains(a.Addrs, addr) {
		a.Addrs = append(a.Addrs, addr)
	}
}

func (a *Attachment) since(t time.Time) {
	if a.Since.IsZero() {
		a.Since = t
	}
}

// judge finds the container of an attachment, and whether it is there.
func (j *joiner) judge(a *Attachment) {
	if a.Container = j.containers[a.ContainerID]; a.Container != nil {
		a.Name, a.Runtime, a.NetNS = a.Container.Name, a.Container.Runtime, cmp.Or(a.NetNS, a.Container.NetNS)
	}
	if name, ok := bare(a.NetNS); ok && a.Runtime == "" {
		a.Name, a.Runtime = name, "netns"
	}
	if a.Name == "" && len(a.Names) > 0 {
		a.Name = a.Names[0]
	}
	slices.SortFunc(a.Ports, func(x, y Port) int {
		return cmp.Or(cmp.Compare(x.HostPort, y.HostPort), cmp.Compare(x.HostIP, y.HostIP))
	})
	if a.State != "" {
		if a.State == Gone {
			a.Reason = "the namespace of its interface is gone"
		}
		return
	}
	a.State, a.Reason = j.state(a)
}

// state decides by the links of the host that ADD reported, where it did, else by the
// namespace. That the path of a namespace is missing tells only that it is not here:
// the runtime may have mounts of its own.
func (j *joiner) state(a *Attachment) (State, string) {
	if j.links[a.Mark.Link("veth")] != nil {
		return Up, ""
	}
	if a.Cached != nil {
		for _, l := range a.Cached.Links {
			if j.links[l] == nil {
				return Gone, "its link " + l + " is gone"
			}
		}
	}
	switch {
	case a.NetNS != "" && j.s.NetNS != nil && j.s.NetNS(a.NetNS):
		return Up, ""
	case !a.Since.IsZero() && a.Since.Before(j.s.Boot):
		return Gone, "it is of an earlier boot of the host"
	case strings.HasPrefix(strings.TrimPrefix(a.NetNS, "/var"), netnsDir):
		return Gone, "its namespace " + a.NetNS + " is gone"
	}
	return Unknown, ""
}

// Title is how a person would call the container.
func (a *Attachment) Title() string { return cmp.Or(a.Name, a.ContainerID) }

// Parts are the things that are there of an attachment: "link veth…", "lease 10.1.0.2".
func (a *Attachment) Parts() []string {
	return slices.Compact(slices.Sorted(slices.Values(a.parts)))
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Natural orders names as people do: net2 before net10.
func Natural(a, b string) int {
	for a != "" && b != "" {
		x, restA := digits(a)
		y, restB := digits(b)
		if x != "" && y != "" {
			m, _ := strconv.ParseUint(x, 10, 64)
			n, _ := strconv.ParseUint(y, 10, 64)
			if m != n {
				return cmp.Compare(m, n)
			}
			a, b = restA, restB
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

func digits(s string) (number, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
