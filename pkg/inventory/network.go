package inventory

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Network is a network that containers can be attached to: a conflist.
type Network struct {
	Name    string
	File    string
	Owner   string // whose file it is: "dockyard", "nerdctl", "podman", or "" for a person's
	Driver  string // in Docker's words: "bridge", "macvlan", "ipvlan", "overlay", or the first plugin
	Plugins []string
	Created time.Time
	Labels  map[string]string
	Options map[string]string // as they were given to create

	Bridge   string // of bridge and overlay networks
	Master   string // of macvlan and ipvlan
	VNI      int
	VLAN     int
	MTU      int
	Internal bool
	Subnets  []Subnet
	DataDir  string // of its leases, "" if host-local gives none

	// Problem says why the file is of no use, or not alone.
	Problem string
	Raw     []byte
}

// A Subnet is one range of addresses of a network.
type Subnet struct {
	Subnet               netip.Prefix
	RangeStart, RangeEnd netip.Addr
	Gateway              netip.Addr // as written, or what host-local would take
}

// ID is the network's in the form of Docker's: nerdctl and podman derive theirs in
// the same way from the name.
func (n *Network) ID() string {
	sum := sha256.Sum256([]byte(n.Name))
	return hex.EncodeToString(sum[:])
}

// Scope is "global" for a network on many hosts.
func (n *Network) Scope() string {
	if n.Driver == "overlay" {
		return "global"
	}
	return "local"
}

// Foreign says whose the file is and how they change it, "" where it is for us or
// a person to change.
func (n *Network) Foreign() string {
	switch n.Owner {
	case "nerdctl":
		return "nerdctl network"
	case "podman":
		return "podman network"
	}
	return ""
}

// conflist is what can be told of a network by its file, whichever plugins it has.
type conflist struct {
	Name         string            `json:"name"`
	Type         string            `json:"type"` // of a single configuration
	Plugins      []json.RawMessage `json:"plugins"`
	NerdctlID    *string           `json:"nerdctlID"`
	NerdctlLabel map[string]string `json:"nerdctlLabels"`
	Dockyard     *Metadata         `json:"dockyard"`
}

