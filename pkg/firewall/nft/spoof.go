package nft

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// The spoof check is a table of its own, "bridge dockyard": frames that come in
// by a guarded port must bear its container's source address.
//
//	map ports { type ifname : verdict; }
//	chain prerouting { type filter hook prerouting priority -300; iifname vmap @ports; }
//	chain <port> { ether saddr <MAC> return; drop; }
//
// The chain has the port's name, so the name is all that removal needs.
func bridgeTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyBridge}
}

var guarded = set{"ports", []nftables.SetDatatype{name}, verdicts}

const spoofHook = "prerouting"

// SpoofTable returns the table of the spoof check.
func SpoofTable() engine.Resource { return spoofTable{} }

type spoofTable struct{}

func (spoofTable) Key() string { return "nft table bridge " + tableName }

func (spoofTable) String() string {
	return "nft add chain bridge " + tableName + " " + spoofHook + " { type filter hook prerouting priority -300 ; } ; nft add rule bridge " +
		tableName + " " + spoofHook + " iifname vmap @" + guarded.name
}

func (spoofTable) Observe(ctx context.Context) (engine.Diff, error) {
	present, err := chainExists(ctx, bridgeTable(), spoofHook)
	if err != nil || !present {
		return engine.Absent, err
	}
	rules, err := reader().GetRules(bridgeTable(), &nftables.Chain{Name: spoofHook})
	if err != nil {
		return engine.Same, err
	}
	return engine.Differ("rules", len(rules), 1), nil
}

func (s spoofTable) Apply(ctx context.Context) error {
	diff, err := s.Observe(ctx)
	if err != nil || diff == engine.Same {
		return err
	}
	nc := writer()
	t := nc.AddTable(bridgeTable())
	if err := nc.AddSet(guarded.in(t), nil); err != nil {
		return err
	}
	ch := nc.AddChain(&nftables.Chain{
		Name: spoofHook, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	nc.FlushChain(ch)
	nc.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: rule(iifname(reg0), vmap(guarded))})
	return nc.Flush()
}

func (spoofTable) Remove(context.Context) error {
	nc := writer()
	nc.DelTable(bridgeTable())
	return absent(nc.Flush())
}

// SpoofCheck returns the guard of one port.
func SpoofCheck(m owner.Mark, port string, mac net.HardwareAddr) engine.Resource {
	return spoof{m, port, mac}
}

type spoof struct {
	mark owner.Mark
	port string
	mac  net.HardwareAddr
}

func (s spoof) Key() string { return "nft spoofcheck " + s.port }

func (s spoof) String() string {
	return fmt.Sprintf("nft add chain bridge %s %s { ether saddr %s return ; drop } ; nft add element bridge %s %s { %s comment %q : goto %s }",
		tableName, s.port, s.mac, tableName, guarded.name, s.port, s.mark, s.port)
}

func (s spoof) element() element {
	return vmapElement(guarded, ifname(s.port), s.port, expr.VerdictGoto, s.port)
}

func (s spoof) Observe(ctx context.Context) (engine.Diff, error) {
	f, err := get(ctx, bridgeTable(), guarded, ifname(s.port))
	if err != nil || f == nil {
		return engine.Absent, err
	}
	if f.comment != string(s.mark) || !s.element().sameValue(f) {
		return engine.Differ("owner", f.comment, string(s.mark)), nil
	}
	rules, err := reader().GetRules(bridgeTable(), &nftables.Chain{Name: s.port})
	if err != nil {
		return engine.Same, err
	}
	for _, r := range rules {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Cmp); ok && bytes.Equal(c.Data, s.mac) && len(rules) == 2 {
				return engine.Same, nil
			}
		}
	}
	return engine.Diff(fmt.Sprintf("chain %s does not ask for %s", s.port, s.mac)), nil
}

func (s spoof) Apply(ctx context.Context) error {
	f, err := get(ctx, bridgeTable(), guarded, ifname(s.port))
	if err != nil {
		return err
	}
	if f != nil {
		return engine.ErrExists
	}
	nc := writer()
	t := bridgeTable()
	ch := nc.AddChain(&nftables.Chain{Name: s.port, Table: t})
	nc.FlushChain(ch)
	const saddr, length = 6, 6 // of the Ethernet header
	nc.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: rule(payload(expr.PayloadBaseLLHeader, saddr, length, reg0), equal(reg0, s.mac), back())})
	nc.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: drop()})
	if err := add(nc, t, []element{s.element()}, func(element) string { return string(s.mark) }); err != nil {
		return err
	}
	return nc.Flush()
}

func (s spoof) Remove(ctx context.Context) error {
	t := bridgeTable()
	f, err := get(ctx, t, guarded, ifname(s.port))
	if err != nil {
		return err
	}
	nc := writer()
	if f != nil {
		if err := remove(nc, t, []element{s.element()}); err != nil {
			return err
		}
	}
	if err := deleteChains(ctx, nc, t, []string{s.port}); err != nil {
		return err
	}
	return absent(nc.Flush())
}

// SpoofScope finds the guards of ports whose names are their marks' under the
// prefix.
func SpoofScope(prefix string) engine.Scope { return spoofScope{prefix} }

type spoofScope struct{ prefix string }

func (s spoofScope) Of(ctx context.Context, m owner.Mark) ([]engine.Found, error) {
	port := m.Link(s.prefix)
	present, err := chainExists(ctx, bridgeTable(), port)
	if err != nil || !present {
		return nil, err
	}
	return []engine.Found{{Mark: m, Resource: spoof{mark: m, port: port}}}, nil
}

func (s spoofScope) All(ctx context.Context) ([]engine.Found, error) {
	if present, err := chainExists(ctx, bridgeTable(), spoofHook); err != nil || !present {
		return nil, err
	}
	elems, err := reader().GetSetElements(guarded.in(bridgeTable()))
	if err != nil {
		return nil, err
	}
	var out []engine.Found
	for _, e := range elems {
		m := owner.Mark(e.Comment)
		if port := unix.ByteSliceToString(e.Key); m.Link(s.prefix) == port {
			out = append(out, engine.Found{Mark: m, Resource: spoof{mark: m, port: port}})
		}
	}
	return out, nil
}
