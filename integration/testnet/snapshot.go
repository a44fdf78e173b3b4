package testnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Snapshot is what a network namespace holds, and for the host also files and
// processes: objects ("link cni0", "file /run/x"), each with its attributes in
// order. What changes by itself (counters, handles, indexes, lifetimes) is left
// out, so snapshots of equal hosts are equal.
type Snapshot map[string][]string

// Snapshot looks at the calling thread's namespaces: the host's.
func (h *Host) Snapshot() Snapshot {
	h.t.Helper()
	s := Snapshot{}
	h.network(s)
	files(s, "/run", "/var/lib/cni", "/etc/netns")
	procs, err := strays()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, p := range procs {
		s.add("process", p)
	}
	return s
}

// SnapshotOf looks at the network namespace of a container.
func (h *Host) SnapshotOf(container string) Snapshot {
	h.t.Helper()
	s := Snapshot{}
	h.In(container, func() { h.network(s) })
	return s
}

func (h *Host) network(s Snapshot) {
	h.t.Helper()
	h.records("ip -d",
		listing{"addr", s.link},
		listing{"route show table all", s.route},
		listing{"neigh show nud permanent", func(r record) { s.add("neigh "+r.key("dst", "dev"), r.attributes()...) }},
	)
	if slices.ContainsFunc(slices.Collect(maps.Keys(s)), func(o string) bool {
		link, ok := strings.CutPrefix(o, "link ")
		return ok && s.ofNetwork(link)
	}) {
		h.bridges(s)
	}
	h.qdiscs(s)
	h.firewall(s)
	sysctls(s)
}

// qdiscs records what limits traffic. Every link shows its own root qdisc; where
// none is more than the kernel's default, there are no others either.
func (h *Host) qdiscs(s Snapshot) {
	h.t.Helper()
	limited := slices.ContainsFunc(slices.Collect(maps.Values(s)), func(attributes []string) bool {
		return slices.Contains(attributes, "qdisc tbf")
	})
	if !limited {
		return
	}
	h.records("tc", listing{"qdisc show", func(r record) {
		if kind := r.text("kind"); kind == "tbf" || kind == "ingress" {
			s.add("qdisc "+r.key("dev", "kind"), r.attributes()...)
		}
	}})
}

func (h *Host) bridges(s Snapshot) {
	h.t.Helper()
	h.records("bridge",
		listing{"fdb show", func(r record) {
			if mac := r.text("mac"); !strings.HasPrefix(mac, "33:33:") && !strings.HasPrefix(mac, "01:00:5e:") && r.text("state") == "permanent" {
				s.add("fdb "+r.key("mac", "ifname", "vlan"), r.attributes()...)
			}
		}},
		listing{"vlan show", func(r record) { s.add("vlan "+r.text("ifname"), r.attributes()...) }},
	)
}

// A record is one object of an iproute2 or nft listing.
type record map[string]any

// A listing is what a tool of iproute2 is asked, and what becomes of each record.
type listing struct {
	command string
	each    func(record)
}

// records runs a tool of iproute2, with options, once for all listings.
func (h *Host) records(tool string, listings ...listing) {
	h.t.Helper()
	var commands, stderr strings.Builder
	for _, l := range listings {
		fmt.Fprintln(&commands, l.command)
	}
	argv := append(strings.Fields(tool), "-j", "-batch", "-")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(commands.String()), &stderr
	out, err := cmd.Output()
	if err != nil {
		h.t.Errorf("%s: %q: %v: %s", tool, &commands, err, &stderr)
	}
	lists := json.NewDecoder(bytes.NewReader(out))
	for _, l := range listings {
		var list []record
		if err := lists.Decode(&list); err != nil {
			h.t.Errorf("%s %s: %v", tool, l.command, err)
		}
		for _, r := range list {
			if len(r) > 0 {
				l.each(r)
			}
		}
	}
}

// volatile is what changes without anybody changing it, or is only a number by
// which the kernel knows an object.
var volatile = regexp.MustCompile(`^(ifindex|link_index|link_netnsid|handle|packets|bytes|expires|operstate|` +
	`.*_timer|.*_life_time|cache_info|tentative|optimistic|dadfailed|stable-privacy|index|promiscuity|allmulti|num_[rt]x_queues|gso_.*|gro_.*|tso_.*|` +
	`root_.*|designated_.*|bridge_id|topology_change.*|state|hold|dynamic|protocol_down.*|stats.*|group_fwd.*|multicast_.*|mcast_.*|` +
	`message_age_timer|forward_delay_timer|id|no|config_pending|topology_change_ack|link|parentbus|parentdev)$`)

// states of a carrier come some time after the change that caused them.
var carrier = regexp.MustCompile(`^(NO-CARRIER|LOWER_UP|linkdown|M-DOWN)$`)

// attributes flattens r into "path value" lines.
func (r record) attributes() []string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(r)) {
		if !volatile.MatchString(k) {
			lines = append(lines, flatten(k, r[k])...)
		}
	}
	return lines
}

func flatten(path string, v any) []string {
	switch v := v.(type) {
	case map[string]any:
		var lines []string
		for _, line := range record(v).attributes() {
			lines = append(lines, path+"."+line)
		}
		return lines
	case []any:
		v = slices.DeleteFunc(slices.Clone(v), func(e any) bool {
			s, ok := e.(string)
			return ok && carrier.MatchString(s)
		})
		if len(v) == 0 {
			return nil
		}
		return []string{path + " " + compact(scrub(v))}
	}
	return []string{path + " " + fmt.Sprint(v)}
}

