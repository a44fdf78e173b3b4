package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// An IP is one address of an attachment.
type IP struct {
	Prefix  netip.Prefix // the address with the length of its subnet: 10.1.0.2/24
	Gateway netip.Addr   // the zero Addr where there is none
}

func (i IP) net() net.IPNet {
	return net.IPNet{IP: i.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(i.Prefix.Bits(), i.Prefix.Addr().BitLen())}
}

// ipam delegates to the IPAM plugin that the configuration names, found by
// CNI_PATH. With no plugin named ("ipam": {}) every call succeeds and gives
// nothing: the network is layer 2 only.
type ipam struct {
	plugin string
	config []byte
}

func (r *Request) ipam() ipam {
	var named struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(r.IPAM, &named) // not an object: no plugin; Validate has said so on ADD
	return ipam{named.Type, r.Config}
}

// setIPAM replaces the "ipam" object of what IPAM plugins are given.
func (r *Request) setIPAM(ipam json.RawMessage) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(r.Config, &all); err != nil {
		return err
	}
	for key := range all {
		if strings.EqualFold(key, "ipam") {
			all[key] = ipam
		}
	}
	out, err := json.Marshal(all)
	if err == nil {
		r.IPAM, r.Config = ipam, out
	}
	return err
}

// add gets addresses. If the plugin fails, it is told to release what it may
// have taken: nobody else will.
func (i ipam) add(ctx context.Context) (*current.Result, error) {
	if i.plugin == "" {
		return &current.Result{}, nil
	}
	if err := i.find(); err != nil {
		return nil, err
	}
	res, err := i.delegate().add(ctx)
	if err != nil {
		return nil, errors.Join(i.wrap(err), i.undo(ctx))
	}
	return current.NewResultFromResult(res)
}

// find fails if the plugin is not installed.
func (i ipam) find() error {
	_, err := i.delegate().path()
	return i.wrap(err)
}

// undo is del after an ADD that failed, perhaps as ctx is done.
func (i ipam) undo(ctx context.Context) error {
	ctx, cancel := engine.Undo(ctx)
	defer cancel()
	return i.del(ctx)
}

// del gives the addresses back. A plugin that is not installed gave none, or can
// be told by GC when it is there again; a container that cannot be deleted for
// want of it would be worse.
func (i ipam) del(ctx context.Context) error {
	if i.plugin == "" {
		return nil
	}
	if err := i.find(); err != nil {
		warn("addresses are not given back: " + err.Error())
		return nil //nolint:nilerr // as said
	}
	return i.call(ctx, "DEL")
}

func (i ipam) check(ctx context.Context) error { return i.call(ctx, "CHECK") }

func (i ipam) gc(ctx context.Context) error { return i.call(ctx, "GC") }

func (i ipam) status(ctx context.Context) error { return i.call(ctx, "STATUS") }

func (i ipam) delegate() delegate { return delegate{i.plugin, i.config} }

func (i ipam) call(ctx context.Context, verb string) error {
	if i.plugin == "" {
		return nil
	}
	_, err := i.delegate().call(ctx, verb)
	return i.wrap(err)
}

func (i ipam) wrap(err error) error {
	if err == nil {
		return nil
	}
	var coded *types.Error
	if errors.As(err, &coded) {
		return fmt.Errorf("ipam plugin %q: %w", i.plugin, err)
	}
	return Errorf(CodeConfig, "ipam.type: plugin %q: %w", i.plugin, err)
}

// ips converts those addresses of a result that belong to the interface of that
// name in the container, or to none in particular.
func ips(res *current.Result, ifName string) ([]IP, error) {
	var out []IP
	for _, c := range res.IPs {
		if i := c.Interface; i != nil && (*i < 0 || *i >= len(res.Interfaces) ||
			res.Interfaces[*i].Name != ifName || res.Interfaces[*i].Sandbox == "") {
			continue
		}
		addr, ok := netip.AddrFromSlice(c.Address.IP)
		ones, _ := c.Address.Mask.Size()
		if !ok {
			return nil, Errorf(CodeDecode, "address %q in a result is no IP address", c.Address.String())
		}
		out = append(out, IP{netip.PrefixFrom(addr.Unmap(), ones), Addr(c.Gateway)})
	}
	return out, nil
}

// Addr converts an address of the net package; nil gives the zero Addr.
func Addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
