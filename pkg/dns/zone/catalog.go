package zone

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
)

// A Catalog is all that is known: a zone for each network, and a view for each
// container of this host. A change costs what it changes. Only one goroutine may
// make changes; views may be asked at the same time.
type Catalog struct {
	zones  map[string]*Zone // by network, as marks have it
	views  map[string]*View // by container, as marks have it
	remote []*Record
}

// NewCatalog returns a catalog of nothing.
func NewCatalog() *Catalog { return &Catalog{zones: map[string]*Zone{}, views: map[string]*View{}} }

// View returns what a container may know, nil if it has no record.
func (c *Catalog) View(container string) *View { return c.views[container] }

// Views are those of all containers.
func (c *Catalog) Views() iter.Seq2[string, *View] { return maps.All(c.views) }

// Set says which records a container of this host has. Its view is the same as
// before if they are.
func (c *Catalog) Set(container string, records []*Record) {
	records = slices.Clone(records)
	slices.SortFunc(records, func(a, b *Record) int {
		return cmp.Or(cmp.Compare(a.ifName(), b.ifName()), cmp.Compare(a.Mark, b.Mark))
	})
	var before []*Record
	if old := c.views[container]; old != nil {
		before = old.Records
	}
	if slices.Equal(before, records) {
		return
	}
	c.replace(before, records)
	if len(records) > 0 {
		c.views[container] = c.view(records)
	} else {
		delete(c.views, container)
	}
}

// SetRemote says which records the containers of other hosts have: they have
// names, and no view.
func (c *Catalog) SetRemote(records []*Record) {
	c.replace(c.remote, records)
	c.remote = records
}

// replace has new names before the old ones go, so that one that stays is never
// away.
func (c *Catalog) replace(before, after []*Record) {
	for r := range without(after, before) {
		network := r.Mark.Network()
		if c.zones[network] == nil {
			c.zones[network] = newZone()
		}
		c.zones[network].add(r)
	}
	for r := range without(before, after) {
		network := r.Mark.Network()
		if z := c.zones[network]; z.drop(r) {
			delete(c.zones, network)
		}
	}
}

// without are the records of a that are not in b.
func without(a, b []*Record) iter.Seq[*Record] {
	there := make(map[*Record]bool, len(b))
	for _, r := range b {
		there[r] = true
	}
	return func(yield func(*Record) bool) {
		for _, r := range a {
			if !there[r] && !yield(r) {
				return
			}
		}
	}
}

func (c *Catalog) view(records []*Record) *View {
	v := &View{Records: records}
	for _, r := range records {
		if z := c.zones[r.Mark.Network()]; !slices.Contains(v.zones, z) {
			v.zones = append(v.zones, z)
		}
		if r.Domain != "" && !slices.Contains(v.domains, r.Domain) {
			v.domains = append(v.domains, r.Domain)
		}
	}
	return v
}

func (r *Record) ifName() string { return r.Mark.IfName() }

// A View is what one container may know: the zones of all its networks. Of the
// zones alone it changes.
type View struct {
	Records []*Record // of the container itself, in the order of its interfaces
	zones   []*Zone
	// domains are those below which nobody else knows a name.
	domains []string
}

// Outside reports whether the container may ask for names outside: it is on some
// network that is not internal.
func (v *View) Outside() bool {
	return slices.ContainsFunc(v.Records, func(r *Record) bool { return !r.Internal })
}

// Servers are the servers that were named for the container or its networks, and that
// it may reach; none: those of the host, if it may ask outside.
func (v *View) Servers() (out []netip.AddrPort) {
	for _, r := range v.Records {
		for _, s := range r.asks() {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// Capture reports whether queries to any server are to come to the resolver.
func (v *View) Capture() bool {
	return slices.ContainsFunc(v.Records, func(r *Record) bool { return r.Capture })
}
