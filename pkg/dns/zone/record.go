// Package zone is names to addresses: the record that each attachment leaves on
// disk, the hosts files that are made of records, and the answer to a DNS
// question. It opens no socket; pkg/dns/resolver answers by it.
package zone

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Record is what an attachment tells its networks. It is a file of JSON.
type Record struct {
	Mark        owner.Mark `json:"mark"`
	Network     string     `json:"network"`
	ContainerID string     `json:"containerID"`
	NetNS       string     `json:"netns"` // path of the container's namespace
	// NetNSInode is the inode number that the namespace had at ADD; 0 in records of
	// earlier versions. The path alone may lead to another one by now, as that of a
	// process does whose number is used again.
	NetNSInode uint64       `json:"netnsInode,omitempty"`
	Addrs      []netip.Addr `json:"addresses"`
	// Names are in lower case; the first is the container's own, which PTR gives.
	Names []string `json:"names"`
	// Domain is a second name of the network, "" for none: what is below it is
	// never asked elsewhere.
	Domain   string    `json:"domain,omitempty"`
	TTL      uint32    `json:"ttl"` // seconds
	Services []Service `json:"services,omitempty"`

	// Servers answer what the zone does not know; none: those of the host.
	Servers []netip.AddrPort `json:"servers,omitempty"`
	// Internal networks ask nobody else, but for those Servers that are on them: in one
	// of Subnets.
	Internal bool           `json:"internal,omitempty"`
	Subnets  []netip.Prefix `json:"subnets,omitempty"`
	// Capture leads all queries of the container to the resolver, whatever
	// server they are for.
	Capture bool `json:"capture,omitempty"`

	// Search and Options are for the container's resolv.conf(5).
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
	// NetNSName is the name under which ip-netns(8) knows the container, if it
	// is to find our files; "" for none.
	NetNSName string `json:"netnsName,omitempty"`
	// Unique refuses a name that another container of the network has.
	Unique bool `json:"uniqueNames,omitempty"`
	// Parts are what each plugin has said, as the record of it alone would be, where the
	// plugin stands more than once in the list.
	Parts []string `json:"parts,omitempty"`
}

// A Service is a port that SRV answers with (RFC 2782), by its name ("http") or
// the number of the published port.
type Service struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // "tcp", "udp" or "sctp"
	Port     uint16 `json:"port"`
}

// maxRecord bounds the file of a record in bytes.
const maxRecord = 64 << 10

// maxTTL is the largest TTL in seconds (RFC 2181, section 8).
const maxTTL = 1<<31 - 1

// ParseRecord decodes a record, whose every name can be served: a file that
// somebody else wrote does no more harm than to be refused.
func ParseRecord(data []byte) (Record, error) {
	var r Record
	if len(data) > maxRecord {
		return r, fmt.Errorf("record of %d bytes, want at most %d", len(data), maxRecord)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("record: %w", err)
	}
	r.leaveOutReserved()
	return r, r.validate()
}

// leaveOutReserved takes names out that earlier versions, and other hosts, may have
// written.
func (r *Record) leaveOutReserved() {
	r.Names = slices.DeleteFunc(r.Names, func(n string) bool { return reserved(strings.ToLower(n)) })
	if reserved(strings.ToLower(r.Domain)) {
		r.Domain = ""
	}
}

func (r *Record) validate() error {
	if err := r.validateNames(); err != nil {
		return err
	}
	if !r.Mark.Valid() || !r.Mark.OnNetwork(r.Network) {
		return fmt.Errorf("record: mark %q is none of network %q", r.Mark, r.Network)
	}
	if len(r.Names) == 0 || r.TTL > maxTTL {
		return errors.New("record: no name, or a TTL that is out of range")
	}
	if n := r.NetNSName; n != "" && (n != filepath.Base(n) || n == "." || n == "..") {
		return fmt.Errorf("record: name of a namespace %q", n)
	}
	for _, a := range r.Addrs {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("record: address %s", a)
		}
	}
	return nil
}

func (r *Record) validateNames() error {
	names := r.Names
	if r.Domain != "" {
		names = append(names[:len(names):len(names)], r.Domain)
	}
	for _, n := range names {
		if lower, err := ParseName(n); err != nil || lower != n {
			return fmt.Errorf("record: found name %q, want %s", n, NameWanted)
		}
	}
	for _, s := range r.Services {
		if !isLabel(s.Name) || !isLabel(s.Protocol) {
			return fmt.Errorf("record: service %q, protocol %q", s.Name, s.Protocol)
		}
	}
	return nil
}

// In reports whether the namespace with an inode number may be the container's.
func (r *Record) In(inode uint64) bool { return r.NetNSInode == 0 || r.NetNSInode == inode }

// asks are the servers that may be asked by way of the network.
func (r *Record) asks() (out []netip.AddrPort) {
	for _, s := range r.Servers {
		if !r.Internal || slices.ContainsFunc(r.Subnets, func(p netip.Prefix) bool { return p.Contains(s.Addr()) }) {
			out = append(out, s)
		}
	}
	return out
}

// Inode returns the inode number of the container's namespace, 0 if that is gone: its
// path leads nowhere, to another namespace than at ADD, or to the host's.
func (r *Record) Inode() uint64 {
	inode := inodeOf(r.NetNS)
	if !r.In(inode) || inode == inodeOf("/proc/thread-self/ns/net") {
		return 0
	}
	return inode
}

func inodeOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// qualified returns the names by which peers find the record: each as it is,
// and below the network's name and domain.
func (r *Record) qualified() []string {
	var out []string
	for _, n := range r.Names {
		out = append(out, n)
		for _, d := range r.domains() {
			if below, err := ParseName(n + "." + d); err == nil {
				out = append(out, below)
			}
		}
	}
	return out
}

// domains are the names of the network that can stand in a name.
func (r *Record) domains() []string {
	var out []string
	if n, err := ParseName(r.Network); err == nil {
		out = append(out, n)
	}
	if r.Domain != "" && (len(out) == 0 || r.Domain != out[0]) {
		out = append(out, r.Domain)
	}
	return out
}
