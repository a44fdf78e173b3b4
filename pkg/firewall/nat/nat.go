// Package nat says what address translation an attachment wants. pkg/firewall/nft and
// pkg/firewall/iptables carry it out, with the same meaning.
package nat

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Protocol is an IP protocol number that has ports.
type Protocol uint8

// The protocols whose ports can be published.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

var protocols = map[Protocol]string{TCP: "tcp", UDP: "udp", SCTP: "sctp"}

// ParseProtocol accepts tcp, udp and sctp in either case; empty means tcp.
func ParseProtocol(s string) (Protocol, bool) {
	if s == "" {
		return TCP, true
	}
	for p, name := range protocols {
		if strings.EqualFold(name, s) {
			return p, true
		}
	}
	return 0, false
}

func (p Protocol) String() string { return protocols[p] }

// A Mapping leads one port of the host to one port of a container of the same
// address family.
type Mapping struct {
	HostIP   netip.Addr // the zero Addr: every local address of Target's family
	HostPort uint16
	Protocol Protocol
	Target   netip.AddrPort
	// OpenOnly maps no port of the host: the network is routed, and just lets
	// in what is addressed to Target.
	OpenOnly bool
}

// Maps reports whether m takes a port of the host.
func (m Mapping) Maps() bool { return !m.OpenOnly }

// Host names the published end: "tcp 8080" or "tcp 192.0.2.1:8080".
func (m Mapping) Host() string {
	if m.HostIP.IsValid() {
		return fmt.Sprintf("%s %s", m.Protocol, netip.AddrPortFrom(m.HostIP, m.HostPort))
	}
	return fmt.Sprintf("%s %d", m.Protocol, m.HostPort)
}

// Source says which published traffic is given a source address of the host.
type Source uint8

const (
	// Keep changes no source address. The container itself, its peers on the
	// bridge and the host by 127.0.0.1 then get no answer through the port.
	Keep Source = iota
	// Hairpin translates just those three; all others keep theirs.
	Hairpin
	// All translates everything published.
	All
)

// A Publish is the published ports of one attachment.
type Publish struct {
	Mark     owner.Mark
	Bridge   string // the host's link by which it reaches the container
	Link     string // the host's link that is gone when the container is
	Mappings []Mapping
	Source   Source

	// Conditions restrict, by family, which packets are mapped, each a list of
	// words: of iptables(8) for that backend, for nftables those that
	// nft.ParseConditions accepts.
	ConditionsV4, ConditionsV6 []string

	// MarkBit is the bit of the packet mark by which the iptables backend
	// remembers what to masquerade. SetMarkChain names an existing chain that
	// sets the mark instead. nftables needs neither.
	MarkBit      int
	SetMarkChain string
}

// OwnLink reports whether the host reaches the container by a link that is this
// container's alone (ptp): what belongs to the link is then the attachment's.
func (p Publish) OwnLink() bool { return p.Bridge == p.Mark.HostLink() }

// A Masquerade hides the addresses of one attachment behind those of the host,
// but for traffic that stays on the bridge and for multicast.
type Masquerade struct {
	Mark   owner.Mark
	Bridge string
	Kin    []string       // other links of the host that lead into the same network
	Addrs  []netip.Prefix // each address with the length of its subnet
}

// Links returns the links that lead into the network, the bridge first.
func (m Masquerade) Links() []string { return append([]string{m.Bridge}, m.Kin...) }
