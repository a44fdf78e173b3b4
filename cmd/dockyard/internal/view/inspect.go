package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"text/template"
	"time"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/format"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// Inspected is a network in the shape of Docker's API (api/types/network), and under
// Dockyard what that has no place for.
type Inspected struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       IPAM
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom struct{ Network string }
	ConfigOnly bool
	Containers map[string]Endpoint
	Options    map[string]string
	Labels     map[string]string
	Status     Status
	Dockyard   Details
}

// IPAM is where the network's addresses come from.
type IPAM struct {
	Driver  string
	Options map[string]string
	Config  []IPAMConfig
}

// IPAMConfig is one range.
type IPAMConfig struct {
	Subnet  string
	IPRange string `json:",omitempty"`
	Gateway string `json:",omitempty"`
}

// Endpoint is an attachment.
type Endpoint struct {
	Name        string
	EndpointID  string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// Status says how much of each subnet is used.
type Status struct {
	IPAM struct{ Subnets map[string]SubnetStatus }
}

// SubnetStatus is the use of one subnet.
type SubnetStatus struct {
	IPsInUse            int
	DynamicIPsAvailable int
}

// Details are what Docker's shape has no place for.
type Details struct {
	File       string
	Owner      string   `json:",omitempty"`
	Plugins    []string `json:",omitempty"`
	Bridge     string   `json:",omitempty"`
	Master     string   `json:",omitempty"`
	VLAN       int      `json:",omitempty"`
	VNI        int      `json:",omitempty"`
	MTU        int      `json:",omitempty"`
	Interfaces []InterfaceDetails
}

// InterfaceDetails is an attachment as "ps" shows it.
type InterfaceDetails struct {
	Container, Name, Runtime, Interface, NetNS string
	HostLink                                   string   `json:",omitempty"`
	Ports                                      []string `json:",omitempty"`
	Names                                      []string `json:",omitempty"`
	Status                                     string
	RxBytes, TxBytes                           uint64
}

// Inspect returns what is known of a network.
func Inspect(inv *inventory.Inventory, n *inventory.Network) Inspected {
	out := Inspected{
		Name: n.Name, ID: n.ID(), Created: n.Created, Scope: n.Scope(), Driver: n.Driver,
		EnableIPv4: n.IPv4(), EnableIPv6: n.IPv6(), Internal: n.Internal, Attachable: true,
		Containers: map[string]Endpoint{}, Options: orEmpty(n.Options), Labels: orEmpty(n.Labels),
		IPAM: IPAM{Driver: "default", Options: map[string]string{}, Config: []IPAMConfig{}},
		Dockyard: Details{
			File: n.File, Owner: n.Owner, Plugins: n.Plugins, Bridge: n.Bridge, Master: n.Master,
			VLAN: n.VLAN, VNI: n.VNI, MTU: n.MTU, Interfaces: []InterfaceDetails{},
		},
	}
	out.Status.IPAM.Subnets = map[string]SubnetStatus{}
	on := inv.On(n.Name)
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, ipamConfig(s))
		out.Status.IPAM.Subnets[s.Subnet.String()] = use(s, on)
	}
	for _, a := range on {
		if a.State != inventory.Gone {
			out.Containers[containerKey(a)] = endpoint(a, n)
		}
		d := InterfaceDetails{
			Container: a.ContainerID, Name: a.Name, Runtime: a.Runtime, Interface: a.IfName, NetNS: a.NetNS,
			HostLink: a.HostLink, Names: a.Names, Status: string(a.State), RxBytes: a.RxBytes, TxBytes: a.TxBytes,
		}
		for _, p := range a.Ports {
			d.Ports = append(d.Ports, port(p))
		}
		out.Dockyard.Interfaces = append(out.Dockyard.Interfaces, d)
	}
	return out
}

