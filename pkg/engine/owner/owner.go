// Package owner names an attachment and derives from that name all that the
// suite stamps on what it makes: the owner mark, link names and MAC addresses.
//
// Nothing here is random and nothing is remembered, so DEL finds what ADD made
// from (network, containerID, ifname) alone.
package owner

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
)

// MaxMark is the longest mark in bytes. It is the longest comment that nft
// accepts on a set element (NFTNL_UDATA_COMMENT_MAXLEN); an ifalias holds 255.
const MaxMark = 128

const (
	maxNetwork   = 39
	maxContainer = 72 // nerdctl's "<namespace>-<64 digits>" fits for its default namespace
)

// A Key names one attachment: one interface of one container on one network.
// A container may have several; its ID alone never names one of them.
type Key struct {
	Network, ContainerID, IfName string
}

// A Mark is a Key as it is written on an object: "network/containerID/ifname",
// at most MaxMark bytes. Fields that would make it longer are cut and carry a
// hash, so that two keys never share a mark.
type Mark string

// Mark returns the mark of k.
func (k Key) Mark() Mark {
	return Mark(short(k.Network, maxNetwork) + "/" + short(k.ContainerID, maxContainer) + "/" + k.IfName)
}

// OnNetwork reports whether m marks an attachment to the network of that name.
func (m Mark) OnNetwork(name string) bool {
	return strings.HasPrefix(string(m), short(name, maxNetwork)+"/")
}

// SameContainer reports whether m and other mark attachments of one container.
func (m Mark) SameContainer(other Mark) bool {
	return m.Container() != "" && m.Container() == other.Container()
}

// Network returns the part that the marks of one network share: its name, unless
// that is too long.
func (m Mark) Network() string {
	network, _, _ := strings.Cut(string(m), "/")
	return network
}

// Container returns the part that the marks of one container share.
func (m Mark) Container() string {
	_, rest, _ := strings.Cut(string(m), "/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// IfName returns the name of the container's interface.
func (m Mark) IfName() string { return string(m)[strings.LastIndexByte(string(m), '/')+1:] }

// Valid reports whether m has the form of a mark.
func (m Mark) Valid() bool {
	return len(m) <= MaxMark && strings.Count(string(m), "/") == 2
}

// Hash returns 32 hexadecimal digits that depend on every byte of m.
func (m Mark) Hash() string {
	sum := sha256.Sum256([]byte(m))
	return hex.EncodeToString(sum[:16])
}

// Link returns a link name for m: the prefix and as many digits of its hash as
// the kernel's 15 bytes (IFNAMSIZ-1) leave room for.
func (m Mark) Link(prefix string) string {
	return (prefix + m.Hash())[:15]
}

// HostPrefix begins the names of HostLink.
const HostPrefix = "veth"

// HostLink returns the name of the host's end of the veth pair of an attachment to a
// bridge.
func (m Mark) HostLink() string { return m.Link(HostPrefix) }

// MAC returns the locally administered unicast MAC address of an attachment
// without an IP address.
func (m Mark) MAC() net.HardwareAddr {
	sum := sha256.Sum256([]byte(m))
	return mac(sum[:])
}

// HostMAC is MAC for the host's end of a pair: the two ends must differ.
func (m Mark) HostMAC() net.HardwareAddr {
	sum := sha256.Sum256([]byte(m))
	return mac(sum[6:])
}

// MACOf returns the locally administered unicast MAC address that belongs to
// an IP address: a reused address keeps its neighbour entries right.
func MACOf(addr netip.Addr) net.HardwareAddr {
	sum := sha256.Sum256(addr.AsSlice())
	return mac(sum[:])
}

func mac(b []byte) net.HardwareAddr {
	return net.HardwareAddr{b[0]&^0x01 | 0x02, b[1], b[2], b[3], b[4], b[5]}
}

func short(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	tail := "~" + hex.EncodeToString(sum[:8])
	return s[:limit-len(tail)] + tail
}
