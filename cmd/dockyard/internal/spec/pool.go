package spec

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// shortest is how long a route's prefix is at least for it to be in the way: those of
// VPNs that take all traffic are shorter.
const shortest = 8

// Used are subnets, and what has each.
type Used map[netip.Prefix]string

// Add notes a subnet.
func (u Used) Add(p netip.Prefix, by string) {
	if p.IsValid() && p.Bits() >= shortest {
		u[p.Masked()] = by
	}
}

// Overlaps returns what has a part of a subnet, "" if nothing has.
func (u Used) Overlaps(p netip.Prefix) string {
	var found []string
	for o, by := range u {
		if o.Overlaps(p) {
			found = append(found, fmt.Sprintf("%s (%s)", o, by))
		}
	}
	slices.Sort(found)
	if found == nil {
		return ""
	}
	return found[0]
}

// ErrFull is the error of pools without a free subnet.
var ErrFull = errors.New("all predefined address pools have been fully subnetted; give --subnet, or more pools in " + inventory.ConfigFile)

// Pick takes the first free subnet of the pools. It steps over what is used, instead
// of listing what is free.
func Pick(pools []inventory.Pool, used Used) (netip.Prefix, error) {
	for _, pool := range pools {
		for a := pool.Base.Addr(); pool.Base.Contains(a); {
			p := netip.PrefixFrom(a, pool.Size)
			last := Last(p)
			free := true
			for o := range used {
				if o.Overlaps(p) {
					free = false
					if Last(o).Compare(last) > 0 {
						last = Last(o)
					}
				}
			}
			if free {
				return p, nil
			}
			if a = last.Next(); !a.IsValid() {
				break
			}
		}
	}
	return netip.Prefix{}, ErrFull
}

// ULA is the network's own IPv6 subnet (RFC 4193): the host's 40 bits, and 16 of the
// network's name, so the same each time.
func ULA(machine, network string) netip.Prefix {
	host, name := sha256.Sum256([]byte(machine)), sha256.Sum256([]byte(network))
	b := [16]byte{0: 0xfd}
	copy(b[1:6], host[:])
	copy(b[6:8], name[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// Overlay is the subnet of a network on many hosts: each of them takes the same,
// without asking.
func Overlay(network string, ipv6 bool) netip.Prefix {
	sum := sha256.Sum256([]byte(network))
	if ipv6 {
		b := [16]byte{0: 0xfd}
		copy(b[1:6], sum[:])
		return netip.PrefixFrom(netip.AddrFrom16(b), 48)
	}
	const from, to = 128, 200 // beside what docker, podman, nerdctl and we take of 10.0.0.0/8
	second := from + binary.BigEndian.Uint16(sum[:])%(to-from)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second)}), 16)
}
