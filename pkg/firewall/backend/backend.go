// Package backend chooses between the two firewall backends, nftables and
// iptables, which mean the same.
package backend

import (
	"context"
	"fmt"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
	"github.com/dockyard-cni/dockyard/pkg/firewall/iptables"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nat"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
)

// A Backend carries out address translation.
type Backend struct {
	Name       string
	Publish    func(nat.Publish) engine.Resource
	Masquerade func(nat.Masquerade) engine.Resource
	// Conditions judges a publication's conditions.
	Conditions func(ipv6 bool, words []string) error
	// Ready is what must hold for the backend to work.
	Ready engine.Resource
	// Table is what must be made before all else.
	Table []engine.Resource
	// Guard closes the host's loopback addresses to a link with route_localnet.
	Guard func(link string) []engine.Resource
	// Hairpin opens a link's published ports to who is behind it.
	Hairpin func(link string) []engine.Resource
	scope   func(kind string) engine.Scope
}

// NFTables returns the nftables backend, the default.
func NFTables() Backend {
	return Backend{
		Name: "nftables", Publish: nft.Publish, Masquerade: nft.Masquerade, Conditions: nft.ParseConditions,
		Ready: nft.Usable(), Table: []engine.Resource{nft.Table()},
		Guard:   func(string) []engine.Resource { return nil }, // part of Table, for all links
		Hairpin: func(link string) []engine.Resource { return []engine.Resource{nft.Hairpin(link)} },
		scope:   nft.Scope,
	}
}

// IPTables returns the iptables backend, for hosts without nf_tables and for
// those who ask for it.
func IPTables() Backend {
	return Backend{
		Name: "iptables", Publish: iptables.Publish, Masquerade: iptables.Masquerade,
		Conditions: func(_ bool, words []string) error { return iptables.ValidateConditions(words) },
		Ready:      usable{}, Guard: func(link string) []engine.Resource { return []engine.Resource{iptables.Guard(link)} },
		Hairpin: func(string) []engine.Resource { return nil }, // part of Publish
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
	missing, err := nft.Missing(ctx)
	if missing {
		return IPTables(), err
	}
	return NFTables(), err
}

// Scopes finds the owned objects of one kind in both backends: DEL does not
// know which one ADD used.
func Scopes(kind string) []engine.Scope {
	return []engine.Scope{NFTables().scope(kind), IPTables().scope(kind)}
}

// usable requires iptables.
type usable struct{}

func (usable) Key() string    { return "iptables" }
func (usable) String() string { return "iptables -t nat -S" }

func (usable) Observe(context.Context) (engine.Diff, error) {
	if err := iptables.Usable(); err != nil {
		return engine.Diff(fmt.Sprintf("not usable: %v", err)), nil
	}
	return engine.Same, nil
}

func (usable) Apply(context.Context) error  { return nil }
func (usable) Remove(context.Context) error { return nil }
