package main

import (
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
)

// config is the wire configuration, all of it the reference plugin's. README.md
// says what each key means.
type config struct {
	cni.Base
	Backend       string  `json:"backend"`
	AdminChain    *string `json:"iptablesAdminChainName"`
	FirewalldZone string  `json:"firewalldZone"`
	IngressPolicy string  `json:"ingressPolicy"`

	isolate bool   // the port from other isolated ones
	via     string // the link by which the host reaches the container
}

// The backends, and the ingress policies.
const (
	nftables  = "nftables"
	iptables  = "iptables"
	firewalld = "firewalld"

	open       = "open"
	sameBridge = "same-bridge"
	isolated   = "isolated"

	defaultAdminChain = "CNI-ADMIN"
	maxChain          = 28 // bytes of the name of an iptables chain
)

func newConfig() cni.Config { return &config{FirewalldZone: "trusted", IngressPolicy: open} }

// Validate implements cni.Config.
func (c *config) Validate(_ *cni.Request, rep *conf.Report) {
	switch c.Backend {
	case "", nftables, iptables, firewalld:
	default:
		rep.Bad("backend", c.Backend, `"nftables", "iptables" or "firewalld", or "" for firewalld where that runs, else the first that the kernel has of nftables and iptables`)
	}
	if name := c.AdminChain; name != nil {
		if *name == "" || len(*name) > maxChain || !word(*name) {
			rep.Bad("iptablesAdminChainName", *name, "the name of an iptables chain, 1 to %d letters, digits, '-' and '_' that do not begin with '-'", maxChain)
		}
		switch c.Backend {
		case nftables, firewalld:
			rep.Conflict("iptablesAdminChainName, backend", "only iptables has such a chain; take one of them out")
		case "":
			c.Backend = iptables
		}
	}
	if c.FirewalldZone == "" {
		c.FirewalldZone = "trusted"
	}
	if !word(c.FirewalldZone) {
		rep.Bad("firewalldZone", c.FirewalldZone, "the name of a zone of firewalld")
	}
	switch c.IngressPolicy {
	case "", open, sameBridge, isolated:
		c.isolate = c.IngressPolicy == isolated
	default:
		rep.Bad("ingressPolicy", c.IngressPolicy, `"open", "same-bridge" or "isolated"`)
	}
}

func word(s string) bool {
	return !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func (c *config) adminChain() string {
	if c.AdminChain != nil {
		return *c.AdminChain
	}
	return defaultAdminChain
}

// closed reports whether the bridge has an ingress policy.
func (c *config) closed() bool { return c.IngressPolicy == sameBridge || c.IngressPolicy == isolated }

// policy is what the bridge plugin calls gatewayMode "nat", and icc.
func (c *config) policy(a *cni.Attachment, bridge string) nft.Policy {
	p := nft.Policy{Bridge: bridge, ICC: c.IngressPolicy != isolated}
	if c.closed() {
		p.V4, p.V6 = nft.NAT, nft.NAT
	}
	if outer := a.HostLinks()[0]; outer != bridge {
		p.Below = outer
	}
	return p
}
