package nft

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// ForwardAccept lets a bridge's traffic through iptables' FORWARD chain where
// its policy is to drop, as Docker and careful administrators set it: a verdict
// to accept in our own table does not overrule a drop in another. Rules go last,
// behind the administrator's own, in a form that iptables lists and saves. Where
// the policy is to accept, nothing is needed and nothing is made.
func ForwardAccept(bridge string) engine.Resource { return forward{bridge} }

type forward struct{ bridge string }

func (f forward) Key() string { return "forward " + f.bridge }

func (f forward) String() string {
	return fmt.Sprintf("iptables -P FORWARD ACCEPT || iptables -A FORWARD -i %s -j ACCEPT ; iptables -A FORWARD -o %s -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT", f.bridge, f.bridge)
}

// filterTables are those of iptables and ip6tables (nf_tables variant).
func filterTables() []*nftables.Table {
	return []*nftables.Table{
		{Name: "filter", Family: nftables.TableFamilyIPv4},
		{Name: "filter", Family: nftables.TableFamilyIPv6},
	}
}

func (f forward) Observe(ctx context.Context) (engine.Diff, error) {
	for _, t := range filterTables() {
		missing, err := f.missing(ctx, t)
		if err != nil || len(missing) > 0 {
			return engine.Diff(fmt.Sprintf("%s: chain FORWARD drops what is not accepted, and %s is not", familyName(t), f.bridge)), err
		}
	}
	return engine.Same, nil
}

func familyName(t *nftables.Table) string {
	if t.Family == nftables.TableFamilyIPv4 {
		return "iptables"
	}
	return "ip6tables"
}

// forwardLock is held from looking for a rule to adding it: the kernel takes any
// number of the same rules, which nobody would ever remove.
const forwardLock = "/run/dockyard/forward.lock"

// Apply locks only where something is missing.
func (f forward) Apply(ctx context.Context) error {
	if diff, err := f.Observe(ctx); err != nil || diff == engine.Same {
		return err
	}
	unlock, err := filelock.Acquire(ctx, forwardLock)
	if err != nil {
		return err
	}
	defer unlock()
	for _, t := range filterTables() {
		missing, err := f.missing(ctx, t)
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			continue
		}
		nc := writer()
		for _, r := range missing {
			nc.AddRule(&nftables.Rule{Table: t, Chain: forwardChain(t), Exprs: r.exprs, UserData: r.comment()})
		}
		if err := nc.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// Remove has no caller on the way of DEL: the rules are the bridge's.
func (f forward) Remove(ctx context.Context) error {
	for _, t := range filterTables() {
		if present, err := chainExists(ctx, t, "FORWARD"); err != nil || !present {
			if err != nil {
				return err
			}
			continue
		}
		rules, err := reader().GetRules(t, forwardChain(t))
		if err != nil {
			return err
		}
		nc := writer()
		for _, r := range rules {
			for _, own := range f.rules() {
				if string(r.UserData) == string(own.comment()) {
					if err := nc.DelRule(&nftables.Rule{Table: t, Chain: forwardChain(t), Handle: r.Handle}); err != nil {
						return err
					}
				}
			}
		}
		if err := nc.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func forwardChain(t *nftables.Table) *nftables.Chain {
	return &nftables.Chain{Name: "FORWARD", Table: t}
}

// missing returns the rules that t needs and does not have.
func (f forward) missing(ctx context.Context, t *nftables.Table) ([]forwardRule, error) {
	drops, err := policyDrops(ctx, t, "FORWARD")
	if err != nil || !drops {
		return nil, err
	}
	present, err := reader().GetRules(t, forwardChain(t))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(f.rules(), func(r forwardRule) bool {
		return slices.ContainsFunc(present, func(p *nftables.Rule) bool { return string(p.UserData) == string(r.comment()) })
	}), nil
}

// policyDrops reports whether the base chain is there and drops what no rule decides.
func policyDrops(ctx context.Context, t *nftables.Table, chain string) (bool, error) {
	answer, err := query(ctx, unix.NFT_MSG_GETCHAIN, t, chainAttrs(t, chain))
	if err != nil {
		return false, absent(err)
	}
	policy, err := attribute(answer, unix.NFTA_CHAIN_POLICY)
	const nfDrop = 0
	return err == nil && len(policy) == 4 && policy[3] == nfDrop, nil
}

type forwardRule struct {
	name  string
	exprs exprs
}

func (r forwardRule) comment() []byte {
	return userdata.AppendString(nil, userdata.TypeComment, "dockyard "+r.name)
}

func (f forward) rules() []forwardRule {
	counter := exprs{&expr.Counter{}} // iptables expects one
	return []forwardRule{
		{"from " + f.bridge, rule(iifname(1), equal(1, append([]byte(f.bridge), 0)), counter, accept())},
		{"to " + f.bridge, rule(oifname(1), equal(1, append([]byte(f.bridge), 0)), answersAndPublished(), counter, accept())},
	}
}

// answersAndPublished is "-m conntrack --ctstate RELATED,ESTABLISHED,DNAT", by
// iptables' own match, which its tools can print.
func answersAndPublished() exprs {
	const state, established, related, dnat = 1 << 0, 1 << 1, 1 << 2, 1 << 7 // xt_conntrack.h
	info := &xt.ConntrackMtinfo3{ConntrackMtinfo2: xt.ConntrackMtinfo2{StateMask: established | related | dnat}}
	info.MatchFlags = state
	return exprs{&expr.Match{Name: "conntrack", Rev: 3, Info: info}}
}