// Metadata is what create keeps of a network beside what plugins are told: it is
// the value of the conflist's key "dockyard", which libcni and plugins ignore.
type Metadata struct {
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

type pluginConf struct {
	Type     string   `json:"type"`
	Bridge   string   `json:"bridge"`
	Master   string   `json:"master"`
	VNI      int      `json:"vni"`
	VLAN     int      `json:"vlan"`
	MTU      int      `json:"mtu"`
	Internal bool     `json:"internal"`
	Subnets  []string `json:"subnets"`
	IPAM     struct {
		Type    string       `json:"type"`
		DataDir string       `json:"dataDir"`
		Ranges  [][]rangeOf  `json:"ranges"`
		Subnet  netip.Prefix `json:"subnet"`
		Gateway netip.Addr   `json:"gateway"`
	} `json:"ipam"`
	Args struct {
		Labels  map[string]string `json:"podman_labels"`
		Options map[string]string `json:"podman_options"`
	} `json:"args"`
}

type rangeOf struct {
	Subnet     netip.Prefix `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart"`
	RangeEnd   netip.Addr   `json:"rangeEnd"`
	Gateway    netip.Addr   `json:"gateway"`
}

// DefaultDataDir is where host-local keeps leases.
const DefaultDataDir = "/var/lib/cni/networks"

// ParseNetwork reads a conflist, or a single configuration. What is wrong with it is
// in its Problem: others can be used all the same.
func ParseNetwork(file string, b []byte) Network {
	n := Network{File: file, Raw: b}
	var c conflist
	if err := json.Unmarshal(b, &c); err != nil {
		n.Problem = "not JSON: " + err.Error()
		return n
	}
	n.Name = c.Name
	if c.Plugins == nil && c.Type != "" {
		c.Plugins = []json.RawMessage{b}
	}
	if n.Name == "" || len(c.Plugins) == 0 {
		n.Problem = "no name, or no plugins"
		return n
	}
	n.ownedBy(&c)
	for i, raw := range c.Plugins {
		n.plugin(i, raw)
	}
	return n
}

func (n *Network) ownedBy(c *conflist) {
	switch {
	case c.NerdctlID != nil:
		n.Owner, n.Labels = "nerdctl", c.NerdctlLabel
	case c.Dockyard != nil:
		n.Owner, n.Created, n.Labels, n.Options = "dockyard", c.Dockyard.Created, c.Dockyard.Labels, c.Dockyard.Options
	}
	if n.Created.IsZero() {
		if st, err := os.Stat(n.File); err == nil {
			n.Created = st.ModTime()
		}
	}
}

// plugin takes over what one plugin's configuration says. What it says in a form
// that no plugin of ours takes is left out.
func (n *Network) plugin(i int, raw json.RawMessage) {
	var p pluginConf
	if err := json.Unmarshal(raw, &p); err != nil && p.Type == "" {
		n.Problem = fmt.Sprintf("plugins[%d]: %v", i, err)
		return
	}
	n.Plugins = append(n.Plugins, p.Type)
	if i > 0 {
		return
	}
	n.Driver = map[string]string{"vxlan-overlay": "overlay"}[p.Type]
	if n.Driver == "" {
		n.Driver = p.Type
	}
	if p.Args.Labels != nil || p.Args.Options != nil {
		n.Owner, n.Labels, n.Options = "podman", p.Args.Labels, p.Args.Options
	}
	n.Bridge, n.Master, n.VNI, n.VLAN, n.MTU, n.Internal = p.Bridge, p.Master, p.VNI, p.VLAN, p.MTU, p.Internal
	switch {
	case n.Driver == "bridge" && n.Bridge == "":
		n.Bridge = "cni0"
	case n.Driver == "overlay" && n.Bridge == "":
		n.Bridge = fmt.Sprintf("br-vx%d", n.VNI)
	}
	n.addresses(&p)
}

func (n *Network) addresses(p *pluginConf) {
	if p.IPAM.Type == "host-local" {
		n.DataDir = p.IPAM.DataDir
		if n.DataDir == "" {
			n.DataDir = DefaultDataDir
		}
	}
	if p.IPAM.Subnet.IsValid() {
		n.subnet(rangeOf{Subnet: p.IPAM.Subnet, Gateway: p.IPAM.Gateway})
	}
	for _, set := range p.IPAM.Ranges {
		for _, r := range set {
			n.subnet(r)
		}
	}
	for _, text := range p.Subnets {
		if s, err := netip.ParsePrefix(text); err == nil {
			n.Subnets = append(n.Subnets, Subnet{Subnet: s})
		}
	}
}

func (n *Network) subnet(r rangeOf) {
	if !r.Subnet.IsValid() {
		return
	}
	s := Subnet(r)
	if !s.Gateway.IsValid() {
		s.Gateway = r.Subnet.Masked().Addr().Next()
	}
	n.Subnets = append(n.Subnets, s)
}

// IPv4 and IPv6 tell which families the network has.
func (n *Network) IPv4() bool { return n.has(netip.Addr.Is4) }

// IPv6 is IPv4 for the other family.
func (n *Network) IPv6() bool { return n.has(netip.Addr.Is6) }

func (n *Network) has(family func(netip.Addr) bool) bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return family(s.Subnet.Addr()) })
}

// ReadNetworks reads the conflists of all directories, in the order in which
// runtimes take them, and those of nerdctl's namespaces below.
func ReadNetworks(dirs []string) ([]Network, error) {
	var out []Network
	for _, dir := range dirs {
		files, err := confFiles(dir)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone meanwhile
			}
			if err != nil {
				return nil, err
			}
			if len(bytes.TrimSpace(b)) == 0 {
				out = append(out, Network{File: f, Problem: "empty"})
				continue
			}
			out = append(out, ParseNetwork(f, b))
		}
	}
	first := map[string]string{}
	for i, n := range out {
		if n.Name == "" {
			continue
		}
		if f, twice := first[n.Name]; twice {
			out[i].Problem = fmt.Sprintf("network %s is defined by %s, too", n.Name, f)
		} else {
			first[n.Name] = n.File
		}
	}
	return out, nil
}

// confFiles lists what runtimes read of a directory, and of nerdctl's directories in
// it, sorted by name.
func confFiles(dir string) (files []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			nested, _ := filepath.Glob(filepath.Join(path, "nerdctl-*.conflist"))
			files = append(files, nested...)
		case slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) && !strings.HasPrefix(e.Name(), "."):
			files = append(files, path)
		}
	}
	return files, err
}
