package nft

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// ResolverMark is on packets of the resolver's own inside a container, which
// must not be led back to it.
const ResolverMark = 0xd0c4a2d

const (
	resolverTable = "dockyard-dns"
	resolverPort  = 53
)

// A Resolver leads a container's queries to the resolver's sockets in its
// namespace. It is a table of its own there:
//
//	table inet dockyard-dns {
//	  chain output {
//	    type nat hook output priority -100;
//	    meta mark 0xd0c4a2d return
//	    ip daddr 127.0.0.11 udp dport 53 dnat ip to 127.0.0.11:<UDP>
//	    ip daddr 127.0.0.11 tcp dport 53 dnat ip to 127.0.0.11:<TCP>
//	  }
//	}
//
// With Capture queries to other servers come to it too, of each family that it
// has sockets of, but for those on the container's own loopback.
type Resolver struct {
	NS      *netns.NS
	Sockets []Sockets
	Capture bool
}

// Sockets are where queries of one family are answered: an address of the
// loopback, and its ports.
type Sockets struct {
	Addr     netip.Addr
	UDP, TCP uint16
}

func (s Sockets) String() string { return fmt.Sprintf("%s udp %d tcp %d", s.Addr, s.UDP, s.TCP) }

// Key implements engine.Resource.
func (r Resolver) Key() string { return "nft " + r.NS.String() + "table inet " + resolverTable }

func (r Resolver) String() string {
	return fmt.Sprintf("nsenter --net=%s nft add rule inet %s output %s", r.NS.Path(), resolverTable, r.describe())
}

// describe is what the rules are made of; each bears it.
func (r Resolver) describe() string {
	return fmt.Sprintf("%s capture %t", strings.Trim(fmt.Sprint(r.Sockets), "[]"), r.Capture)
}

func (r Resolver) table() *nftables.Table {
	return &nftables.Table{Name: resolverTable, Family: nftables.TableFamilyINet}
}

// closing is how many connections are closed at a time: each waits for the kernel,
// on a thread.
var closing = make(chan struct{}, 4)

// conn returns a connection in the namespace, and what closes it, apart, as that
// waits for the kernel.
func (r Resolver) conn() (c *nftables.Conn, done func(), err error) {
	err = r.NS.Do(func() (err error) { // the library would do so on a thread of its own
		c, err = nftables.New(nftables.AsLasting())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return c, func() {
		go func() {
			closing <- struct{}{}
			_ = c.CloseLasting()
			<-closing
		}()
	}, nil
}

// Exists reports whether the table is there, whatever is in it: the container's root may
// have filled it, so its rules are not listed.
func (r Resolver) Exists() (bool, error) {
	c, done, err := r.conn()
	if err != nil {
		return false, err
	}
	defer done()
	_, err = c.ListTableOfFamily(resolverTable, nftables.TableFamilyINet)
	return err == nil, absent(err)
}

// Observe implements engine.Resource.
func (r Resolver) Observe(context.Context) (engine.Diff, error) {
	c, done, err := r.conn()
	if err != nil {
		return engine.Same, err
	}
	defer done()
	rules, err := c.GetRules(r.table(), &nftables.Chain{Name: "output", Table: r.table()})
	if err != nil || len(rules) == 0 {
		return engine.Absent, absent(err)
	}
	diff := engine.Differ("rules", len(rules), len(r.rules()))
	for _, rule := range rules {
		comment, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
		diff = engine.First(diff, engine.Differ("rule", comment, r.describe()))
	}
	return diff, nil
}

// Apply implements engine.Resource.
func (r Resolver) Apply(context.Context) error {
	c, done, err := r.conn()
	if err != nil {
		return err
	}
	defer done()
	t := c.AddTable(r.table())
	ch := c.AddChain(&nftables.Chain{
		Name: "output", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	c.FlushChain(ch)
	for _, exprs := range r.rules() {
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, r.describe())})
	}
	return c.Flush()
}

func (r Resolver) rules() []exprs {
	out := []exprs{rule(meta(expr.MetaKeyMARK, reg0), equal(reg0, binaryutil.NativeEndian.PutUint32(ResolverMark)), back())}
	for _, s := range r.Sockets {
		f := familyOf(s.Addr)
		if s.Addr != loopback6 { // where a server of the container's own may be
			out = append(out, s.lead(rule(f.is(), f.loadDaddr(reg0), equal(reg0, s.Addr.AsSlice())))...)
		}
		if r.Capture {
			own := rule(f.is(), f.loadDaddr(f.after()), within(f.after(), f.loopback()))
			out = append(out, rule(own, back()))
			out = append(out, s.lead(f.is())...)
		}
	}
	return out
}

// loopback is the family's addresses that never leave a host.
func (f family) loopback() netip.Prefix {
	if f == v4 {
		return netip.MustParsePrefix("127.0.0.0/8")
	}
	return netip.PrefixFrom(loopback6, loopback6.BitLen())
}

// lead translates queries that match.
func (s Sockets) lead(match exprs) (out []exprs) {
	f := familyOf(s.Addr)
	for _, by := range []struct {
		proto byte
		to    uint16
	}{{unix.IPPROTO_UDP, s.UDP}, {unix.IPPROTO_TCP, s.TCP}} {
		out = append(out, rule(match, l4proto(reg0), equal(reg0, []byte{by.proto}), thDport(reg0), equal(reg0, port(resolverPort)), exprs{
			&expr.Immediate{Register: reg0, Data: s.Addr.AsSlice()},
			&expr.Immediate{Register: f.after(), Data: port(by.to)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nfproto), RegAddrMin: reg0, RegProtoMin: f.after(), Specified: true},
		}))
	}
	return out
}

// Remove implements engine.Resource.
func (r Resolver) Remove(context.Context) error {
	c, done, err := r.conn()
	if err != nil {
		return err
	}
	defer done()
	c.DelTable(r.table())
	return absent(c.Flush())
}
