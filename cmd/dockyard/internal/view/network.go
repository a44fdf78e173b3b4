// Package view is what a person sees of an inventory: rows of lists, and what
// inspect prints. All of it is pure.
package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/cmd/dockyard/internal/format"
	"github.com/dockyard-cni/dockyard/pkg/inventory"
)

// A NetworkRow is a line of "network ls". Its first fields are those of docker.
type NetworkRow struct {
	ID, Name, Driver, Scope     string
	IPv4, IPv6, Internal        string
	Labels, CreatedAt           string
	Subnet, Gateway, Containers string
	File                        string

	labels map[string]string
	head   bool
}

// Label returns the value of one label.
func (r NetworkRow) Label(key string) string {
	if r.head {
		return key
	}
	return r.labels[key]
}

// NetworkList is how networks are listed.
func NetworkList() format.List[NetworkRow] {
	return format.List[NetworkRow]{
		Columns: []format.Column{
			{Head: "NETWORK ID", Field: "ID"}, {Head: "NAME", Field: "Name"}, {Head: "DRIVER", Field: "Driver"},
			{Head: "SCOPE", Field: "Scope"}, {Head: "SUBNET", Field: "Subnet"}, {Head: "GATEWAY", Field: "Gateway"},
			{Head: "CONTAINERS", Field: "Containers"}, {Head: "FILE", Field: "File"},
		},
		Heads: func() NetworkRow {
			return NetworkRow{
				ID: "NETWORK ID", Name: "NAME", Driver: "DRIVER", Scope: "SCOPE", IPv4: "IPV4", IPv6: "IPV6",
				Internal: "INTERNAL", Labels: "LABELS", CreatedAt: "CREATED AT", Subnet: "SUBNET", Gateway: "GATEWAY",
				Containers: "CONTAINERS", File: "FILE", head: true,
			}
		},
	}
}

// shortID is what docker prints of an ID.
const shortID = 12

// Networks are the rows of the networks that pass the filters.
func Networks(inv *inventory.Inventory, f Filters, full bool) ([]NetworkRow, error) {
	if err := f.check("dangling", "driver", "id", "label", "label!", "name", "scope", "type", "until", "file"); err != nil {
		return nil, err
	}
	var rows []NetworkRow
	for i := range inv.Networks {
		n := &inv.Networks[i]
		if n.Name == "" || strings.Contains(n.Problem, "is defined by") {
			continue
		}
		on := inv.On(n.Name, inventory.Up, inventory.Unknown)
		if ok, err := f.network(n, len(on)); err != nil {
			return nil, err
		} else if ok {
			rows = append(rows, networkRow(n, len(on), full))
		}
	}
	return rows, nil
}

func networkRow(n *inventory.Network, containers int, full bool) NetworkRow {
	r := NetworkRow{
		ID: n.ID(), Name: n.Name, Driver: n.Driver, Scope: n.Scope(),
		IPv4: fmt.Sprint(n.IPv4()), IPv6: fmt.Sprint(n.IPv6()), Internal: fmt.Sprint(n.Internal),
		Labels: format.Labels(n.Labels), CreatedAt: n.Created.UTC().Format("2006-01-02 15:04:05 -0700 MST"),
		Containers: fmt.Sprint(containers), File: n.File, labels: n.Labels,
	}
	if !full {
		r.ID = r.ID[:shortID]
	}
	var subnets, gateways []string
	for _, s := range n.Subnets {
		subnets = append(subnets, s.Subnet.String())
		if s.Gateway.IsValid() {
			gateways = append(gateways, s.Gateway.String())
		}
	}
	r.Subnet, r.Gateway = strings.Join(subnets, ","), strings.Join(gateways, ",")
	return r
}

// Filters are what --filter asks for: values of one key are alternatives, of
// different keys conditions.
type Filters map[string][]string

// ParseFilters reads KEY=VALUE.
func ParseFilters(args []string) (Filters, error) {
	f := Filters{}
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for \"-f, --filter\" flag: bad format of filter (expected name=value)", a)
		}
		if strings.HasSuffix(k, "!") {
			k = strings.TrimSuffix(k, "!") + "!"
		}
		f[strings.ToLower(strings.TrimSpace(k))] = append(f[strings.ToLower(strings.TrimSpace(k))], strings.TrimSpace(v))
	}
	return f, nil
}

func (f Filters) check(known ...string) error {
	for k := range f {
		if !slices.Contains(known, k) {
			return fmt.Errorf("invalid filter '%s'; want one of %s", k, strings.Join(known, ", "))
		}
	}
	return nil
}

func (f Filters) any(key string, match func(value string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], match)
}

// network reports whether a network passes.
func (f Filters) network(n *inventory.Network, containers int) (bool, error) {
	if fits, err := f.dangling(containers); err != nil || !fits {
		return false, err
	}
	for _, v := range f["type"] {
		if v != "custom" && v != "builtin" {
			return false, fmt.Errorf("invalid filter: 'type'='%s'; want custom or builtin", v)
		}
	}
	early, err := f.until(n.Created)
	if err != nil {
		return false, err
	}
	return early && f.labels(n.Labels) && f.words(n), nil
}

// words compares what a network is called.
func (f Filters) words(n *inventory.Network) bool {
	return f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
		f.any("id", func(v string) bool { return strings.Contains(n.ID(), v) }) &&
		f.any("driver", func(v string) bool { return n.Driver == v || len(n.Plugins) > 0 && n.Plugins[0] == v }) &&
		f.any("scope", func(v string) bool { return n.Scope() == v }) &&
		f.any("file", func(v string) bool { return strings.Contains(n.File, v) }) &&
		f.any("type", func(v string) bool { return v == "custom" })
}

// dangling keeps networks that nobody is on, or the others.
func (f Filters) dangling(containers int) (bool, error) {
	for _, v := range f["dangling"] {
		want, err := strconv.ParseBool(strings.ToLower(v))
		if err != nil {
			return false, fmt.Errorf("invalid filter 'dangling=%s'; want true or false", v)
		}
		if want != (containers == 0) {
			return false, nil
		}
	}
	return true, nil
}

// labels are all wanted, of what is excluded none is.
func (f Filters) labels(of map[string]string) bool {
	has := func(v string) bool {
		k, want, valued := strings.Cut(v, "=")
		got, ok := of[k]
		return ok && (!valued || got == want)
	}
	return !slices.ContainsFunc(f["label"], func(v string) bool { return !has(v) }) && !slices.ContainsFunc(f["label!"], has)
}

// until keeps what was made before a time, or longer ago than a duration.
func (f Filters) until(t time.Time) (bool, error) {
	for _, v := range f["until"] {
		limit, err := time.Parse(time.RFC3339, v)
		if d, dErr := time.ParseDuration(v); dErr == nil {
			limit, err = time.Now().Add(-d), nil
		}
		if err != nil {
			return false, fmt.Errorf("invalid filter 'until=%s'; want a duration such as 24h, or a time such as 2026-01-02T15:04:05Z", v)
		}
		if !t.Before(limit) {
			return false, nil
		}
	}
	return true, nil
}

func dash(s string) string { return cmp.Or(s, "-") }

// Prunable are the networks that prune's filters let through.
func Prunable(inv *inventory.Inventory, f Filters) (map[string]bool, error) {
	if err := f.check("label", "label!", "until"); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for i := range inv.Networks {
		n := &inv.Networks[i]
		ok, err := f.network(n, 0)
		if err != nil {
			return nil, err
		}
		out[n.Name] = ok
	}
	return out, nil
}
