package resolver

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A State is what the daemon tells about itself.
type State struct {
	Containers []ContainerState `json:"containers"`
	Upstreams  []UpstreamState  `json:"upstreams"`
	Cache      CacheState       `json:"cache"`
	Failures   uint64           `json:"failures"`   // questions that no server answered
	Waiting    int64            `json:"waiting"`    // questions that servers are asked now
	Reconciles int              `json:"reconciles"` // how often the records were read
	Looks      int              `json:"looks"`      // the same, under its former name
}

// A ContainerState is one container that is served.
type ContainerState struct {
	ID        string   `json:"id"`
	NetNS     string   `json:"netns"`
	Networks  []string `json:"networks"`
	Names     []string `json:"names"`
	Addresses []string `json:"addresses"`
	Queries   uint64   `json:"queries"`
	Refused   uint64   `json:"refused"` // malformed, or more than one container may have
}

// An UpstreamState is one server that was asked.
type UpstreamState struct {
	Address   string `json:"address"`
	Container string `json:"container,omitempty"` // that it is named for; "": of the host
	RTT       string `json:"rtt"`
	Failures  int    `json:"failures"` // since its last answer
	Asked     uint64 `json:"asked"`
}

// A CacheState is how the cache does.
type CacheState struct {
	Entries int    `json:"entries"`
	Bytes   int    `json:"bytes"`
	Hits    uint64 `json:"hits"`
	Misses  uint64 `json:"misses"`
}

// State returns the state of this moment, in the order of names.
func (s *Service) State() State {
	out := State{Failures: s.out.failures.Load(), Waiting: s.out.flying.Load(), Upstreams: s.out.state()}
	out.Cache.Entries, out.Cache.Bytes = s.out.cache.size()
	out.Cache.Hits, out.Cache.Misses = s.out.hits.Load(), s.out.misses.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Reconciles, out.Looks = s.reconciles, s.reconciles
	for _, srv := range s.servers {
		if srv.scope.Load() != nil {
			out.Containers = append(out.Containers, srv.state())
		}
	}
	slices.SortFunc(out.Containers, func(a, b ContainerState) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (s *server) state() ContainerState {
	records := s.scope.Load().Records
	c := ContainerState{ID: records[0].ContainerID, NetNS: records[0].NetNS, Queries: s.queries.Load(), Refused: s.refused.Load()}
	for _, r := range records {
		c.Networks = append(c.Networks, r.Network)
		c.Names = append(c.Names, r.Names...)
		for _, a := range r.Addrs {
			c.Addresses = append(c.Addresses, a.String())
		}
	}
	slices.Sort(c.Names)
	c.Names = slices.Compact(c.Names)
	return c
}

func (f *forwarder) state() (out []UpstreamState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, u := range f.upstreams {
		u.mu.Lock()
		out = append(out, UpstreamState{k.addr.String(), k.scope, u.rtt.Round(10 * time.Microsecond).String(), u.failures, u.asked})
		u.mu.Unlock()
	}
	slices.SortFunc(out, func(a, b UpstreamState) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Address, b.Address))
	})
	return out
}

// Metrics writes the counters in the text format of Prometheus. Containers are
// summed up, as their names come and go.
func (s State) Metrics(w io.Writer) error {
	var queries, refused uint64
	for _, c := range s.Containers {
		queries += c.Queries
		refused += c.Refused
	}
	var b strings.Builder
	for _, m := range []struct {
		name, kind string
		value      uint64
	}{
		{"containers", "gauge", uint64(len(s.Containers))},
		{"queries", "gauge", queries}, // of the containers that are there
		{"refused", "gauge", refused},
		{"cache_entries", "gauge", uint64(s.Cache.Entries)},
		{"cache_bytes", "gauge", uint64(s.Cache.Bytes)},
		{"cache_hits_total", "counter", s.Cache.Hits},
		{"cache_misses_total", "counter", s.Cache.Misses},
		{"forward_failures_total", "counter", s.Failures},
		{"forward_waiting", "gauge", uint64(s.Waiting)},
		{"reconciles_total", "counter", uint64(s.Reconciles)},
		{"looks_total", "counter", uint64(s.Looks)}, // the same, under its former name
	} {
		fmt.Fprintf(&b, "# TYPE dns_hosts_%s %s\ndns_hosts_%s %d\n", m.name, m.kind, m.name, m.value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
