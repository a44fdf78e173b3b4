package main

import (
	"context"
	"fmt"
	"path/filepath"

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
		if found[s], err = publish(ctx, s, crowds[i].count); err != nil {
			return nil, nil, err
		}
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
	err = alternate(ctx, o.iterations, sites, func(s *site, i int) error {
		id := fmt.Sprintf("new%d", i)
		for _, verb := range []string{"ADD", "DEL"} {
			if err := s.timed(verb, func() error { return found[s].portmapCall(ctx, verb, id, []any{port(9090)}) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, verb := range []string{"ADD", "DEL"} {
		for i, s := range sites {
			if s.ours {
				continue
			}
			mine := sites[i/3*3]
			r.compare(fmt.Sprintf("portmap: %s, %d mappings present", verb, found[mine].count),
				fmt.Sprintf("%s; %d present", backendName(s), found[s].count), "ms", mine.median(verb), s.median(verb))
		}
		r.flat(fmt.Sprintf("ours: portmap %s, %d mappings against %d", verb, o.mappings, fewMappings), "ms",
			sites[3].median(verb), sites[0].median(verb))
	}
	return nil
}

func backendName(s *site) string {
	if s.backend == "" {
		return "iptables"
	}
	return s.backend
}
