package cni

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/conf"
	"github.com/dockyard-cni/dockyard/pkg/state"
)

// A Config is the configuration of a plugin that works by plan.
type Config interface {
	// Validate reports every problem of the decoded configuration.
	Validate(*Request, *conf.Report)

	// Plan is a pure function of the configuration and the attachment: it
	// reads nothing from the host.
	Plan(*Attachment) state.Plan
}

// A Completer is a Config that adds to what the IPAM plugin returned (a gateway,
// a default route). Complete is a pure function, called on ADD before Plan; on
// CHECK prevResult has it all.
type Completer interface {
	Complete(*Attachment) error
}

// A Resolver is a Config some of whose defaults depend on the host (the MTU of
// the default route, the firewall backend). Resolve fills them in before Plan
// on ADD and CHECK. On CHECK a default that the host has since changed must not
// make the attachment wrong.
type Resolver interface {
	Resolve(context.Context, *Attachment) error
}

// A Warner is a Config that has something to say on STATUS that is no reason to
// be not ready: it may come to nothing, or concern what is beside the plugin.
type Warner interface {
	Warnings(context.Context) []string
}

// A Linker is a Config whose plugin makes the interface. Links returns, after
// Apply, the interfaces to report; the last is the container's.
type Linker interface {
	Links(context.Context, *Attachment) ([]*current.Interface, error)
}

// A Reporter is a Config of a chained plugin that has something to add to the
// result of the plugins before it, such as a name server. Report gets a copy.
type Reporter interface {
	Report(*Attachment, *current.Result)
}

// An Attachment is what a plan is made for.
type Attachment struct {
	*Request
	IPs    []IP
	Routes []*types.Route
	DNS    types.DNS
	// MAC is the container interface's hardware address as prevResult gives it,
	// nil on ADD of a plugin that makes the interface.
	MAC net.HardwareAddr
	// Checking is true on CHECK.
	Checking bool
}

// Planned is the Verbs of a plugin that works by plan.
type Planned struct {
	// New returns a configuration with its defaults, to decode into.
	New func() Config
	// Scopes returns where the plugin's owned objects are found. It must not
	// depend on the configuration: DEL and GC work without a valid one.
	Scopes func(*Request) []state.Scope
}

// Load decodes and validates the configuration of r. All problems come in one
// error; warnings go to stderr.
func (p Planned) Load(r *Request) (Config, error) {
	c, report := p.judge(r)
	r.Warn(report.Warnings()...)
	if err := report.Err(); err != nil {
		return nil, Errorf(CodeConfig, "%w", err)
	}
	return c, nil
}

// Add implements Verbs.
func (p Planned) Add(ctx context.Context, r *Request) (*current.Result, error) {
	c, err := p.Load(r)
	if err != nil {
		return nil, err
	}
	if err = r.openNetNS(ctx); err != nil {
		return nil, err
	}
	linker, makes := c.(Linker)
	if !makes {
		return p.addChained(ctx, r, c)
	}
	if err = p.refuseSecond(ctx, r); err != nil {
		return nil, err
	}
	res, err := r.ipam().add(ctx)
	if err != nil {
		return nil, err
	}
	res, err = p.addLink(ctx, r, c, linker, res)
	if err != nil {
		return nil, errors.Join(err, r.ipam().del(context.WithoutCancel(ctx)))
	}
	return res, nil
}

// refuseSecond fails if the attachment exists, before anything is touched: the
// lease of the first must survive the second.
func (p Planned) refuseSecond(ctx context.Context, r *Request) error {
	for _, s := range p.Scopes(r) {
		found, err := s.Of(ctx, r.Mark())
		if err != nil {
			return err
		}
		for _, f := range found {
			return Errorf(CodeExists, "%s: %w: this attachment was made by an earlier ADD; DEL it first", f.Key(), state.ErrExists)
		}
	}
	return nil
}

func (p Planned) addLink(ctx context.Context, r *Request, c Config, linker Linker, res *current.Result) (*current.Result, error) {
	a, err := newAttachment(r, res)
	if err == nil {
		err = complete(c, a)
	}
	if err == nil {
		err = resolveAndApply(ctx, c, a)
	}
	if err != nil {
		return nil, err
	}
	links, err := linker.Links(ctx, a)
	if err != nil {
		return nil, errors.Join(err, state.Release(context.WithoutCancel(ctx), p.Scopes(r), r.Mark()))
	}
	return newResult(a, links), nil
}

func resolveAndApply(ctx context.Context, c Config, a *Attachment) error {
	if err := resolve(ctx, c, a); err != nil {
		return err
	}
	return state.Apply(ctx, c.Plan(a))
}

func resolve(ctx context.Context, c Config, a *Attachment) error {
	if res, ok := c.(Resolver); ok {
		return res.Resolve(ctx, a)
	}
	return nil
}

func (r *Request) needsPrev() error {
	return Errorf(CodeConfig, "prevResult: missing, want the result of an earlier plugin; put %q after one that makes the interface", r.Type)
}