func containerKey(a *inventory.Attachment) string {
	if a.Container != nil {
		return a.Container.ID
	}
	return a.ContainerID
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func ipamConfig(s inventory.Subnet) IPAMConfig {
	c := IPAMConfig{Subnet: s.Subnet.String()}
	if s.RangeStart.IsValid() || s.RangeEnd.IsValid() {
		c.IPRange = rangeText(s)
	}
	if s.Gateway.IsValid() {
		c.Gateway = s.Gateway.String()
	}
	return c
}

// rangeText is a range as a subnet where it is one, else as its ends.
func rangeText(s inventory.Subnet) string {
	first, last := ends(s)
	for bits := s.Subnet.Bits(); bits <= first.BitLen(); bits++ {
		if p := netip.PrefixFrom(first, bits); p.Masked().Addr() == first && lastOf(p) == last {
			return p.String()
		}
	}
	return first.String() + "-" + last.String()
}

func ends(s inventory.Subnet) (first, last netip.Addr) {
	first, last = s.RangeStart, s.RangeEnd
	if !first.IsValid() {
		first = s.Subnet.Masked().Addr()
	}
	if !last.IsValid() {
		last = lastOf(s.Subnet)
	}
	return first, last
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// use counts the addresses of a subnet: those of the network itself are in use, too.
func use(s inventory.Subnet, on []*inventory.Attachment) SubnetStatus {
	first, last := ends(s)
	total := distance(first, last) + 1
	var used int
	for _, a := range on {
		for _, addr := range a.Addrs {
			if s.Subnet.Contains(addr) {
				used++
			}
		}
	}
	reserved := 0
	for _, a := range []netip.Addr{s.Subnet.Masked().Addr(), s.Gateway, lastOf(s.Subnet)} {
		if a.IsValid() && a.Compare(first) >= 0 && a.Compare(last) <= 0 && (a.Is4() || a == s.Gateway || a == s.Subnet.Addr()) {
			reserved++
		}
	}
	return SubnetStatus{IPsInUse: used + reserved, DynamicIPsAvailable: max(total-used-reserved, 0)}
}

// distance is how far two addresses are apart, as far as an int can tell.
func distance(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	d := 0
	for i := range x {
		if d > 1<<40 {
			return 1 << 48
		}
		d = d<<8 + int(y[i]) - int(x[i])
	}
	return d
}

func endpoint(a *inventory.Attachment, n *inventory.Network) Endpoint {
	e := Endpoint{Name: a.Title(), EndpointID: a.Mark.Hash() + a.Mark.Hash(), MacAddress: a.MAC}
	for _, addr := range a.Addrs {
		text := addr.String()
		for _, s := range n.Subnets {
			if s.Subnet.Contains(addr) {
				text += "/" + strconv.Itoa(s.Subnet.Bits())
			}
		}
		if addr.Is4() {
			e.IPv4Address = text
		} else {
			e.IPv6Address = text
		}
	}
	return e
}

// PrintInspected prints an array of JSON, or a template for each. A template sees the
// fields by Go's names; where it fails, by those of the JSON, as with docker.
func PrintInspected(w io.Writer, form string, all []Inspected) error {
	if form == "" || form == "json" {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		if form == "" {
			enc.SetIndent("", "    ")
		}
		if all == nil {
			all = []Inspected{}
		}
		return enc.Encode(all)
	}
	t, err := format.Parse(form)
	if err != nil {
		return err
	}
	for _, one := range all {
		text, err := execute(t, one)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

func execute(t *template.Template, one Inspected) (string, error) {
	var b bytes.Buffer
	err := t.Execute(&b, one)
	if err == nil {
		return b.String(), nil
	}
	text, jsonErr := json.Marshal(one)
	if jsonErr != nil {
		return "", jsonErr
	}
	var raw map[string]any
	if jsonErr := json.Unmarshal(text, &raw); jsonErr != nil {
		return "", jsonErr
	}
	b.Reset()
	if t.Option("missingkey=error").Execute(&b, raw) == nil {
		return b.String(), nil
	}
	return "", fmt.Errorf("template: %w", err)
}
