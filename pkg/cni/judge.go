package cni

import (
	"encoding/json"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// judge decodes and validates the configuration of r. What could not be decoded
// has its default when it is validated; the report takes no second problem of
// one value.
func (p Planned) judge(r *Request) (Config, *conf.Report) {
	c, report := p.New(), &conf.Report{}
	conf.Decode(r.Config, c, report)
	if _, makes := c.(Linker); makes {
		r.judgeIPAM(report)
	}
	c.Validate(r, report)
	return c, report
}

// judgeIPAM reports an "ipam" that names no plugin though it means to: without
// one, the container would silently get no address.
func (r *Request) judgeIPAM(report *conf.Report) {
	var ipam map[string]json.RawMessage
	if len(r.IPAM) == 0 {
		return
	}
	const want = `an object that names an IPAM plugin, such as {"type": "host-local"}, or {} for no addresses`
	if err := json.Unmarshal(r.IPAM, &ipam); err != nil {
		report.Bad("ipam", r.IPAM, want)
		return
	}
	var named struct {
		Type string `json:"type"`
	}
	err := json.Unmarshal(r.IPAM, &named)
	switch {
	case err != nil:
		report.Bad("ipam.type", ipam["type"], `the name of an IPAM plugin, such as "host-local"`)
	case named.Type == "" && len(ipam) > 0:
		report.Missing("ipam.type", `the name of an IPAM plugin, such as "host-local"; {} alone is for no addresses`)
	}
}

// Preview returns the plan of an ADD as the configuration alone decides it, with
// ipam for what the IPAM plugin answers. It needs no privilege and looks at no
// host, so what a Resolver finds out there is left open.
func (p Planned) Preview(args *skel.CmdArgs, ipam *current.Result) (engine.Plan, *conf.Report, error) {
	r, err := newRequest(args)
	if err == nil {
		err = r.readPrev()
	}
	if err != nil {
		return nil, &conf.Report{}, err
	}
	c, report := p.judge(r)
	if err = report.Err(); err != nil {
		return nil, report, err
	}
	if _, makes := c.(Linker); !makes {
		if ipam = r.Prev; ipam == nil {
			return nil, report, r.needsPrev()
		}
	}
	a, err := newAttachment(r, ipam)
	if err == nil && r.Prev == nil {
		err = complete(c, a)
	}
	if err != nil {
		return nil, report, err
	}
	return c.Plan(a), report, nil
}

func complete(c Config, a *Attachment) error {
	if com, ok := c.(Completer); ok {
		return com.Complete(a)
	}
	return nil
}
