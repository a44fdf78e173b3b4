package main

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
)

const defaultDataDir = "/var/lib/cni/networks"

// config is the "ipam" object, and what is derived from it and from what the
// runtime asks for.
type config struct {
	Type       string        `json:"type"`
	rangeConf                // the old form: one range
	Ranges     [][]rangeConf `json:"ranges"`
	Routes     []routeConf   `json:"routes"`
	DataDir    string        `json:"dataDir"`
	ResolvConf string        `json:"resolvConf"`
	Exclude    []string      `json:"exclude"`

	sets      []rangeSet
	exclude   []netip.Prefix
	pools     []lease.Pool
	requested []netip.Addr
}

type rangeConf struct {
	Subnet     netip.Prefix `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart"`
	RangeEnd   netip.Addr   `json:"rangeEnd"`
	Gateway    netip.Addr   `json:"gateway"`
}

// A rangeSet is a list of ranges and where it stands in the configuration.
type rangeSet struct {
	path   string
	ranges []rangeConf
	valid  []lease.Range // of the same length, if all are
}

// runtime is what others than the network's author put into the configuration.
type runtime struct {
	Name          string `json:"name"`
	CNIVersion    string
	IPAM          json.RawMessage
	RuntimeConfig struct{ IPRanges json.RawMessage }
}

// load decodes and judges the configuration of r. It also returns what can be
// used of one that has problems.
func load(r *cni.Request) (*config, *conf.Report) {
	c, report := &config{}, &conf.Report{}
	var outer runtime
	// What has a wrong type here is another plugin's to judge, or is missed below.
	_ = json.Unmarshal(r.Config, &outer)
	if len(outer.IPAM) == 0 || string(outer.IPAM) == "null" {
		report.Missing("ipam", `an object such as {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}`)
	} else {
		conf.DecodeAt("ipam", outer.IPAM, c, report)
	}
	if c.DataDir == "" {
		c.DataDir = defaultDataDir
	}
	c.gatherSets(outer.RuntimeConfig.IPRanges, report)
	asked := r.RequestedIPs(report)
	if len(report.Problems()) > 0 {
		return c, report
	}
	c.judge(outer.CNIVersion, report)
	if len(report.Problems()) > 0 {
		return c, report
	}
	c.pool(report)
	c.judgeRequested(asked, report)
	return c, report
}

// gatherSets lists the range sets in the order in which they give addresses:
// the runtime's, the one of the old form, the configured ones.
func (c *config) gatherSets(ipRanges json.RawMessage, report *conf.Report) {
	const path = "runtimeConfig.ipRanges"
	var flat []json.RawMessage
	if len(ipRanges) > 0 && json.Unmarshal(ipRanges, &flat) == nil && len(flat) > 0 && flat[0][0] == '{' {
		set := rangeSet{path: path}
		conf.DecodeAt(path, ipRanges, &set.ranges, report)
		c.sets = append(c.sets, set)
	} else if len(ipRanges) > 0 {
		var sets [][]rangeConf
		conf.DecodeAt(path, ipRanges, &sets, report)
		c.addSets(path, sets)
	}
	if c.rangeConf != (rangeConf{}) {
		c.sets = append(c.sets, rangeSet{path: "ipam", ranges: []rangeConf{c.rangeConf}})
	}
	c.addSets("ipam.ranges", c.Ranges)
	if len(c.sets) == 0 && len(report.Problems()) == 0 {
		report.Missing("ipam.ranges", `at least one range such as [[{"subnet": "10.1.0.0/24"}]]`)
	}
}

func (c *config) addSets(path string, sets [][]rangeConf) {
	for i, s := range sets {
		c.sets = append(c.sets, rangeSet{path: fmt.Sprintf("%s[%d]", path, i), ranges: s})
	}
}

// pathOf names the i-th range of a set. The old form and the runtime's flat
// list have one level less.
func (s rangeSet) pathOf(i int) string {
	if s.path == "ipam" {
		return s.path
	}
	return fmt.Sprintf("%s[%d]", s.path, i)
}

// anyPools returns the pools of a configuration as far as it is valid, nil if
// it is not.
func anyPools(r *cni.Request) []lease.Pool {
	c, _ := load(r)
	return c.pools
}

// dataDir returns where the leases are, whatever else is wrong with the
// configuration.
func dataDir(r *cni.Request) string {
	c, _ := load(r)
	return c.DataDir
}

type routeConf struct {
	Dst      netip.Prefix `json:"dst"`
	GW       netip.Addr   `json:"gw"`
	MTU      int          `json:"mtu"`
	AdvMSS   int          `json:"advmss"`
	Priority int          `json:"priority"`
	Table    *int         `json:"table"`
	Scope    *int         `json:"scope"`
}

// routes returns the routes as a result has them.
func (c *config) routes() []*types.Route {
	var out []*types.Route
	for _, r := range c.Routes {
		route := &types.Route{
			Dst: ipNet(r.Dst), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope,
		}
		if r.GW.IsValid() {
			route.GW = r.GW.Unmap().AsSlice()
		}
		out = append(out, route)
	}
	return out
}
