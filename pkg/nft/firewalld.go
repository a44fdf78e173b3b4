package nft

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/state"
)

// KnownToFirewalld returns a requirement: that firewalld runs, with its nftables
// backend, and has the bridge in a zone. Its rules reject what it does not know,
// and no rule in another table can overrule that.
func KnownToFirewalld(bridge, zone string) state.Resource { return firewalld{bridge, zone} }

type firewalld struct{ bridge, zone string }

func (f firewalld) Key() string { return "firewalld " + f.bridge }

func (f firewalld) String() string {
	return fmt.Sprintf("firewall-cmd --permanent --zone=%s --add-interface=%s ; firewall-cmd --reload", f.zone, f.bridge)
}

// Observe looks for a rule of firewalld that names the bridge, whatever zone it
// is of.
func (f firewalld) Observe(context.Context) (state.Diff, error) {
	chains, err := reader().ListChains()
	if err != nil {
		return state.Same, err
	}
	i := slices.IndexFunc(chains, func(ch *nftables.Chain) bool { return ch.Table.Name == firewalldTable })
	switch {
	case i < 0:
		return "firewalld has no table in nftables: it does not run, or not with FirewallBackend=nftables", nil
	case !mentioned(chains, chains[i].Table, f.bridge):
		return state.Diff("firewalld does not know " + f.bridge), nil
	}
	return state.Same, nil
}

func (firewalld) Apply(context.Context) error  { return nil }
func (firewalld) Remove(context.Context) error { return nil }

const firewalldTable = "firewalld"

// Blockers names what may reject traffic that a bridge forwards and that no
// rule of ours can overrule, as far as nf_tables can tell: base chains at the
// forward hook whose policy is to drop, and firewalld where it does not know
// the bridge. Each is a hint for a person; an administrator's rules may accept
// the traffic all the same.
func Blockers(bridge string) ([]string, error) {
	chains, err := reader().ListChains()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, ch := range chains {
		iptables := ch.Table.Name == "filter" && ch.Name == "FORWARD" // see ForwardAccept
		if ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward || ch.Table.Name == tableName || iptables {
			continue
		}
		name := fmt.Sprintf("table %s, chain %s", ch.Table.Name, ch.Name)
		if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			out = append(out, name+" drops what it does not accept; see that it accepts what "+bridge+" forwards")
		}
		if ch.Table.Name == firewalldTable && !mentioned(chains, ch.Table, bridge) {
			out = append(out, name+" rejects what firewalld does not know; put "+bridge+" into a zone that forwards: firewall-cmd --permanent --zone=trusted --add-interface="+bridge)
		}
	}
	return out, nil
}

// mentioned reports whether a rule of the table compares something with the
// name of the link.
func mentioned(chains []*nftables.Chain, t *nftables.Table, link string) bool {
	return slices.ContainsFunc(chains, func(ch *nftables.Chain) bool {
		if ch.Table.Name != t.Name || ch.Table.Family != t.Family {
			return false
		}
		rules, err := reader().GetRules(t, ch)
		return err != nil || slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return compares(r, link) })
	})
}

func compares(r *nftables.Rule, link string) bool {
	return slices.ContainsFunc(r.Exprs, func(e expr.Any) bool {
		c, ok := e.(*expr.Cmp)
		return ok && unix.ByteSliceToString(c.Data) == link
	})
}
