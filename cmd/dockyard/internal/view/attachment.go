package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/format"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// An AttachmentRow is a line of "ps".
type AttachmentRow struct {
	Network, Container, Name, Runtime   string
	Interface, Address, HostLink, Ports string
	UpFor, Status, NetNS, MAC, Mark     string
}

// AttachmentList is how attachments are listed.
func AttachmentList() format.List[AttachmentRow] {
	return format.List[AttachmentRow]{
		Columns: []format.Column{
			{Head: "NETWORK", Field: "Network"}, {Head: "CONTAINER", Field: "Container"}, {Head: "NAME", Field: "Name"},
			{Head: "RUNTIME", Field: "Runtime"}, {Head: "INTERFACE", Field: "Interface"}, {Head: "ADDRESS", Field: "Address"},
			{Head: "HOST LINK", Field: "HostLink"}, {Head: "PORTS", Field: "Ports"}, {Head: "UP FOR", Field: "UpFor"},
		},
		Heads: func() AttachmentRow {
			return AttachmentRow{
				"NETWORK", "CONTAINER", "NAME", "RUNTIME", "INTERFACE", "ADDRESS", "HOST LINK", "PORTS",
				"UP FOR", "STATUS", "NETNS", "MAC", "MARK",
			}
		},
	}
}

// Attachments are the rows of the attachments that pass the filters.
func Attachments(inv *inventory.Inventory, f Filters, full bool, now time.Time) ([]AttachmentRow, error) {
	if err := f.check("network", "name", "id", "runtime", "status", "port"); err != nil {
		return nil, err
	}
	var rows []AttachmentRow
	for _, a := range inv.Attachments {
		r := attachmentRow(a, full, now)
		if f.any("network", func(v string) bool { return a.Network == v || a.Mark.OnNetwork(v) }) &&
			f.any("name", func(v string) bool { return strings.Contains(a.Name, v) }) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(a.ContainerID, v) }) &&
			f.any("runtime", func(v string) bool { return a.Runtime == v }) &&
			f.any("status", func(v string) bool { return r.Status == v }) &&
			f.any("port", func(v string) bool {
				return slices.ContainsFunc(a.Ports, func(p inventory.Port) bool { return strconv.Itoa(int(p.HostPort)) == v })
			}) {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

func attachmentRow(a *inventory.Attachment, full bool, now time.Time) AttachmentRow {
	r := AttachmentRow{
		Network: a.Network, Container: a.ContainerID, Name: dash(a.Name), Runtime: dash(a.Runtime),
		Interface: dash(a.IfName), Address: dash(addresses(a.Addrs)), HostLink: dash(a.HostLink),
		Ports: ports(a.Ports), Status: string(a.State), NetNS: a.NetNS, MAC: a.MAC, Mark: string(a.Mark),
	}
	if a.Container != nil {
		r.Container = a.Container.ID
	}
	if !full {
		r.Container = short(r.Container)
	}
	switch {
	case a.State == inventory.Gone:
		r.UpFor = "gone: " + a.Reason
	case a.Since.IsZero():
		r.UpFor = "-"
	default:
		r.UpFor = age(now.Sub(a.Since))
	}
	return r
}

// short cuts an ID as docker does, behind what says whose it is.
func short(id string) string {
	prefix, rest, ok := strings.Cut(id, "-")
	if !ok || len(rest) < 20 {
		prefix, rest = "", id
	} else {
		prefix += "-"
	}
	return prefix + rest[:min(shortID, len(rest))]
}

func addresses(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

func ports(all []inventory.Port) string {
	var out []string
	for _, p := range all {
		out = append(out, port(p))
	}
	return strings.Join(out, ", ")
}

func port(p inventory.Port) string {
	text := host(p) + "->"
	if p.Container != 0 {
		text += strconv.Itoa(int(p.Container))
	}
	text += "/" + p.Protocol
	if !p.Held {
		text += " (standby)"
	}
	return text
}

func host(p inventory.Port) string {
	text := strconv.Itoa(int(p.HostPort))
	if addr, err := netip.ParseAddr(p.HostIP); err == nil {
		text = netip.AddrPortFrom(addr, p.HostPort).String()
	}
	return text
}

// age is a duration as people say it.
func age(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(d / u.size); n >= 2 || n == 1 && u.size < 24*time.Hour {
			return plural(n, u.name)
		}
	}
	return plural(max(int(d/time.Second), 0), "second")
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// A PortRow is a line of "port".
type PortRow struct{ Host, Protocol, Container, Name, Network, Target, Status string }

// PortList is how published ports are listed.
func PortList() format.List[PortRow] {
	return format.List[PortRow]{
		Columns: []format.Column{
			{Head: "HOST", Field: "Host"}, {Head: "PROTOCOL", Field: "Protocol"}, {Head: "TARGET", Field: "Target"},
			{Head: "NETWORK", Field: "Network"}, {Head: "CONTAINER", Field: "Container"}, {Head: "NAME", Field: "Name"},
			{Head: "STATUS", Field: "Status"},
		},
		Heads: func() PortRow {
			return PortRow{"HOST", "PROTOCOL", "CONTAINER", "NAME", "NETWORK", "TARGET", "STATUS"}
		},
	}
}

// Ports are the rows of all published ports, those of one container if it is named.
func Ports(inv *inventory.Inventory, of *inventory.Container) []PortRow {
	var rows []PortRow
	for _, a := range inv.Attachments {
		if of != nil && a.ContainerID != of.CNIID {
			continue
		}
		for _, p := range a.Ports {
			r := PortRow{
				Host: host(p), Protocol: p.Protocol, Container: short(a.ContainerID), Name: dash(a.Name),
				Network: a.Network, Target: target(a, p), Status: "held",
			}
			if !p.Held {
				r.Status = "standby"
			}
			if a.State == inventory.Gone {
				r.Status = "gone"
			}
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b PortRow) int { return inventory.Natural(a.Host, b.Host) })
	return rows
}

func target(a *inventory.Attachment, p inventory.Port) string {
	if len(a.Addrs) == 0 || p.Container == 0 {
		return "-"
	}
	return netip.AddrPortFrom(a.Addrs[0], p.Container).String()
}

// A NameRow is a line of "names".
type NameRow struct{ Network, Name, Address, Container, Others string }

// NameList is how names are listed.
func NameList() format.List[NameRow] {
	return format.List[NameRow]{
		Columns: []format.Column{
			{Head: "NETWORK", Field: "Network"}, {Head: "NAME", Field: "Name"}, {Head: "ADDRESS", Field: "Address"},
			{Head: "CONTAINER", Field: "Container"}, {Head: "KNOWN TO", Field: "Others"},
		},
		Heads: func() NameRow { return NameRow{"NETWORK", "NAME", "ADDRESS", "CONTAINER", "KNOWN TO"} },
	}
}

// Names are the rows of all names: who is called what, and for whom.
func Names(inv *inventory.Inventory, network string) []NameRow {
	known := map[string][]string{}
	for _, a := range inv.Attachments {
		if len(a.Names) > 0 {
			known[a.Network] = append(known[a.Network], a.Title())
		}
	}
	var rows []NameRow
	for _, a := range inv.Attachments {
		if network != "" && !a.Mark.OnNetwork(network) {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(known[a.Network]), func(n string) bool { return n == a.Title() })
		for _, n := range a.Names {
			rows = append(rows, NameRow{a.Network, n, dash(addresses(a.Addrs)), short(a.ContainerID), dash(strings.Join(others, ","))})
		}
	}
	return rows
}
