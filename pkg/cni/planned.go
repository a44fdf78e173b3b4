package cni

import (
	"context"
	"errors"
	"fmt"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// Planned is the Verbs of a plugin that works by plan.
type Planned struct {
	// New returns a configuration with its defaults, to decode into.
	New func() Config
	// Scopes returns where the plugin's owned objects are found. It must not
	// depend on the configuration: DEL and GC work without a valid one.
	Scopes func(*Request) []engine.Scope
	// Light is for a plugin that asks the kernel for little: to tell the runtime of
	// one CPU would take longer than it saves.
	Light bool
}

func (p Planned) light() bool { return p.Light }

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
	return engine.Apply(ctx, c.Plan(a).Requirements())
}

// addWithAddresses tries another address where a host that the IPAM plugin knows
// nothing of has the one that it gave, for as long as it gives others. It tries
// none twice: a machine that was about to take it has given it up by then.
func (p Planned) addWithAddresses(ctx context.Context, r *Request, c Config, linker Linker) (*current.Result, error) {
	const tries = 8
	refused := map[string]error{}
	for {
		res, err := r.addresses(ctx, c)
		if err != nil {
			return nil, err
		}
		given := fmt.Sprint(res.IPs)
		before := refused[given]
		if err = before; err == nil {
			if res, err = p.addLink(ctx, r, c, linker, res); err == nil {
				return res, nil
			}
		}
		err = errors.Join(err, r.ipam().undo(ctx))
		if !errors.Is(err, engine.ErrDuplicate) || before != nil || len(refused) == tries {
			return nil, err
		}
		refused[given] = err
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
			return Errorf(CodeExists, "%s: %w: this attachment was made by an earlier ADD; DEL it first", f.Key(), engine.ErrExists)
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
		err = engine.Apply(ctx, c.Plan(a).Works())
	}
	if err != nil {
		return nil, err
	}
	links, err := linker.Links(ctx, a)
	if err != nil {
		undo, cancel := engine.Undo(ctx)
		defer cancel()
		return nil, errors.Join(err, engine.Release(undo, p.Scopes(r), r.Mark(), r.Warn))
	}
	return newResult(a, links), nil
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

// addChained adjusts what an earlier plugin made. What is there of the same mark
// was made by the same plugin earlier in the list, and stays, or is left of a dead
// attachment: had that been alive, the plugin that makes the interface would have
// refused.
func (p Planned) addChained(ctx context.Context, r *Request, c Config) (*current.Result, error) {
	if r.Prev == nil {
		return nil, r.needsPrev()
	}
	a, err := newAttachment(r, r.Prev)
	if err != nil {
		return nil, err
	}
	if err = resolve(ctx, c, a); err != nil {
		return nil, err
	}
	identity, found, err := r.recorded()
	if err != nil {
		return nil, err
	}
	a.Again = found == identity
	shared, own := c.Plan(a).Cut()
	if err := engine.Apply(ctx, shared); err != nil {
		return nil, err
	}
	if err := p.applyOwn(ctx, r, shared, own); err != nil {
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
	if err := engine.Check(ctx, c.Plan(a)); err != nil {
		return Errorf(CodeDiffers, "%w", errors.Join(err, delegated))
	}
	return delegated
}

// Del implements Verbs. Each part is done whatever becomes of the others; the
// lease goes last, so that no address is given out again while rules name it. What
// a signal ends is to be done again, as any DEL that failed.
func (p Planned) Del(ctx context.Context, r *Request) error {
	err := engine.Release(ctx, p.Scopes(r), r.Mark(), r.Warn)
	if !p.makes() {
		err = errors.Join(err, r.forget())
	}
	return errors.Join(err, p.delegate(r, func(i ipam) error { return i.del(ctx) }))
}

// GC implements Verbs.
func (p Planned) GC(ctx context.Context, r *Request) error {
	err := engine.Prune(ctx, p.Scopes(r), r.Keep, r.Warn)
	if !p.makes() {
		err = errors.Join(err, r.forgetInvalid())
	}
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
	if err := engine.Check(ctx, c.Plan(a).Requirements()); err != nil {
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
	if !p.makes() {
		return nil
	}
	return call(r.ipam())
}

// makes reports whether the plugin makes the interface; else it is a chained one.
func (p Planned) makes() bool {
	_, makes := p.New().(Linker)
	return makes
}
