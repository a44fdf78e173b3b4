package cni

import (
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// An Attachment is what a plan is made for.
type Attachment struct {
	*Request
	IPs    []IP
	Routes []*types.Route
	DNS    types.DNS
	// MAC is the container interface's hardware address as prevResult gives it,
	// nil on ADD of a plugin that makes the interface.
	MAC net.HardwareAddr
	// Checking is true on CHECK.
	Checking bool
	// Again is true on ADD of a chained plugin where the same one has made something
	// for the interface earlier in the list.
	Again bool
}

func newAttachment(r *Request, res *current.Result) (*Attachment, error) {
	addrs, err := ips(res, r.Owner.IfName)
	if err != nil {
		return nil, err
	}
	a := &Attachment{Request: r, IPs: addrs, Routes: res.Routes, DNS: res.DNS}
	for _, i := range res.Interfaces {
		if i.Name == r.Owner.IfName && i.Sandbox != "" {
			if a.MAC, err = net.ParseMAC(i.Mac); err != nil && i.Mac != "" {
				return nil, Errorf(CodeDecode, "prevResult: interface %q: %w", i.Name, err)
			}
		}
	}
	return a, nil
}

// newResult reports the links, and the addresses as the last one's.
func newResult(a *Attachment, links []*current.Interface) *current.Result {
	res := &current.Result{CNIVersion: current.ImplementedSpecVersion, Interfaces: links, Routes: a.Routes, DNS: a.DNS}
	for _, dns := range []types.DNS{a.Base.DNS, a.runtimeDNS()} { // the runtime's comes last, so wins
		if !dns.IsEmpty() {
			res.DNS = dns
		}
	}
	for _, ip := range a.IPs {
		c := &current.IPConfig{Address: ip.net(), Interface: current.Int(len(links) - 1)}
		if ip.Gateway.IsValid() {
			c.Gateway = ip.Gateway.AsSlice()
		}
		res.IPs = append(res.IPs, c)
	}
	return res
}

// HostLinks returns the interfaces of prevResult that are not in a container:
// of a bridge network the bridge, its link in the VLAN if there is one, and the
// host's end of the pair.
func (a *Attachment) HostLinks() (names []string) {
	if a.Prev == nil {
		return nil
	}
	for _, i := range a.Prev.Interfaces {
		if i.Sandbox == "" {
			names = append(names, i.Name)
		}
	}
	return names
}

// HostEnd returns the host's link that is gone when the container is: of
// HostLinks the last before the container's own, as plugins list what they make
// from the outside to the inside. (The reference bridge lists its link in a VLAN
// after both.)
func (a *Attachment) HostEnd() (name string) {
	if a.Prev == nil {
		return ""
	}
	for _, i := range a.Prev.Interfaces {
		if i.Sandbox != "" {
			break
		}
		name = i.Name
	}
	return name
}

// Bridge returns the host's link by which it reaches the container: via, to which
// the host's own route leads, if that is one of HostLinks, as it tells a bridge
// from its link in a VLAN; otherwise, as the host may have no route of its own
// there, the first of them.
func (a *Attachment) Bridge(via string) string {
	links := a.HostLinks()
	switch {
	case len(links) == 0:
		return ""
	case slices.Contains(links, via):
		return via
	}
	return links[0]
}

func (a *Attachment) String() string { return fmt.Sprint(a.Request) }
