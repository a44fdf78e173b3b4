// Package names is how a host's part in a network on many hosts tells the others
// what its containers are called, and hears it of theirs.
package names

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/daemon/faultlog"
	"github.com/dockyard-cni/dockyard/pkg/daemon/watch"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/overlay/etcdstore"
)

// A Store is where hosts tell one another; see store.Store.
type Store interface {
	Names(ctx context.Context, own map[string]string) (map[netip.Addr][]string, error)
	NamesChanged() <-chan struct{}
}

// An Exchange keeps the names of one network: in the store those of this host's
// records, and beside these records those of the other hosts. What it does is a
// function of all that both say; an event only wakes it.
type Exchange struct {
	Network string
	Subnets []netip.Prefix // what addresses of other hosts' containers are in
	Zone    zone.Store
	Log     *slog.Logger

	refused faultlog.Log
}

const (
	settle  = 5 * time.Millisecond // for events that come together
	resync  = 30 * time.Second     // for what no event told
	retry   = time.Second
	enough  = 5 * time.Second // for one round
	maximum = 1 << 16         // records of one host that are taken
)

// Run works until ctx ends. What it has written stays, as the containers do.
func (e *Exchange) Run(ctx context.Context, s Store) error {
	records, err := watch.Dir(ctx, e.Zone.Containers(), e.Log)
	if err != nil {
		return err
	}
	reader := e.Zone.Reader()
	faults := faultlog.Log{Log: e.Log.With("network", e.Network), Wrong: "names are not exchanged", Right: "names are exchanged"}
	for next := resync; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-s.NamesChanged():
		case <-records:
		case <-time.After(next):
		}
		select {
		case <-ctx.Done():
		case <-time.After(settle):
		}
		next = resync
		err := e.round(ctx, reader, s)
		if err != nil {
			next = retry
		}
		if ctx.Err() == nil {
			faults.Tell(err)
		}
	}
}

func (e *Exchange) round(ctx context.Context, reader *zone.Reader, s Store) error {
	ctx, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	own, err := e.own(reader)
	if err != nil {
		return err
	}
	others, err := s.Names(ctx, own)
	if errors.Is(err, etcdstore.ErrUnregistered) {
		return nil // it wakes us when it is
	}
	if err != nil {
		return err
	}
	return e.Zone.SetRemote(e.Network, e.judge(others))
}

// judge takes what can be believed. Of what cannot it tells once.
func (e *Exchange) judge(others map[netip.Addr][]string) map[netip.Addr][]zone.Record {
	remote := make(map[netip.Addr][]zone.Record, len(others))
	var refused []error
	for _, host := range slices.SortedFunc(maps.Keys(others), netip.Addr.Compare) {
		for _, value := range others[host][:min(len(others[host]), maximum)] {
			r, err := e.parse(value)
			if err != nil {
				refused = append(refused, fmt.Errorf("of host %s: %w", host, err))
				continue
			}
			remote[host] = append(remote[host], r)
		}
	}
	e.refused.Log, e.refused.Wrong, e.refused.Right = e.Log.With("network", e.Network), "names left out", "no names are left out"
	e.refused.Tell(faultlog.Some(refused))
	return remote
}

// own is what this host tells, by what follows the network in a mark.
func (e *Exchange) own(reader *zone.Reader) (map[string]string, error) {
	found, _, err := reader.Read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range slices.Concat(slices.Collect(maps.Values(found))...) {
		if !r.Mark.OnNetwork(e.Network) {
			continue
		}
		if r.Inode() == 0 {
			continue // nobody answers there
		}
		data, err := json.Marshal(r.Public())
		if err != nil {
			return nil, err
		}
		out[r.Mark.Container()+"/"+r.Mark.IfName()] = string(data)
	}
	return out, nil
}

// parse judges what another host says: names that are some, of this network,
// which lead into it.
func (e *Exchange) parse(value string) (zone.Record, error) {
	r, err := zone.ParseRecord([]byte(value))
	if err != nil {
		return r, err
	}
	if r.Network != e.Network {
		return r, fmt.Errorf("record of network %q", r.Network)
	}
	for _, a := range r.Addrs {
		if !slices.ContainsFunc(e.Subnets, func(s netip.Prefix) bool { return s.Contains(a) }) {
			return r, fmt.Errorf("record of %q: address %s is in no subnet of %v", r.Names[0], a, e.Subnets)
		}
	}
	return r.Public(), nil
}
