package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"
)

const (
	fewMappings  = 10
	perContainer = 500 // mappings of one container, when many are present
)

// published is a site with a container whose portmap can be called by itself.
type published struct {
	*site
	netns  string
	result types.Result
	count  int // mappings present
}

// middle is a published port that came after half of the others: where rules are
// a list, the first one would cost nothing.
func (p *published) middle() int {
	if p.count == 1 {
		return 8080
	}
	return firstPort + p.count/2
}

// publish attaches a container with port 8080 published, then publishes count-1
// more ports to it, in the name of as many attachments as that takes.
func publish(ctx context.Context, s *site, count int) (*published, error) {
	result, netns, err := s.add(ctx, 8080)
	if err != nil {
		return nil, err
	}
	p := &published{site: s, netns: netns, result: result, count: 1}
	for p.count < count {
		ports := []any{}
		for len(ports) < perContainer && p.count < count {
			ports = append(ports, port(firstPort+p.count))
			p.count++
		}
		id := fmt.Sprintf("%s-%d", filepath.Base(netns), p.count)
		if err := s.host.do(func() error { return p.portmapCall(ctx, "ADD", id, ports) }); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *published) portmapCall(ctx context.Context, verb, id string, ports []any) error {
	conf := p.portmap()
	delete(conf, "capabilities")
	conf["cniVersion"] = "1.0.0"
	conf["name"] = p.network.Name
	conf["prevResult"] = p.result
	conf["runtimeConfig"] = object{"portMappings": ports}
	return p.call(ctx, verb, id, p.netns, conf)
}

// crowd is a contender with so many mappings present.
type crowd struct {
	contender
	count int
}

// publishAll prepares a site for each crowd.
func publishAll(ctx context.Context, row string, crowds []crowd) ([]*site, map[*site]*published, error) {
	var all []contender
	for _, c := range crowds {
		all = append(all, c.contender)
	}
	sites, err := newSites(row, all...)
	if err != nil {
		return nil, nil, err
	}
	found := map[*site]*published{}
	for i, s := range sites {
		start := time.Now()
		if found[s], err = publish(ctx, s, crowds[i].count); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", s.name, err)
		}
		slog.Info("published", "by", s.name, "ports", crowds[i].count, "in", time.Since(start).Round(time.Second).String())
	}
	return sites, found, nil
}

// portmapRow measures portmap by itself. The reference's iptables backend starts
// six processes a port, each slower than the one before, so it gets fewer.
func portmapRow(ctx context.Context, o options, r *report) error {
	ours, iptables, nftables := contenders(o)
	crowds := []crowd{
		{ours, fewMappings}, {iptables, fewMappings}, {nftables, fewMappings},
		{ours, o.mappings}, {iptables, o.iptables}, {nftables, o.mappings},
	}
	sites, found, err := publishAll(ctx, "ports", crowds)
	if err != nil {
		return err
	}
	defer closeSites(sites)
	if err := alternate(ctx, o.iterations, sites, func(s *site, i int) error {
		id := fmt.Sprintf("new%d", i)
		for _, verb := range []string{"ADD", "DEL"} {
			if err := s.timed(verb, func() error { return found[s].portmapCall(ctx, verb, id, []any{port(9090)}) }); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	for _, verb := range []string{"ADD", "DEL"} {
		reportCrowds(sites, found, func(ours, reference *published) {
			r.compare(fmt.Sprintf("portmap: %s, %d mappings present", verb, ours.count),
				fmt.Sprintf("%s; %d present", reference.backendName(), reference.count), "ms",
				ours.median(verb), reference.median(verb))
		})
		r.flat(fmt.Sprintf("ours: portmap %s, %d mappings against %d", verb, o.mappings, fewMappings), "ms",
			sites[3].median(verb), sites[0].median(verb))
	}
	return nil
}

// reportCrowds calls f for each of the reference and the one of ours before it.
func reportCrowds(sites []*site, found map[*site]*published, f func(ours, reference *published)) {
	var ours *published
	for _, s := range sites {
		if s.ours {
			ours = found[s]
		} else {
			f(ours, found[s])
		}
	}
}

func (s *site) backendName() string {
	if s.backend == "" {
		return "iptables"
	}
	return s.backend
}
