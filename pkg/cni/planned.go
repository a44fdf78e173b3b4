package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"

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

// An Allotter is a Config that knows better than its author from which addresses
// the IPAM plugin is to take one: those that this host holds of a network on many
// hosts. Allot returns the "ipam" object to hand on, before IPAM's ADD and STATUS.
type Allotter interface {
	Allot(context.Context, *Request) (json.RawMessage, error)
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

// A Limiter is a Config that knows what existing containers suffer from; it is
// asked on STATUS, after what ADD would need.
type Limiter interface {
	Limited(context.Context) error
}

// A Linker is a Config whose plugin makes the interface. Links returns, after
// Apply, the interfaces to report; the last is the container's.
type Linker interface {
	Links(context.Context, *Attachment) ([]*current.Interface, error)
}

// A Reporter is a Config of a chained plugin that adds to what earlier plugins
// reported, such as a name server, or corrects it. Report is called on ADD after
// Apply, with a copy of the result.
type Reporter interface {
	Report(*Attachment, *current.Result)
}

// A FromResult is a Linker that, if FromResult is true, takes the addresses of
// the plugin before it in the list over, where there is one and no IPAM plugin
// is named.
type FromResult interface {
	FromResult() bool
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
	// Level is the version of the reference plugin that runtimes which ask for
	// one by number may take this plugin for ("v1.9.1"); empty if none does.
	Level string
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
	if err = require(ctx, r, c); err != nil {
		return nil, err
	}
	if err = allot(ctx, c, r); err != nil {
		return nil, err
	}
	return p.addWithAddresses(ctx, r, c, linker)
}

// require fails if the host lacks what the plan requires, before IPAM is asked:
// then nothing has changed.
func require(ctx context.Context, r *Request, c Config) error {
	a := &Attachment{Request: r}
	if err := resolve(ctx, c, a); err != nil {
		return err
	}
	return state.Apply(ctx, c.Plan(a).Requirements())
}

// addWithAddresses tries another address where a host that the IPAM plugin knows
// nothing of has the one that it gave, for as long as it gives others.
func (p Planned) addWithAddresses(ctx context.Context, r *Request, c Config, linker Linker) (*current.Result, error) {
	const tries = 8
	refused := map[string]bool{}
	for {
		res, err := r.addresses(ctx, c)
		if err != nil {
			return nil, err
		}
		given := fmt.Sprint(res.IPs)
		res, err = p.addLink(ctx, r, c, linker, res)
		if err == nil {
			return res, nil
		}
		err = errors.Join(err, r.ipam().del(context.WithoutCancel(ctx)))
		if !errors.Is(err, state.ErrDuplicate) || refused[given] || len(refused) == tries {
			return nil, err
		}
		refused[given] = true
	}
}

// addresses are those of the IPAM plugin, or of prevResult.
func (r *Request) addresses(ctx context.Context, c Config) (*current.Result, error) {
	if f, ok := c.(FromResult); ok && f.FromResult() && r.Prev != nil && !r.HasIPAM() {
		res := *r.Prev
		res.Interfaces = nil // the addresses move to ours
		res.IPs = nil
		for _, ip := range r.Prev.IPs {
			res.IPs = append(res.IPs, &current.IPConfig{Address: ip.Address, Gateway: ip.Gateway})
		}
		return &res, nil
	}
	return r.ipam().add(ctx)
}

func allot(ctx context.Context, c Config, r *Request) error {
	al, ok := c.(Allotter)
	if !ok || !r.HasIPAM() {
		return nil
	}
	ipam, err := al.Allot(ctx, r)
	if err != nil {
		return err
	}
	return r.setIPAM(ipam)
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
		err = state.Apply(ctx, c.Plan(a).Works())
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

// Status implements Verbs. What ADD would answer with "try again later" is not
// ready now.
func (p Planned) Status(ctx context.Context, r *Request) error {
	err := p.status(ctx, r)
	if err != nil && codeOf(err) == CodeTryAgain {
		return Errorf(CodeNotReady, "%w", err)
	}
	return err
}

func (p Planned) status(ctx context.Context, r *Request) error {
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
	if err := allot(ctx, c, r); err != nil {
		return err
	}
	if l, ok := c.(Limiter); ok {
		if err := l.Limited(ctx); err != nil {
			return Errorf(CodeLimited, "%w", err)
		}
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

// Bridge returns the host's link by which it reaches the container: via, to which
// the host's own route leads, if that is one of HostLinks, as it tells a bridge
// from its link in a VLAN; otherwise, as the host may have no route of its own
// there, the first of them.
func (a *Attachment) Bridge(via string) string {
	links := a.HostLinks()
	switch {
	case len(links) == 0:
		return ""
	case slices.Contains(links, via):
		return via
	}
	return links[0]
}

func (a *Attachment) String() string { return fmt.Sprint(a.Request) }
