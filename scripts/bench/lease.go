package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// leaseRow measures host-local by itself, with few and with many leases present.
func leaseRow(ctx context.Context, o options, r *report) error {
	ours, reference, _ := contenders(o)
	sites, err := newSites("leases", ours, reference)
	if err != nil {
		return err
	}
	defer closeSites(sites)
	for _, present := range []int{10, o.leases} {
		iterations := o.slow
		if present == 10 {
			iterations = o.iterations
		}
		if err := leasesAt(ctx, sites, present, iterations); err != nil {
			return err
		}
	}
	for _, verb := range []string{"ADD", "DEL"} {
		for _, present := range []int{10, o.leases} {
			r.compare(fmt.Sprintf("host-local: %s, %d leases present", verb, present), "host-local", "ms",
				sites[0].median(verb+at(present)), sites[1].median(verb+at(present)))
		}
		r.flat(fmt.Sprintf("ours: host-local %s, %d leases against 10", verb, o.leases), "ms",
			sites[0].median(verb+at(o.leases)), sites[0].median(verb+at(10)))
	}
	return nil
}

func leasesAt(ctx context.Context, sites []*site, present, iterations int) error {
	container, err := newNetNS()
	if err != nil {
		return err
	}
	for _, s := range sites {
		if err := writeLeases(s.pool(present), present); err != nil {
			return err
		}
		if err := s.leaseAndRelease(ctx, present, "warm-up", container, " first"); err != nil {
			return err
		}
	}
	return alternate(ctx, iterations, sites, func(s *site, i int) error {
		return s.leaseAndRelease(ctx, present, fmt.Sprintf("new%d", i), container, at(present))
	})
}

// pool names the network whose pool has that many leases.
func (s *site) pool(present int) string { return fmt.Sprintf("%s-%d", s.network.Name, present) }

func (s *site) leaseAndRelease(ctx context.Context, present int, id, netns, when string) error {
	conf := object{
		"cniVersion": "1.0.0", "name": s.pool(present), "type": "host-local",
		"ipam": object{"type": "host-local", "ranges": []any{[]any{object{"subnet": "10.64.0.0/16"}}}},
	}
	for _, verb := range []string{"ADD", "DEL"} {
		if err := s.timed(verb+when, func() error { return s.call(ctx, verb, id, netns, conf) }); err != nil {
			return err
		}
	}
	return nil
}

// writeLeases makes the files that host-local would have made for n containers;
// both implementations use the same ones.
func writeLeases(network string, n int) error {
	dir := filepath.Join("/var/lib/cni/networks", network)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	address := netip.MustParseAddr("10.64.0.1") // the gateway
	for i := range n {
		address = address.Next()
		lease := fmt.Sprintf("container%d\r\neth0", i)
		if err := os.WriteFile(filepath.Join(dir, address.String()), []byte(lease), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "last_reserved_ip.0"), []byte(address.String()), 0o600)
}
