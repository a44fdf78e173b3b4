package resolver

import (
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// hostServers are the servers of the host's resolv.conf(5), read again when the
// file has changed, whatever has changed it, and through links.
type hostServers struct {
	path string

	mu      sync.Mutex
	looked  time.Time
	seen    os.FileInfo
	servers []netip.AddrPort
}

// lookEvery bounds how long a change goes unnoticed, and how often is looked.
const lookEvery = 500 * time.Millisecond

// get returns the servers in the order of the file; none if there is none.
func (h *hostServers) get() []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.looked) < lookEvery {
		return h.servers
	}
	h.looked = time.Now()
	st, err := os.Stat(h.path)
	if err != nil {
		h.seen, h.servers = nil, nil
		return nil
	}
	if h.seen != nil && os.SameFile(st, h.seen) && st.ModTime().Equal(h.seen.ModTime()) && st.Size() == h.seen.Size() {
		return h.servers
	}
	c, err := dns.ClientConfigFromFile(h.path)
	if err != nil {
		return h.servers // being written; it is looked at again
	}
	h.seen, h.servers = st, serversIn(c)
	return h.servers
}

func serversIn(c *dns.ClientConfig) (out []netip.AddrPort) {
	const port = 53
	for _, s := range c.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.AddrPortFrom(a.Unmap(), port))
		}
	}
	return out
}
