package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
)

// A Requested is an address that somebody asks for, and where he does.
type Requested struct {
	Path string // "runtimeConfig.ips[0]"
	Addr netip.Addr
}

// RequestedIPs returns the addresses that are asked for in any of the three ways:
// IP in CNI_ARGS, args.cni.ips and runtimeConfig.ips. One that comes in two ways
// counts once. A prefix length is dropped: that of the range counts.
func (r *Request) RequestedIPs(rep *conf.Report) (all []Requested) {
	add := func(path, text string) {
		a, err := parseRequested(text)
		if err != nil {
			rep.Bad(path, text, `an address such as "10.1.0.5", with or without its prefix length`)
		} else if !slices.ContainsFunc(all, func(o Requested) bool { return o.Addr == a }) {
			all = append(all, Requested{path, a})
		}
	}
	for text := range strings.SplitSeq(r.Args["IP"], ",") {
		if text = strings.TrimSpace(text); text != "" {
			add("CNI_ARGS IP", text)
		}
	}
	var c struct {
		Args          struct{ CNI struct{ IPs json.RawMessage } }
		RuntimeConfig struct{ IPs json.RawMessage }
	}
	_ = json.Unmarshal(r.Config, &c) // what has a wrong type is another's to judge
	for _, list := range []struct {
		path string
		raw  json.RawMessage
	}{{"args.cni.ips", c.Args.CNI.IPs}, {"runtimeConfig.ips", c.RuntimeConfig.IPs}} {
		var texts []string
		if len(list.raw) > 0 {
			conf.DecodeAt(list.path, list.raw, &texts, rep)
		}
		for i, text := range texts {
			add(fmt.Sprintf("%s[%d]", list.path, i), text)
		}
	}
	return all
}

func parseRequested(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() != "" {
		err = fmt.Errorf("address %s has a zone", a)
	}
	return a.Unmap(), err
}
