package main

import (
	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/kernel/qdisc"
)

// config is the wire configuration, all of it the reference plugin's. README.md
// says what each key means.
type config struct {
	cni.Base
	IngressRate  *uint64 `json:"ingressRate"`
	IngressBurst *uint64 `json:"ingressBurst"`
	EgressRate   *uint64 `json:"egressRate"`
	EgressBurst  *uint64 `json:"egressBurst"`

	RuntimeConfig struct {
		Bandwidth limits `json:"bandwidth"`
	} `json:"runtimeConfig" conf:"open"`

	ingress, egress qdisc.Limit
}

// limits are bits per second, and bits; 0 is no limit. Ingress is what the
// container receives (CONVENTIONS.md).
type limits struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

const (
	minRate  = 8               // the kernel counts in bytes
	maxBurst = (1<<32-1)*8 - 1 // less than 2^32-1 bytes, as CRI-O asks for and the reference plugin allows
)

var (
	_ cni.Config   = (*config)(nil)
	_ cni.Resolver = (*config)(nil)
	_ cni.Reporter = (*config)(nil)
)

func newConfig() cni.Config { return &config{} }

// Validate implements cni.Config. As with the reference plugin, limits in the
// configuration stand in place of all that the runtime asks for.
func (c *config) Validate(_ *cni.Request, rep *conf.Report) {
	path, l := "runtimeConfig.bandwidth.", c.RuntimeConfig.Bandwidth
	if c.IngressRate != nil || c.IngressBurst != nil || c.EgressRate != nil || c.EgressBurst != nil {
		path, l = "", limits{or0(c.IngressRate), or0(c.IngressBurst), or0(c.EgressRate), or0(c.EgressBurst)}
	}
	c.ingress = limit(path+"ingress", l.IngressRate, l.IngressBurst, rep)
	c.egress = limit(path+"egress", l.EgressRate, l.EgressBurst, rep)
}

func or0(v *uint64) uint64 {
	if v == nil {
		return 0
	}
	return *v
}

func limit(path string, rate, burst uint64, rep *conf.Report) qdisc.Limit {
	switch {
	case (rate == 0) != (burst == 0):
		rep.Conflict(path+"Rate, "+path+"Burst", "found %d and %d, want both, or neither for no limit", rate, burst)
	case rate != 0 && rate < minRate:
		rep.Bad(path+"Rate", rate, "at least %d bits per second", minRate)
	case burst > maxBurst:
		rep.Bad(path+"Burst", burst, "at most %d bits", uint64(maxBurst))
	}
	return qdisc.Limit{Rate: rate, Burst: burst}
}
