// Package peer knows the hosts of an overlay network: which there are, where each
// is in the underlay, and which blocks of the network's subnets each holds. It
// gives them as one snapshot, whether they come from a configuration, a file or
// etcd, and says what the kernel of one host must hold to reach the others.
//
// It decides nothing about containers, and changes nothing in the kernel itself.
package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
)

// A Host is one host of an overlay network.
type Host struct {
	Address netip.Addr     `json:"address"` // of its tunnel end, in the underlay
	MAC     conf.MAC       `json:"mac"`     // of its VXLAN device; see VTEP
	Blocks  []netip.Prefix `json:"blocks"`  // of the network's subnets
}

// VTEP is the hardware address of the host's VXLAN device: the one given, else
// the one that a host of this suite has, which follows from its address.
func (h Host) VTEP() net.HardwareAddr {
	if h.MAC != nil {
		return net.HardwareAddr(h.MAC)
	}
	return owner.MACOf(h.Address)
}

// Gateway is the address that the host has in a block: the first that a host can
// have. Of a block of one address it is that one.
func Gateway(block netip.Prefix) netip.Addr {
	if block.IsSingleIP() {
		return block.Addr()
	}
	return block.Addr().Next()
}

// Has reports whether an address is in one of the host's blocks, but for those of
// one address.
func (h Host) Has(a netip.Addr) bool {
	return slices.ContainsFunc(h.Blocks, func(b netip.Prefix) bool { return !b.IsSingleIP() && b.Contains(a) })
}

// ErrAnswered is wrapped by an error of a store that knows this host and its
// blocks as its own, though it cannot say what else there is.
var ErrAnswered = errors.New("this host and its blocks are known")

// ErrFull is wrapped by the error of a claim when all blocks of a subnet are held.
var ErrFull = errors.New("all blocks are held")

// A Snapshot is all hosts of a network at one time.
type Snapshot []Host

// Find returns the host of that address.
func (s Snapshot) Find(address netip.Addr) (Host, bool) {
	i := slices.IndexFunc(s, func(h Host) bool { return h.Address == address })
	if i < 0 {
		return Host{Address: address}, false
	}
	return s[i], true
}

// Others returns the hosts but the one of that address.
func (s Snapshot) Others(address netip.Addr) Snapshot {
	return slices.DeleteFunc(slices.Clone(s), func(h Host) bool { return h.Address == address })
}

// Holder returns the host one of whose blocks an address is in, and the block.
func (s Snapshot) Holder(a netip.Addr) (h Host, block netip.Prefix, ok bool) {
	for _, h := range s {
		for _, b := range h.Blocks {
			if b.Contains(a) {
				return h, b, true
			}
		}
	}
	return h, block, false
}

// Addresses returns the hosts' addresses.
func (s Snapshot) Addresses() (out []netip.Addr) {
	for _, h := range s {
		out = append(out, h.Address)
	}
	return out
}

// Changes returns the hosts that differ in two snapshots, as they were and as they
// are: one that comes or goes is in one of the answers alone.
func Changes(before, after Snapshot) (was, is Snapshot) {
	there := make(map[netip.Addr]Host, len(before))
	for _, h := range before {
		there[h.Address] = h
	}
	for _, h := range after {
		old, ok := there[h.Address]
		delete(there, h.Address)
		if ok && slices.Equal(old.MAC, h.MAC) && slices.Equal(old.Blocks, h.Blocks) {
			continue
		}
		if is = append(is, h); ok {
			was = append(was, old)
		}
	}
	for _, h := range before {
		if _, gone := there[h.Address]; gone {
			was = append(was, h)
		}
	}
	return was, is
}

// ReadFile reads the hosts from a file, {"peers": [...]} as in a configuration.
// A file that is half written is an error: it has no meaning.
func ReadFile(path string, rep *conf.Report) (Snapshot, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Peers Snapshot `json:"peers"`
	}
	if !json.Valid(b) {
		return nil, fmt.Errorf("%s: no JSON; is it half written? Write another file and rename it", path)
	}
	conf.Decode(b, &file, rep)
	if file.Peers == nil && len(rep.Problems()) == 0 {
		rep.Missing("peers", `the hosts of the network, [] for none`)
	}
	return file.Peers, nil
}

