package zone

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

var _ engine.Joiner = Entry{}

// Join implements engine.Joiner: what a plugin that stands again in a list says of the
// attachment is added to the record.
func (e Entry) Join(ctx context.Context) error {
	unlock, err := e.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	found, err := e.Read(e.Mark)
	if err != nil {
		return errors.Join(engine.ErrExists, err)
	}
	if len(e.Servers) == 0 {
		e.Servers = found.Servers
	}
	parts := found.parts()
	if slices.ContainsFunc(parts, e.same) {
		return nil
	}
	e.NetNSInode = found.NetNSInode
	e.Record = joined(append(parts, e.Record))
	if err = e.refuseHeld(); err != nil {
		return err
	}
	return e.enter()
}

// parts are what each plugin of the list has said; most lists have one. None are where
// somebody has written over them.
func (r Record) parts() (out []Record) {
	if len(r.Parts) == 0 {
		return []Record{r}
	}
	for _, text := range r.Parts {
		p, err := ParseRecord([]byte(text))
		if err != nil {
			return nil
		}
		out = append(out, p)
	}
	return out
}

// joined is one record of several of one attachment. The first counts where there can be
// one value alone.
func joined(parts []Record) Record {
	r := parts[0]
	for _, p := range parts {
		r.Parts = append(r.Parts, string(Entry{Record: p}.encode()))
		r.Names = union(r.Names, p.Names)
		r.Services = union(r.Services, p.Services)
		r.Servers = union(r.Servers, p.Servers)
		r.Subnets = union(r.Subnets, p.Subnets)
		r.Search = union(r.Search, p.Search)
		r.Options = union(r.Options, p.Options)
		r.Internal = r.Internal || p.Internal
		r.Capture = r.Capture || p.Capture
		r.Unique = r.Unique || p.Unique
		r.Domain = cmp.Or(r.Domain, p.Domain)
		r.NetNSName = cmp.Or(r.NetNSName, p.NetNSName)
	}
	return r
}

func union[T comparable](a, b []T) []T {
	a = a[:len(a):len(a)]
	for _, x := range b {
		if !slices.Contains(a, x) {
			a = append(a, x)
		}
	}
	return a
}

// same reports whether a plugin with the entry's configuration has written a record.
func (e Entry) same(found Record) bool {
	want := e.Record
	if e.AnyServers {
		want.Servers = found.Servers
	}
	want.NetNSInode = found.NetNSInode
	if found.Subnets == nil { // an earlier version's
		want.Subnets = nil
	}
	return bytes.Equal((Entry{Record: found}).encode(), (Entry{Record: want}).encode())
}

// whole reports whether a record is what its parts make.
func (r Record) whole() bool {
	parts := r.parts()
	return len(r.Parts) == 0 || parts != nil && bytes.Equal(Entry{Record: r}.encode(), Entry{Record: joined(parts)}.encode())
}
