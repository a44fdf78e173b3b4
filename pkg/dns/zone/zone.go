package zone

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
)

// A Zone is the names on one network, as they are at this moment: it is changed
// name by name, while it is asked.
type Zone struct {
	mu    sync.RWMutex
	hosts map[string]*host // by qualified name
	addrs map[netip.Addr][]*Record
}

// A host is what a name leads to: one container, or all that have the alias. It
// is not changed once it is made.
type host struct {
	records  []*Record
	v4, v6   []netip.Addr
	services []target
	ttl      uint32
}

// A target is where a service is found.
type target struct {
	Service
	name string
}

func newZone() *Zone {
	return &Zone{hosts: map[string]*host{}, addrs: map[netip.Addr][]*Record{}}
}

// add makes a record known.
func (z *Zone) add(r *Record) {
	z.change(r, func(of []*Record) []*Record {
		if slices.Contains(of, r) { // it has one name twice
			return of
		}
		at, _ := slices.BinarySearchFunc(of, r, inOrder)
		return slices.Insert(slices.Clone(of), at, r)
	})
}

// drop makes a record unknown, and reports whether it was the last.
func (z *Zone) drop(r *Record) (last bool) {
	z.change(r, func(of []*Record) []*Record {
		return slices.DeleteFunc(slices.Clone(of), func(o *Record) bool { return o == r })
	})
	return len(z.hosts) == 0
}

// change changes which records have the names and addresses of a record.
func (z *Zone) change(r *Record, f func([]*Record) []*Record) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, name := range r.qualified() {
		var before []*Record
		if h := z.hosts[name]; h != nil {
			before = h.records
		}
		if h := newHost(f(before)); h != nil {
			z.hosts[name] = h
		} else {
			delete(z.hosts, name)
		}
	}
	for _, a := range r.Addrs {
		if of := f(z.addrs[a]); len(of) > 0 {
			z.addrs[a] = of
		} else {
			delete(z.addrs, a)
		}
	}
}

// inOrder has records of this host before those of others, so that nobody takes
// over what an address of this host is called.
func inOrder(a, b *Record) int {
	return cmp.Or(cmp.Compare(a.far(), b.far()), cmp.Compare(a.Mark, b.Mark))
}

// far is 1 for a container of another host, whose namespace is no path here.
func (r *Record) far() int {
	if r.NetNS == "" {
		return 1
	}
	return 0
}

// newHost makes the host of a name that these records have; nil for none.
func newHost(records []*Record) *host {
	if len(records) == 0 {
		return nil
	}
	h := &host{records: records, ttl: records[0].TTL}
	for _, r := range records {
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
	return h
}

// canonical is the name that PTR and SRV give: the container's own, on the network.
func (r *Record) canonical() string {
	if d := r.domains(); len(d) > 0 {
		if name, err := ParseName(r.Names[0] + "." + d[0]); err == nil {
			return name
		}
	}
	return r.Names[0]
}

// host is what a name leads to, nil for nothing.
func (z *Zone) host(name string) *host {
	z.mu.RLock()
	defer z.mu.RUnlock()
	return z.hosts[name]
}

// named returns the name that an address has, and its TTL; "" for none.
func (z *Zone) named(a netip.Addr) (name string, ttl uint32) {
	z.mu.RLock()
	defer z.mu.RUnlock()
	if of := z.addrs[a]; len(of) > 0 {
		name = of[0].canonical()
		ttl = z.hosts[name].ttl
	}
	return name, ttl
}
