// Package backend chooses between the two firewall backends, nftables and
// iptables, which mean the same.
package backend

import (
	"context"
	"fmt"

	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/iptables"
	"github.com/dockyard-cni/dockyard/pkg/nat"
	"github.com/dockyard-cni/dockyard/pkg/nft"
	"github.com/dockyard-cni/dockyard/pkg/owner"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// A Backend carries out address translation.
type Backend struct {
	Name       string
	Publish    func(nat.Publish) state.Resource
	Masquerade func(nat.Masquerade) state.Resource
	// Conditions judges a publication's conditions.
	Conditions func(ipv6 bool, words []string) error
	// Ready is what must hold for the backend to work.
	Ready state.Resource
	// Table is what must be made before all else.
	Table []state.Resource
	// Guard closes the host's loopback addresses to a link with route_localnet.
	Guard func(link string) state.Resource
	// Hairpin opens a link's published ports to who is behind it.
	Hairpin func(link string) []state.Resource
	scope   func(kind string) state.Scope
}

// NFTables returns the nftables backend, the default.
func NFTables() Backend {
	return Backend{
		Name: "nftables", Publish: nft.Publish, Masquerade: nft.Masquerade, Conditions: nft.ParseConditions,
		Ready: nft.Usable(), Table: []state.Resource{nft.Table()}, Guard: nft.Guard,
		Hairpin: func(link string) []state.Resource { return []state.Resource{nft.Hairpin(link)} },
		scope:   nft.Scope,
	}
}

// IPTables returns the iptables backend, for hosts without nf_tables and for
// those who ask for it.
func IPTables() Backend {
	return Backend{
		Name: "iptables", Publish: iptables.Publish, Masquerade: iptables.Masquerade,
		Conditions: func(_ bool, words []string) error { return iptables.ValidateConditions(words) },
		Ready:      usable{}, Guard: iptables.Guard,
		Hairpin: func(string) []state.Resource { return nil }, // part of Publish
		scope:   iptables.Scope,
	}
}

// Named returns the backend that a configuration asks for; the default where it
// asks for none. A name that is not allowed is reported.
func Named(path string, name *string, r *conf.Report) Backend {
	switch {
	case name == nil || *name == "" || *name == "nftables":
		return NFTables()
	case *name == "iptables":
		return IPTables()
	}
	r.Bad(path, *name, `"nftables" or "iptables"`)
	return NFTables()
}

// Detect returns the backend for an attachment whose configuration asks for
// none: on CHECK the one that ADD used, found again from what is there; on ADD
// nftables, unless the kernel has no nf_tables.
func Detect(ctx context.Context, kind string, m owner.Mark, checking bool) (Backend, error) {
	if checking {
		found, err := iptables.Scope(kind).Of(ctx, m)
		if err != nil || len(found) > 0 {
			return IPTables(), err
		}
		return NFTables(), nil
	}
	missing, err := nft.Missing()
	if missing {
		return IPTables(), err
	}
	return NFTables(), err
}

// Scopes finds the owned objects of one kind in both backends: DEL does not
// know which one ADD used.
func Scopes(kind string) []state.Scope {
	return []state.Scope{NFTables().scope(kind), IPTables().scope(kind)}
}

// usable requires iptables.
type usable struct{}

func (usable) Key() string    { return "iptables" }
func (usable) String() string { return "iptables -t nat -S" }

func (usable) Observe(context.Context) (state.Diff, error) {
	if err := iptables.Usable(); err != nil {
		return state.Diff(fmt.Sprintf("not usable: %v", err)), nil
	}
	return state.Same, nil
}

func (usable) Apply(context.Context) error  { return nil }
func (usable) Remove(context.Context) error { return nil }