// Validate reports hosts that cannot be in one network: path is that of the list
// ("peers").
func (s Snapshot) Validate(path string, subnets []netip.Prefix, rep *conf.Report) {
	var all []held
	seen := make(map[netip.Addr]bool, len(s))
	for i, h := range s {
		at := conf.Index(path, i)
		s.validateAddress(at+".address", i, rep)
		if h.Address.IsValid() && seen[h.Address] {
			rep.Bad(at+".address", h.Address, "an address that no other peer has; each host stands there once, this one too")
		}
		seen[h.Address] = true
		for j, b := range h.Blocks {
			p := conf.Index(at+".blocks", j)
			if !ValidateBlock(p, b, subnets, rep) {
				continue
			}
			all = append(all, held{p, b})
		}
	}
	for i, want := range s.MACConflicts() {
		rep.Bad(conf.Index(path, i)+".mac", s[i].VTEP().String(), "%s", want)
	}
	sorted := slices.SortedFunc(slices.Values(all), func(a, b held) int { return a.block.Compare(b.block) })
	for i := range sorted {
		if i > 0 && sorted[i-1].block.Overlaps(sorted[i].block) {
			reportOverlaps(all, rep)
			return
		}
	}
}

// MACConflicts returns, by their index, the hosts whose VXLAN devices are said to have
// the hardware address of a host before them in s, and what it should be instead.
func (s Snapshot) MACConflicts() map[int]string {
	if !slices.ContainsFunc(s, func(h Host) bool { return h.MAC != nil }) {
		return nil // addresses that follow from those in the underlay differ
	}
	conflicts, holders := map[int]string{}, make(map[string]netip.Addr, len(s))
	for i, h := range s {
		mac := string(h.VTEP())
		if holder, held := holders[mac]; held {
			conflicts[i] = fmt.Sprintf("an address that no other host has; host %s has it", holder)
		} else {
			holders[mac] = h.Address
		}
	}
	return conflicts
}

// held is a block, and where it is named.
type held struct {
	path  string
	block netip.Prefix
}

// reportOverlaps names each pair. It compares all with all.
func reportOverlaps(all []held, rep *conf.Report) {
	for i, b := range all {
		for _, o := range all[:i] {
			if o.block.Overlaps(b.block) {
				rep.Conflict(o.path+", "+b.path, "%s and %s overlap; an address has one host", o.block, b.block)
			}
		}
	}
}

func (s Snapshot) validateAddress(path string, i int, rep *conf.Report) {
	a := s[i].Address
	switch {
	case !a.IsValid():
		if !rep.Undecoded(path) {
			rep.Missing(path, "the host's address in the underlay")
		}
	case !unicast(a):
		rep.Bad(path, a, "the unicast address of a host in the underlay")
	case s[0].Address.IsValid() && a.Is4() != s[0].Address.Is4():
		rep.Bad(path, a, "the address family of %s; a VXLAN device has one", s[0].Address)
	}
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback() && !a.Is4In6() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// ValidateBlock reports a block that is not part of one of the subnets, if these
// are known.
func ValidateBlock(path string, b netip.Prefix, subnets []netip.Prefix, rep *conf.Report) bool {
	if !b.IsValid() || !slices.ContainsFunc(subnets, netip.Prefix.IsValid) {
		return false
	}
	if b != b.Masked() {
		rep.Bad(path, b, "%s: the bits after the prefix must be 0", b.Masked())
		return false
	}
	for _, s := range subnets {
		if s.IsValid() && s.Overlaps(b) {
			if b.Bits() < s.Bits() {
				rep.Bad(path, b, "a part of the subnet %s, not more", s)
				return false
			}
			if host := b.Addr().BitLen() - b.Bits(); host == 1 || host == 2 && b.Addr().Is4() {
				rep.Bad(path, b, "a block with room for a gateway and containers, or a single address")
				return false
			}
			return true
		}
	}
	rep.Bad(path, b, "a part of subnets %v", subnets)
	return false
}

// Range is what the IPAM plugin host-local may give out of a block.
type Range struct {
	Subnet     netip.Prefix `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart"`
	RangeEnd   netip.Addr   `json:"rangeEnd"`
	Gateway    netip.Addr   `json:"gateway,omitzero"` // none where the range is a single address
}

// Ranges returns the ranges of blocks for host-local, one set a family. With a
// subnet around them (flat), addresses have its prefix length: the network is one
// link; otherwise that of their block.
func Ranges(blocks, subnets []netip.Prefix, flat bool) (sets [][]Range) {
	for _, s := range subnets {
		var set []Range
		for _, b := range blocks {
			if !s.Contains(b.Addr()) || b.IsSingleIP() {
				continue
			}
			r := Range{Subnet: b, RangeStart: Gateway(b).Next(), RangeEnd: lease.Last(b), Gateway: Gateway(b)}
			if b.Addr().Is4() {
				r.RangeEnd = r.RangeEnd.Prev()
			}
			if flat {
				r.Subnet = s
			}
			set = append(set, r)
		}
		if set != nil {
			sets = append(sets, set)
		}
	}
	return sets
}
