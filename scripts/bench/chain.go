package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"
)

const firstPort = 20000

// chainRow measures what a runtime does for a container, on an empty host and on
// one that has many.
func chainRow(ctx context.Context, o options, r *report) error {
	ours, iptables, nftables := contenders(o)
	sites, err := newSites("chain", ours, iptables, nftables, ours.dualStack(), iptables.dualStack())
	if err != nil {
		return err
	}
	defer closeSites(sites)
	for _, present := range []int{0, o.containers} {
		if err := fill(ctx, sites, present); err != nil {
			return err
		}
		if err := chainAt(ctx, o, sites, present); err != nil {
			return err
		}
		reportChain(r, sites, present)
	}
	return nil
}

// fill attaches containers until n are present, and one more that it detaches,
// so that what only the first one needs is there.
func fill(ctx context.Context, sites []*site, n int) error {
	return prepare(sites, func(s *site) error {
		start := time.Now()
		defer func() {
			slog.Info("attached", "to", s.name, "containers", n, "in", time.Since(start).Round(time.Second).String())
		}()
		for ; s.present < n; s.present++ {
			if _, _, err := s.add(ctx, firstPort+s.present); err != nil {
				return err
			}
		}
		return s.addAndDel(ctx, "warm-up")
	})
}

func chainAt(ctx context.Context, o options, sites []*site, present int) error {
	return alternate(ctx, o.iterations, sites, func(s *site, _ int) error {
		return s.addAndDel(ctx, at(present))
	})
}

func at(present int) string { return fmt.Sprintf(" at %d", present) }

// addAndDel times both for a new container. The namespace stays until the row is
// done, because the kernel's cleaning up would fall into another's turn.
func (s *site) addAndDel(ctx context.Context, when string) error {
	netns, err := newNetNS()
	if err != nil {
		return err
	}
	container := attachment(filepath.Base(netns), netns, []any{port(8080)})
	if err := s.timed("ADD"+when, func() error {
		_, err := s.cni.AddNetworkList(ctx, s.network, container)
		return err
	}); err != nil {
		return err
	}
	return s.timed("DEL"+when, func() error { return s.cni.DelNetworkList(ctx, s.network, container) })
}

func reportChain(r *report, sites []*site, present int) {
	ours, iptables, nftables, oursDual, iptablesDual := sites[0], sites[1], sites[2], sites[3], sites[4]
	for _, verb := range []string{"ADD", "DEL"} {
		what := verb + at(present)
		label := fmt.Sprintf("bridge + NAT + isolation + 1 port: %s, %d containers present", verb, present)
		r.compare(label, "iptables, firewall", "ms", ours.median(what), iptables.median(what))
		r.compare(label, "nftables, no isolation", "ms", ours.median(what), nftables.median(what))
		r.compare(label+", dual stack", "iptables, firewall", "ms", oursDual.median(what), iptablesDual.median(what))
		r.flat(fmt.Sprintf("ours: %s, %d containers present, dual stack against IPv4", verb, present), "ms",
			oursDual.median(what), ours.median(what))
		if present > 0 {
			r.flat(fmt.Sprintf("ours: %s, %d containers present against none", verb, present), "ms",
				ours.median(what), ours.median(verb+at(0)))
		}
	}
}