// addChained adjusts what an earlier plugin made. What is left of an attachment
// of the same name is a dead one's: had it been alive, the plugin that makes
// the interface would have refused.
func (p Planned) addChained(ctx context.Context, r *Request, c Config) (*current.Result, error) {
	if r.Prev == nil {
		return nil, r.needsPrev()
	}
	a, err := newAttachment(r, r.Prev)
	if err != nil {
		return nil, err
	}
	if err := state.Release(ctx, p.Scopes(r), r.Mark()); err != nil {
		return nil, err
	}
	if err := resolveAndApply(ctx, c, a); err != nil {
		return nil, err
	}
	rep, ok := c.(Reporter)
	if !ok {
		return r.Prev, nil
	}
	res := *r.Prev
	rep.Report(a, &res)
	return &res, nil
}

// Check implements Verbs.
func (p Planned) Check(ctx context.Context, r *Request) error {
	c, err := p.Load(r)
	if err != nil {
		return err
	}
	if err = r.openNetNS(ctx); err != nil {
		return err
	}
	if r.Prev == nil {
		return Errorf(CodeConfig, "prevResult: missing, want the result of ADD")
	}
	a, err := newAttachment(r, r.Prev)
	if err != nil {
		return err
	}
	a.Checking = true
	if err := resolve(ctx, c, a); err != nil {
		return err
	}
	var delegated error
	if _, makes := c.(Linker); makes {
		delegated = r.ipam().check(ctx)
	}
	if err := state.Check(ctx, c.Plan(a)); err != nil {
		return Errorf(CodeDiffers, "%w", errors.Join(err, delegated))
	}
	return delegated
}

// Del implements Verbs. Each part is done whatever becomes of the others; the
// lease goes last, so that no address is given out again while rules name it.
func (p Planned) Del(ctx context.Context, r *Request) error {
	ctx = context.WithoutCancel(ctx) // half a DEL helps nobody
	err := state.Release(ctx, p.Scopes(r), r.Mark())
	return errors.Join(err, p.delegate(r, func(i ipam) error { return i.del(ctx) }))
}

// GC implements Verbs.
func (p Planned) GC(ctx context.Context, r *Request) error {
	err := state.Prune(ctx, p.Scopes(r), r.Keep)
	return errors.Join(err, p.delegate(r, func(i ipam) error { return i.gc(ctx) }))
}

// Status implements Verbs.
func (p Planned) Status(ctx context.Context, r *Request) error {
	c, err := p.Load(r)
	if err != nil {
		return err
	}
	a := &Attachment{Request: r}
	if err := resolve(ctx, c, a); err != nil {
		return err
	}
	if err := state.Check(ctx, c.Plan(a).Requirements()); err != nil {
		return Errorf(CodeNotReady, "%w", err)
	}
	if w, ok := c.(Warner); ok {
		r.Warn(w.Warnings(ctx)...)
	}
	return p.delegate(r, func(i ipam) error { return i.status(ctx) })
}

func (p Planned) delegate(r *Request, call func(ipam) error) error {
	if _, makes := p.New().(Linker); !makes {
		return nil
	}
	return call(r.ipam())
}

func newAttachment(r *Request, res *current.Result) (*Attachment, error) {
	addrs, err := ips(res, r.Owner.IfName)
	if err != nil {
		return nil, err
	}
	a := &Attachment{Request: r, IPs: addrs, Routes: res.Routes, DNS: res.DNS}
	for _, i := range res.Interfaces {
		if i.Name == r.Owner.IfName && i.Sandbox != "" {
			if a.MAC, err = net.ParseMAC(i.Mac); err != nil && i.Mac != "" {
				return nil, Errorf(CodeDecode, "prevResult: interface %q: %w", i.Name, err)
			}
		}
	}
	return a, nil
}

// newResult reports the links, and the addresses as the last one's.
func newResult(a *Attachment, links []*current.Interface) *current.Result {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion, Interfaces: links, Routes: a.Routes, DNS: a.DNS}
	for _, dns := range []types.DNS{a.Base.DNS, a.runtimeDNS()} { // the runtime's comes last, so wins
		if !dns.IsEmpty() {
			res.DNS = dns
		}
	}
	for _, ip := range a.IPs {
		c := &current.IPConfig{Address: ip.net(), Interface: current.Int(len(links) - 1)}
		if ip.Gateway.IsValid() {
			c.Gateway = ip.Gateway.AsSlice()
		}
		res.IPs = append(res.IPs, c)
	}
	return res
}

// HostLinks returns the interfaces of prevResult that are not in a container:
// of a bridge network the bridge, its link in the VLAN if there is one, and the
// host's end of the pair.
func (a *Attachment) HostLinks() (names []string) {
	if a.Prev == nil {
		return nil
	}
	for _, i := range a.Prev.Interfaces {
		if i.Sandbox == "" {
			names = append(names, i.Name)
		}
	}
	return names
}

// HostEnd returns the host's link that is gone when the container is: of
// HostLinks the last before the container's own, as plugins list what they make
// from the outside to the inside. (The reference bridge lists its link in a VLAN
// after both.)
func (a *Attachment) HostEnd() (name string) {
	if a.Prev == nil {
		return ""
	}
	for _, i := range a.Prev.Interfaces {
		if i.Sandbox != "" {
			break
		}
		name = i.Name
	}
	return name
}

func (a *Attachment) String() string { return fmt.Sprint(a.Request) }
