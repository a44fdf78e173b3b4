package nft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// HasFirewalld reports whether firewalld has its table here, as it does while it
// runs, but with FirewallBackend=iptables.
func HasFirewalld() (bool, error) {
	_, err := reader().ListTableOfFamily(firewalldTable, nftables.TableFamilyINet)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

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
