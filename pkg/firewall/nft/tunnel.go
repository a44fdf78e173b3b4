package nft

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Tunnel is the VXLAN device of an overlay network, as far as its peers are
// concerned: frames with its VNI at its UDP port are taken from the peers alone,
// and nobody whose packets the host forwards can send such frames to the peers, by
// whom they would be taken for this host's. VXLANs of other programs, which have
// another VNI or port, are not touched.
//
//	map tunnels { typeof @th,96,24 : verdict; }
//	set peers4_vx7 { type ipv4_addr; }
//	chain tunnel_vx7 {
//		udp dport != 4789 return
//		ip saddr @peers4_vx7 return
//		ip daddr @peers4_vx7 drop
//		meta nfproto ipv4 fib daddr type local drop
//	}
//
// The map leads from the VNI to the chain, as a host has one device of a VNI. So a
// packet costs the same with one network or a thousand, and to list the peers of one
// network costs what these are.
type Tunnel struct {
	Device string
	Port   int
	VNI    int
	Local  netip.Addr // the underlay's address of this host, whose family counts
	Mark   owner.Mark // of the network
}

// The VNI in a VXLAN header comes after the header of UDP and its own flags (RFC
// 7348, 5).
const (
	vniOffset = 8 + 4 // bytes
	vniLength = 3
)

func vxlanVNI(reg uint32) exprs {
	return payload(expr.PayloadBaseTransportHeader, vniOffset, vniLength, reg)
}

// vniType is the type of what vxlanVNI loads.
func vniType() nftables.SetDatatype {
	t := nftables.TypeInteger
	t.Bytes = vniLength
	return t
}

// fromPeers judges packets that look like frames of a tunnel.
func fromPeers() exprs {
	return rule(l4proto(reg0), equal(reg0, []byte{unix.IPPROTO_UDP}),
		vxlanVNI(reg0), vmap(tunnels))
}

func (t Tunnel) peers() set {
	f := familyOf(t.Local)
	return set{"peers" + f.suffix + "_" + t.Device, []nftables.SetDatatype{f.addr}, nil}
}

func (t Tunnel) chain() chain {
	f, peers := familyOf(t.Local), t.peers()
	return chain{
		name: "tunnel_" + t.Device,
		rules: []exprs{
			rule(l4proto(reg0), equal(reg0, []byte{unix.IPPROTO_UDP}), thDport(reg0), compare(expr.CmpOpNeq, reg0, port(uint16(t.Port))), back()),
			rule(f.is(), f.loadSaddr(), in(peers), back()),
			rule(f.is(), f.loadDaddr(reg0), in(peers), drop()),
			rule(f.is(), fibDaddrLocal(), drop()),
		},
		texts: []string{
			fmt.Sprintf("udp dport != %d return", t.Port),
			fmt.Sprintf("%s saddr @%s return", f.name, peers.name),
			fmt.Sprintf("%s daddr @%s drop", f.name, peers.name),
			fmt.Sprintf("meta nfproto %s fib daddr type local drop", map[string]string{"ip": "ipv4", "ip6": "ipv6"}[f.name]),
		},
	}
}

// Guard returns what refuses frames of all but the peers. Where it is not there
// yet, it begins with these peers; who they are after that is up to Peer.
func (t Tunnel) Guard(peers []netip.Addr) engine.Resource {
	vni := []byte{byte(t.VNI >> 16), byte(t.VNI >> 8), byte(t.VNI)}
	c := claim{
		kind: "tunnel", mark: shared(t.Device, "tunnel"), shared: true, chains: []chain{t.chain()},
		elems: []element{vmapElement(tunnels, vni, fmt.Sprintf("%#x", t.VNI), expr.VerdictJump, t.chain().name)},
	}
	own := ownSet{set: t.peers(), mark: t.Mark}
	for _, a := range peers {
		own.contents = append(own.contents, t.element(a))
	}
	c.sets = []ownSet{own}
	return c
}

func (t Tunnel) element(a netip.Addr) element {
	return element{set: t.peers(), key: address(a), text: a.String()}
}

// Peer returns one peer of the network.
func (t Tunnel) Peer(a netip.Addr) engine.Resource { return tunnelPeer{t, a} }

// Peers returns the peers that are there.
func (t Tunnel) Peers(ctx context.Context) (all []engine.Resource, err error) {
	elems, err := reader().GetSetElements(t.peers().in(inet()))
	if err != nil {
		if present, lookErr := setExists(ctx, inet(), t.peers().name); lookErr == nil && !present {
			return nil, nil
		}
		return nil, err
	}
	for _, e := range elems {
		a, _ := netip.AddrFromSlice(e.Key)
		all = append(all, t.Peer(a))
	}
	return all, nil
}

type tunnelPeer struct {
	Tunnel
	addr netip.Addr
}

func (p tunnelPeer) Key() string { return "nft peer " + p.Device + " " + p.addr.String() }

func (p tunnelPeer) String() string {
	return fmt.Sprintf("nft add element inet %s %s { %s comment %q }", tableName, p.peers().name, p.addr, p.Mark)
}

func (p tunnelPeer) Observe(ctx context.Context) (engine.Diff, error) {
	f, err := get(ctx, inet(), p.peers(), address(p.addr))
	if err != nil || f == nil {
		return engine.Absent, err
	}
	return engine.Same, nil
}

func (p tunnelPeer) Apply(context.Context) error {
	nc := writer()
	if err := add(nc, inet(), []element{p.element(p.addr)}, func(element) string { return string(p.Mark) }); err != nil {
		return err
	}
	return nc.Flush()
}

func (p tunnelPeer) Remove(ctx context.Context) error {
	f, err := get(ctx, inet(), p.peers(), address(p.addr))
	if err != nil || f == nil {
		return err
	}
	nc := writer()
	if err := remove(nc, inet(), []element{p.element(p.addr)}); err != nil {
		return err
	}
	return absent(nc.Flush())
}
