package main

import (
	"encoding/json"

	"github.com/containernetworking/cni/libcni"
)

// contender is one way to configure one of the two suites.
type contender struct {
	name    string
	bin     string
	ours    bool
	backend string // of the reference: "" is its default, iptables
	dual    bool
	onLAN   string // the plugin for a network of the host, instead of a bridge
	checked bool   // it asks whether somebody has the address
}

func contenders(o options) (ours, iptables, nftables contender) {
	return contender{name: "ours", bin: o.ours, ours: true},
		contender{name: "reference, iptables", bin: o.reference},
		contender{name: "reference, nftables, no isolation", bin: o.reference, backend: "nftables"}
}

func (c contender) dualStack() contender {
	c.dual = true
	c.name += ", dual stack"
	return c
}

type object = map[string]any

func ipam(dual bool) object {
	ranges := []any{[]any{object{"subnet": "10.88.0.0/16"}}}
	routes := []any{object{"dst": "0.0.0.0/0"}}
	if dual {
		ranges = append(ranges, []any{object{"subnet": "fd00:88::/64"}})
		routes = append(routes, object{"dst": "::/0"})
	}
	return object{"type": "host-local", "ranges": ranges, "routes": routes}
}

func (c contender) bridge() object {
	conf := object{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipam": ipam(c.dual)}
	switch {
	case c.ours:
		conf["gatewayMode"] = "nat"
	case c.backend != "":
		conf["hairpinMode"] = true
		conf["ipMasqBackend"] = c.backend
	default:
		conf["hairpinMode"] = true
	}
	return conf
}

func (c contender) subInterface() object {
	conf := object{"type": c.onLAN, "master": uplink, "ipam": ipam(c.dual)}
	if c.ours && !c.checked {
		conf["duplicateCheck"] = 0
	}
	return conf
}

func (c contender) portmap() object {
	conf := object{"type": "portmap", "capabilities": object{"portMappings": true}}
	if c.backend != "" {
		conf["backend"] = c.backend
	}
	return conf
}

// chain is a network with NAT, isolation from other networks and published
// ports. Ours isolates in bridge; the reference needs firewall for it, which
// knows iptables alone.
func (c contender) chain(name string) (*libcni.NetworkConfigList, error) {
	plugins := []any{c.bridge(), c.portmap()}
	if c.onLAN != "" {
		plugins = []any{c.subInterface()}
	} else if !c.ours && c.backend == "" {
		plugins = append(plugins, object{"type": "firewall", "ingressPolicy": "same-bridge"})
	}
	data, err := json.Marshal(object{"cniVersion": "1.0.0", "name": name, "plugins": plugins})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(data)
}
