package zone

import (
	"cmp"
	"net/netip"
	"slices"
)

// A Zone is the names on one network. It is not changed once it is made.
type Zone struct {
	records []*Record
	hosts   map[string]*host // by qualified name
	byAddr  map[netip.Addr]string
}

// A host is what a name leads to: one container, or all that have the alias.
type host struct {
	v4, v6   []netip.Addr
	services []target
	ttl      uint32
}

// A target is where a service is found.
type target struct {
	Service
	name string
}

// newZone makes the zone of records that are all on one network.
func newZone(records []*Record) *Zone {
	z := &Zone{records: records, hosts: make(map[string]*host, 4*len(records)), byAddr: make(map[netip.Addr]string, len(records))}
	for _, r := range records {
		for _, name := range r.qualified() {
			h := z.hosts[name]
			if h == nil {
				h = &host{ttl: r.TTL}
				z.hosts[name] = h
			}
			h.add(r)
		}
		for _, a := range r.Addrs {
			if _, ok := z.byAddr[a]; !ok { // of this host before another that claims it
				z.byAddr[a] = r.canonical()
			}
		}
	}
	return z
}

func (h *host) add(r *Record) {
	h.ttl = min(h.ttl, r.TTL)
	for _, a := range r.Addrs {
		if a.Is4() {
			h.v4 = append(h.v4, a)
		} else {
			h.v6 = append(h.v6, a)
		}
	}
	for _, s := range r.Services {
		h.services = append(h.services, target{s, r.canonical()})
	}
}

// canonical is the name that PTR and SRV give: the container's own, on the network.
func (r *Record) canonical() string {
	name := r.Names[0]
	if d := r.domains(); len(d) > 0 && len(name)+1+len(d[0]) <= maxName {
		name += "." + d[0]
	}
	return name
}

// A View is what one container may know: the zones of all its networks.
type View struct {
	Records []*Record // of the container itself, in the order of its interfaces
	zones   []*Zone
	// domains are those below which nobody else knows a name.
	domains []string
}

// Forwards reports whether the container may ask for names outside: it is on
// some network that is not internal.
func (v *View) Forwards() bool {
	return slices.ContainsFunc(v.Records, func(r *Record) bool { return !r.Internal })
}

// Servers are the servers that were named for the container or its networks;
// none: those of the host.
func (v *View) Servers() (out []netip.AddrPort) {
	for _, r := range v.Records {
		for _, s := range r.Servers {
			if !r.Internal && !slices.Contains(out, s) {
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

// A Snapshot is all that is known at one moment.
type Snapshot struct {
	Zones map[string]*Zone // by network, as marks have it
	Views map[string]*View // by container, as marks have it
}

// Next makes the snapshot after s, nil for none, of the records of this host's
// containers, and of remote ones, which have names but no view. What did not
// change is shared with s, so that a change costs what it changes.
func (s *Snapshot) Next(records, remote []*Record) *Snapshot {
	next := &Snapshot{Zones: map[string]*Zone{}, Views: map[string]*View{}}
	slices.SortFunc(records, func(a, b *Record) int { return cmp.Compare(a.Mark, b.Mark) })
	byNetwork, byContainer := map[string][]*Record{}, map[string][]*Record{}
	for _, r := range records {
		n, c := networkOf(r.Mark), r.Mark.Container()
		byNetwork[n] = append(byNetwork[n], r)
		byContainer[c] = append(byContainer[c], r)
	}
	for _, r := range remote {
		if n := networkOf(r.Mark); byNetwork[n] != nil { // else nobody here may ask
			byNetwork[n] = append(byNetwork[n], r)
		}
	}
	for network, of := range byNetwork {
		if s != nil && s.Zones[network] != nil && slices.Equal(s.Zones[network].records, of) {
			next.Zones[network] = s.Zones[network]
		} else {
			next.Zones[network] = newZone(of)
		}
	}
	for container, of := range byContainer {
		next.Views[container] = next.view(of)
	}
	return next
}

func (s *Snapshot) view(records []*Record) *View {
	v := &View{Records: records}
	slices.SortStableFunc(v.Records, func(a, b *Record) int { return cmp.Compare(a.ifName(), b.ifName()) })
	for _, r := range v.Records {
		if z := s.Zones[networkOf(r.Mark)]; !slices.Contains(v.zones, z) {
			v.zones = append(v.zones, z)
		}
		if r.Domain != "" && !slices.Contains(v.domains, r.Domain) {
			v.domains = append(v.domains, r.Domain)
		}
	}
	return v
}

func (r *Record) ifName() string { return ifNameOf(r.Mark) }

// SameZones reports whether two views see the same names.
func (v *View) SameZones(other *View) bool { return slices.Equal(v.zones, other.zones) }