// scrub removes what is volatile at any depth.
func scrub(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			if !volatile.MatchString(k) || k == "state" || k == "protocol" {
				out[k] = scrub(e)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = scrub(e)
		}
		return out
	}
	return v
}

func compact(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func (r record) text(k string) string {
	if v, ok := r[k]; ok {
		return fmt.Sprint(v)
	}
	return ""
}

// key joins the named fields and takes them out of the attributes.
func (r record) key(names ...string) string {
	var words []string
	for _, n := range names {
		if v := r.text(n); v != "" {
			words = append(words, n, v)
			delete(r, n)
		}
	}
	return strings.Join(words, " ")
}

func (s Snapshot) link(r record) {
	name := r.text("ifname")
	addrs, _ := r["addr_info"].([]any)
	delete(r, "addr_info")
	s.add("link "+name, r.attributes()...)
	for _, a := range addrs {
		addr := record(a.(map[string]any))
		// The kernel makes these by itself, some time after the link is up.
		if addr.text("scope") == "link" && addr.text("family") == "inet6" {
			continue
		}
		s.add("addr "+name+" "+addr.text("local")+"/"+addr.text("prefixlen"), addr.attributes()...)
	}
}

// route leaves out what goes with the kernel's own IPv6 addresses: link-local, and
// the subnet routers' anycast address of each, which comes with forwarding. An IPv6
// address that is there gets its local route from a work queue, some time after.
func (s Snapshot) route(r record) {
	dst := r.text("dst")
	if strings.HasPrefix(dst, "fe80:") || strings.HasPrefix(dst, "ff00::") || r.text("type") == "anycast" {
		return
	}
	if r.text("type") == "local" && r.text("protocol") == "kernel" && s.hasIPv6(r.text("dev"), dst) {
		return
	}
	delete(r, "flags")
	delete(r, "pref")
	s.add("route "+r.key("type", "dst", "via", "gateway", "dev", "table"), r.attributes()...)
}

func (s Snapshot) hasIPv6(link, addr string) bool {
	for object := range s {
		if strings.Contains(addr, ":") && strings.HasPrefix(object, "addr "+link+" "+addr+"/") {
			return true
		}
	}
	return false
}

// files records each file below the roots with its text, or its size if it is
// no text. /run/netns is there with its names: a namespace that is left is a leak.
func files(s Snapshot, roots ...string) {
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == root {
				return nil //nolint:nilerr // vanished while we looked
			}
			s.add("file "+path, content(path, d)...)
			return nil
		})
	}
}

func content(path string, d fs.DirEntry) []string {
	if target, err := os.Readlink(path); err == nil {
		return []string{"-> " + target}
	}
	if !d.Type().IsRegular() || strings.HasPrefix(path, "/run/netns/") {
		return []string{d.Type().String()}
	}
	// What host-local remembers, so as not to give an address out again at
	// once, and its index, which may be rebuilt; the leases are files.
	if strings.HasPrefix(d.Name(), "last_reserved_ip.") || strings.Contains(path, "/.dockyard/") {
		return nil
	}
	b, err := os.ReadFile(path)
	switch {
	case err != nil:
		return []string{err.Error()}
	case len(b) == 0:
		return nil
	case !utf8.Valid(b) || strings.ContainsRune(string(b), 0):
		return []string{fmt.Sprintf("%d bytes", len(b))}
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

// add records one object; a second of the same name gets a number.
func (s Snapshot) add(object string, attributes ...string) {
	name := object
	for i := 2; ; i++ {
		if _, ok := s[name]; !ok {
			break
		}
		name = fmt.Sprintf("%s #%d", object, i)
	}
	s[name] = attributes
}

// Diff says what to has that from has not (+) and the other way round (-), one
// line an object or, where both have the object, one line an attribute. It is
// empty if the two are equal.
func Diff(from, to Snapshot) []string {
	objects := maps.Clone(from)
	maps.Copy(objects, to)
	var lines []string
	for _, o := range slices.Sorted(maps.Keys(objects)) {
		a, inFrom := from[o]
		b, inTo := to[o]
		switch {
		case !inFrom:
			lines = append(lines, "+ "+o+summary(o, b))
		case !inTo:
			lines = append(lines, "- "+o+summary(o, a))
		case !slices.Equal(a, b):
			lines = append(lines, diffAttributes(o, a, b)...)
		}
	}
	return lines
}

func diffAttributes(object string, from, to []string) []string {
	var lines []string
	for _, a := range from {
		if !slices.Contains(to, a) {
			lines = append(lines, "- "+object+": "+a)
		}
	}
	for _, b := range to {
		if !slices.Contains(from, b) {
			lines = append(lines, "+ "+object+": "+b)
		}
	}
	if lines == nil {
		lines = []string{"~ " + object + ": order"}
	}
	return lines
}

func summary(object string, attributes []string) string {
	const limit = 400
	text := []rune(strings.Join(attributes, ", "))
	switch {
	case len(text) == 0 || strings.Contains(object, "sysctl net/"): // goes with its link
		return ""
	case len(text) > limit:
		return ": " + string(text[:limit]) + "…"
	}
	return ": " + string(text)
}

// Equal is nil if the snapshots are equal, otherwise an error that lists what
// differs.
func Equal(want, found Snapshot) error {
	if d := Diff(want, found); len(d) > 0 {
		return fmt.Errorf("the host differs:\n\t%s", strings.Join(d, "\n\t"))
	}
	return nil
}

// Has reports whether the object is there.
func (s Snapshot) Has(object string) bool {
	_, ok := s[object]
	return ok
}
