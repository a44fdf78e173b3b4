package nft

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/google/nftables/expr"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Mode says what may reach the containers of a network from outside it, in
// Docker's words (com.docker.network.bridge.gateway_mode_ipv4).
type Mode string

// The modes of a gateway.
const (
	Open        Mode = ""                // anything, as the reference plugin does
	NAT         Mode = "nat"             // published ports, by the host's addresses
	Unprotected Mode = "nat-unprotected" // anything; outgoing traffic is masqueraded
	Routed      Mode = "routed"          // published ports and ping, by the container's address
	Isolated    Mode = "isolated"        // the network is internal and the host has no address in it
)

// A Policy is what the host forwards to and from a bridge. It belongs to the
// bridge: of two networks on one bridge, the one attached to last decides.
type Policy struct {
	Bridge   string
	Below    string   // the bridge of which Bridge is the host's link in a VLAN, if it is one
	Kin      []string // other links of the host that lead into the same network
	Internal bool     // no way out or in; of the host, only names
	ICC      bool     // containers of the network may talk to one another
	V4, V6   Mode
	Trusted  []string // links from which published ports answer at the container's own address
}

// Resource returns the policy as something to ensure. One that asks for nothing
// ensures that none of an earlier configuration is left.
func (p Policy) Resource() engine.Resource { return p.claim("policy") }

// Ingress returns the policy as the firewall plugin's: the same elements, under
// a name of its own, so that on one bridge it and the bridge plugin do not take
// each other's away. One of the two may have a policy; the other is told so by a
// HeldError.
func (p Policy) Ingress() engine.Resource { return p.claim("ingress") }

func (p Policy) claim(name string) claim {
	c := claim{kind: "bridge", mark: shared(p.Bridge, name), shared: true}
	for _, f := range families() {
		if chain := p.toChain(f); chain != "" {
			c.elems = append(c.elems, vmapElement(to, concatKey([]byte{f.nfproto}, ifname(p.Bridge)),
				f.name+" . "+p.Bridge, expr.VerdictGoto, chain))
		}
	}
	if len(c.elems) > 0 {
		c.elems = append(c.elems, pair(p.Bridge, p.Bridge, p.peers(), ""))
		c.elems = append(c.elems, sources(p.Bridge, p.Below)...)
	}
	for _, k := range p.Kin {
		c.elems = append(c.elems, p.kin(k)...)
	}
	for _, t := range p.Trusted {
		c.elems = append(c.elems, pair(t, p.Bridge, expr.VerdictGoto, chainOpened))
	}
	if p.Internal {
		hostChain := chainHostInternal
		if p.V4 == Isolated && p.V6 == Isolated {
			hostChain = chainHostIsolated
		}
		c.elems = append(c.elems,
			vmapElement(from, ifname(p.Bridge), p.Bridge, expr.VerdictGoto, chainInternal),
			vmapElement(host, ifname(p.Bridge), p.Bridge, expr.VerdictGoto, hostChain))
		for _, k := range p.Kin {
			c.elems = append(c.elems,
				vmapElement(from, ifname(k), k, expr.VerdictGoto, chainInternal),
				vmapElement(host, ifname(k), k, expr.VerdictGoto, hostChain))
		}
	}
	return c
}

// kin is for a link by which the rest of the network is reached: what holds for
// the bridge holds for it, and for what goes from one to the other.
func (p Policy) kin(link string) (elems []element) {
	for _, f := range families() {
		if chain := p.toChain(f); chain != "" {
			elems = append(elems, vmapElement(to, concatKey([]byte{f.nfproto}, ifname(link)),
				f.name+" . "+link, expr.VerdictGoto, chain))
		}
	}
	if len(elems) > 0 {
		elems = append(elems, pair(p.Bridge, link, p.peers(), ""), pair(link, p.Bridge, p.peers(), ""))
		elems = append(elems, sources(link, "")...)
	}
	return elems
}

// sources says by which link packets from a link's addresses come. Where
// br_netfilter shows bridged packets, those in a VLAN seem to come by the bridge.
func sources(link, below string) []element {
	elems := []element{{set: isolated, links: []string{link}, text: link}, arrival(link, link)}
	if below != "" {
		elems = append(elems, arrival(link, below))
	}
	return elems
}

func arrival(link, by string) element {
	return element{set: arrivals, links: []string{link, by}, text: link + " . " + by}
}

// peers is the verdict on what containers of the network send one another.
func (p Policy) peers() expr.VerdictKind {
	if p.ICC {
		return expr.VerdictAccept
	}
	return expr.VerdictDrop
}

// Wanted reports whether the policy asks for anything.
func (p Policy) Wanted() bool {
	return p.Internal || !p.ICC || p.V4 != Open && p.V4 != Unprotected || p.V6 != Open && p.V6 != Unprotected || len(p.Trusted) > 0
}

// shared is the mark of what belongs to a link rather than to an attachment. No
// network is called "*".
func shared(link, what string) owner.Mark { return owner.Mark("*/" + link + "/" + what) }

// sweep releases the shared claims of links that are gone, as when somebody has
// deleted a network's bridge. It lists, so it is for the rare moment when a link
// gets its first claim.
func sweep(ctx context.Context) error {
	elems, err := reader().GetSetElements(owners.in(inet()))
	if err != nil {
		return err
	}
	for _, e := range elems {
		ix := &index{}
		ix.add(0, e.Key, e.Comment)
		c := claim{kind: ix.kind, mark: ix.mark}
		if !strings.HasPrefix(string(c.mark), "*/") || !slices.Equal(indexKey(c.hash(), 0), e.Key) {
			continue
		}
		if absent, err := gone(c.mark.Container()); err != nil {
			return err
		} else if !absent {
			continue
		}
		if err := c.Remove(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) { // another process was first
			return err
		}
	}
	return nil
}

func (p Policy) toChain(f family) string {
	mode := p.V4
	if f.nfproto == v6.nfproto {
		mode = p.V6
	}
	switch {
	case p.Internal:
		return chainInternal
	case mode == NAT:
		return chainToNAT
	case mode == Routed:
		return chainToRouted
	case !p.ICC:
		return chainToOpen
	}
	return ""
}

func pair(in, out string, kind expr.VerdictKind, chain string) element {
	return vmapElement(pairs, concatKey(ifname(in), ifname(out)), in+" . "+out, kind, chain)
}

func vmapElement(s set, key []byte, text string, kind expr.VerdictKind, chain string) element {
	words := map[expr.VerdictKind]string{expr.VerdictAccept: "accept", expr.VerdictDrop: "drop", expr.VerdictGoto: "goto " + chain, expr.VerdictJump: "jump " + chain}
	return element{set: s, key: key, verdict: &expr.Verdict{Kind: kind, Chain: chain}, text: text + " : " + words[kind]}
}

// concatKey joins values, each padded to 32-bit registers.
func concatKey(parts ...[]byte) (key []byte) {
	for _, p := range parts {
		key = append(key, pad(p)...)
	}
	return key
}
