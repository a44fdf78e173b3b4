package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// A damage breaks one thing that ADD made.
type damage struct {
	name    string   // what it breaks, without what differs from one ADD to the next
	command string   // for sh, in the container if that is not empty
	within  string   // container
	says    []string // CHECK must name it: one of these is in its text
	own     bool     // it belongs to the attachment: DEL does without it
	undo    string   // for what is no longer the attachment's to remove
}

// breakAndCheck breaks one thing at a time, all that ADD is seen to make. CHECK
// must fail and name it; DEL must not mind; ADD must put shared things right.
func breakAndCheck(t *testing.T, e example) {
	l := newLab(t, e, 1)
	a := l.atts[0]
	done := map[string]bool{}
	var d damage
	for {
		l.heal(d)
		var ok bool
		d, ok = l.next(done)
		if !ok {
			break
		}
		done[d.name] = true
		if len(done) > 300 {
			t.Fatalf("no end: names differ from one ADD to the next: %q", slices.Sorted(maps.Keys(done))[:20])
		}
		l.inflict(d)
		err := l.net.Check(a)
		if err == nil {
			t.Errorf("CHECK did not see: %s (%s)", d.name, d.command)
		} else if !slices.ContainsFunc(d.says, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("CHECK after %q (%s) names none of %q: %v", d.name, d.command, d.says, err)
		}
		if err := l.net.Del(a); err != nil {
			t.Errorf("DEL after %q (%s): %v", d.name, d.command, err)
		}
		if d.undo != "" {
			l.h.Run("sh", "-c", d.undo)
		}
		if d.own {
			l.is(l.base, "DEL after %q (%s)", d.name, d.command)
		}
	}
	l.del(a)
	if err := testnet.Equal(withoutMAC(l.base), withoutMAC(l.look())); err != nil {
		t.Error("all healed: ", err)
	}
	t.Logf("%d things broken: %s", len(done), strings.Join(slices.Sorted(maps.Keys(done)), "; "))
	if len(done) == 0 && e.name != "none" {
		t.Error("ADD made nothing that could be broken")
	}
}

// heal attaches again after a damage. If that does not work, the test has
// failed, and goes on without the firewall rules that may be in the way.
func (l *lab) heal(d damage) {
	l.Helper()
	a := l.atts[0]
	_, err := l.net.Add(a)
	if err == nil {
		err = l.net.Check(a)
	}
	if err == nil {
		return
	}
	l.Errorf("ADD and CHECK after %q (%s): %v", d.name, d.command, err)
	l.del(a)
	l.h.Run("nft", "flush", "ruleset")
	l.add(a)
	l.check(a)
}

// withoutMAC leaves out link addresses: a bridge that had to be made anew has
// another one.
func withoutMAC(s testnet.Snapshot) testnet.Snapshot {
	out := testnet.Snapshot{}
	for object, attributes := range s {
		if !strings.HasPrefix(object, "fdb ") {
			out[object] = slices.DeleteFunc(slices.Clone(attributes), func(a string) bool { return strings.HasPrefix(a, "address ") })
		}
	}
	return out
}

func (l *lab) inflict(d damage) {
	l.Helper()
	run := func() { l.h.Run("sh", "-c", d.command) }
	if d.within == "" {
		run()
	} else {
		l.h.In(d.within, run)
	}
}

// next finds a damage that was not yet done: first to what the attachment owns,
// as what is shared may come back a little different.
func (l *lab) next(done map[string]bool) (damage, bool) {
	now := l.look()
	l.rules = map[string][]damage{}
	var shared []damage
	for _, object := range slices.Sorted(maps.Keys(now)) {
		if slices.Equal(now[object], l.pristine[object]) && l.pristine.Has(object) {
			continue
		}
		_, inBase := l.base[object]
		for _, d := range l.damages(object, now) {
			d.own = !inBase && d.undo == ""
			switch {
			case done[d.name]:
			case d.own:
				return d, true
			default:
				shared = append(shared, d)
			}
		}
	}
	if len(shared) == 0 {
		return damage{}, false
	}
	return shared[0], true
}

// address matches what differs between two ADDs of one attachment.
var address = regexp.MustCompile(`\b(\d+\.\d+\.\d+\.\d+|[0-9a-f]*(:[0-9a-f]*){2,})(/\d+)?\b`)

// damages lists what can be broken of an object.
func (l *lab) damages(object string, now testnet.Snapshot) []damage {
	within, bare := "", object
	for _, a := range l.atts {
		if o, ok := strings.CutPrefix(object, inside(a.ID)); ok {
			within, bare = a.ID, o
		}
	}
	words := strings.Fields(bare)
	var out []damage
	switch kind := words[0]; kind {
	case "link":
		out = l.linkDamages(words[1], now[object], within)
	case "qdisc": // dev LINK kind KIND
		out = qdiscDamages(words[2], words[4])
	case "addr":
		out = addrDamages(words, now[object])
	case "route":
		out = routeDamages(words, now[object])
	case "vlan":
		out = vlanDamages(words[1], now[object], now)
	case "neigh":
		out = neighDamages(words)
	case "fdb":
		out = fdbDamages(words, now[object])
	case "nft":
		out = l.nftDamages(words, bare)
	case "iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy":
		out = iptablesDamages(words, now[object], l.pristine[object])
	case "file":
		out = append(leaseDamages(words[1]), nameDamages(words[1], now[object])...)
	case "sysctl":
		out = sysctlDamages(words[1], now[object], l.pristine[object])
	}
	for i := range out {
		out[i].within = within
		out[i].name = address.ReplaceAllString(strings.TrimSpace(within+" "+out[i].name), "ADDRESS")
	}
	return out
}

func (l *lab) linkDamages(link string, attributes []string, within string) []damage {
	has := func(a string) bool { return slices.Contains(attributes, a) }
	says := []string{link}
	out := []damage{{name: "down " + link, command: "ip link set " + link + " down", says: says}}
	if link == "lo" {
		return out
	}
	out = append(out, damage{name: "delete " + link, command: "ip link del " + link, says: says})
	if within != "" {
		return append(out, l.tuningDamages(link)...) // else its MTU and MAC are for later plugins to change
	}
	if !has("linkinfo.info_kind bridge") {
		if slices.ContainsFunc(attributes, func(a string) bool { return strings.HasPrefix(a, "ifalias ") }) {
			out = append(out, damage{name: "alias of " + link, command: "ip link set " + link + " alias ''", says: says})
		}
		if l.configured(l.net.Types()[0], "mtu") { // else it was the host's at the time of ADD
			out = append(out, damage{name: "mtu of " + link, command: "ip link set " + link + " mtu 1290", says: says})
		}
	}
	for _, a := range attributes {
		if bridge, ok := strings.CutPrefix(a, "master "); ok {
			out = append(out, damage{name: "port of " + bridge, command: "ip link set " + link + " nomaster", says: says})
		}
	}
	for _, flag := range []string{"hairpin", "isolated"} {
		if has("linkinfo.info_slave_data." + flag + " true") {
			out = append(out, damage{name: flag + " of " + link, command: "bridge link set dev " + link + " " + flag + " off", says: says})
		}
	}
	return out
}

func qdiscDamages(link, kind string) []damage {
	parent := "root"
	if kind == "ingress" {
		parent = kind
	}
	return []damage{{name: kind + " of " + link, command: "tc qdisc del dev " + link + " " + parent, says: []string{link}}}
}

// tuningDamages undo what the tuning plugin is told to set.
func (l *lab) tuningDamages(link string) (out []damage) {
	for key, change := range map[string]string{
		"mac": "address 02:00:00:00:00:99", "mtu": "mtu 1290", "txQLen": "txqueuelen 99",
		"promisc": "promisc off", "allmulti": "allmulticast off",
	} {
		if l.configured("tuning", key) {
			out = append(out, damage{name: key + " of " + link, command: "ip link set " + link + " " + change, says: []string{link}})
		}
	}
	return out
}

// configured reports whether a plugin of the list has a key.
func (l *lab) configured(plugin, key string) bool {
	var list struct{ Plugins []json.RawMessage }
	if err := json.Unmarshal(l.conflist, &list); err != nil {
		l.Fatal(err)
	}
	return slices.ContainsFunc(list.Plugins, func(p json.RawMessage) bool {
		var c struct{ Type string }
		return json.Unmarshal(p, &c) == nil && c.Type == plugin && strings.Contains(string(p), `"`+key+`"`)
	})
}

// addrDamages: words are addr LINK ADDRESS/BITS.
func addrDamages(words, _ []string) []damage {
	if words[1] == "lo" {
		return nil // the kernel's, with the link
	}
	addr, _, _ := strings.Cut(words[2], "/")
	return []damage{{
		name:    "address " + words[2] + " of " + words[1],
		command: "ip addr del " + words[2] + " dev " + words[1],
		says:    []string{addr},
	}}
}

// vlanDamages take a bridge or a port out of the VLANs that it is in.
func vlanDamages(link string, attributes []string, now testnet.Snapshot) (out []damage) {
	self := ""
	if slices.Contains(now["link "+link], "linkinfo.info_kind bridge") {
		self = " self"
	}
	for _, m := range vlanNumber.FindAllStringSubmatch(strings.Join(attributes, " "), -1) {
		if self != "" && m[1] == "1" { // of the bridge's own making
			continue
		}
		out = append(out, damage{
			name:    "VLAN " + m[1] + " of " + link,
			command: "bridge vlan del dev " + link + " vid " + m[1] + self,
			says:    []string{link},
		})
	}
	return out
}

var vlanNumber = regexp.MustCompile(`"vlan":(\d+)`)

// routeDamages leaves the kernel's own routes alone: they go with their address.
func routeDamages(words, attributes []string) []damage {
	if slices.Contains(attributes, "protocol kernel") || slices.Contains(words, "multicast") || slices.Contains(words, "anycast") {
		return nil
	}
	at := slices.Index(words, "dst")
	if at < 0 {
		return nil
	}
	spec := strings.Join(words[at+1:], " ")
	spec = strings.ReplaceAll(spec, "gateway ", "via ")
	family := "-4"
	if strings.Contains(spec, ":") {
		family = "-6"
	}
	says := []string{words[at+1]}
	if words[at+1] == "default" {
		says = append(says, "0.0.0.0/0", "::/0")
	}
	return []damage{{name: "route " + family + " " + words[at+1], command: "ip " + family + " route del " + spec, says: says}}
}

// neighDamages: words are neigh dst ADDRESS dev LINK.
func neighDamages(words []string) []damage {
	return []damage{{name: "neigh " + words[2] + " by " + words[4], command: "ip neigh del " + words[2] + " dev " + words[4], says: []string{words[2]}}}
}

// fdbDamages: words are fdb mac ADDRESS ifname LINK. Entries that lead nowhere
// are the kernel's own.
func fdbDamages(words, attributes []string) []damage {
	command := fmt.Sprintf("bridge fdb del %s dev %s", words[2], words[4])
	somewhere := false
	for _, a := range attributes {
		if dst, ok := strings.CutPrefix(a, "dst "); ok {
			command, somewhere = command+" dst "+dst, true
		}
		if via, ok := strings.CutPrefix(a, "viaIf "); ok {
			command += " via " + via
		}
	}
	if !somewhere {
		return nil
	}
	return []damage{{name: "fdb " + words[2] + " of " + words[4], command: command, says: []string{words[2]}}}
}

// nftDamages: words are nft KIND FAMILY TABLE NAME.
func (l *lab) nftDamages(words []string, object string) []damage {
	if len(words) < 4 {
		return nil
	}
	table := words[2] + " " + words[3]
	// The rules that all networks share are the same in every example.
	if _, shared := l.base[object]; shared && words[1] != "element" && words[2] == "inet" && l.net.Name != "bridge" {
		return nil
	}
	switch kind := words[1]; kind {
	case "table":
		says := []string{words[3]}
		if words[3] == "filter" {
			says = append(says, "FORWARD") // iptables speaks of chains
		}
		return []damage{{name: object, command: "nft delete table " + table, says: says}}
	case "rule":
		return l.ruleDamages(table, words[4])
	case "chain":
		if l.ruleDamages(table, words[4]) == nil {
			return nil // empty as it is
		}
		return []damage{{name: "flush " + object, command: "nft flush chain " + table + " " + words[4], says: []string{words[4]}}}
	case "element":
		_, text, _ := strings.Cut(object, table+" "+words[4]+" ")
		var key any
		if err := json.Unmarshal([]byte(text), &key); err != nil {
			l.Errorf("%s: %v", object, err)
			return nil
		}
		k := nftKey(key)
		d := damage{
			name:    "element " + words[4] + " " + k,
			command: fmt.Sprintf("nft 'delete element %s %s { %s }'", table, words[4], k),
			says:    append(strings.Split(k, " . "), strings.Trim(k, `"`), words[4]),
		}
		if words[4] == "owners" { // by which DEL finds the rest, and CHECK names that
			d.undo, d.says = "nft delete table "+table, []string{words[3]}
		}
		return []damage{d}
	}
	return nil
}

var counters = regexp.MustCompile(`counter packets \d+ bytes \d+ `)

// ruleDamages deletes rules of a chain by their handles. A table is listed once
// for all of its chains.
func (l *lab) ruleDamages(table, chain string) []damage {
	l.Helper()
	if _, listed := l.rules[table]; listed {
		return l.rules[table+" "+chain]
	}
	l.rules[table] = nil
	within := ""
	for line := range strings.Lines(l.h.Run(append([]string{"nft", "-a", "list", "table"}, strings.Fields(table)...)...)) {
		rule, handle, ok := strings.Cut(strings.TrimSpace(line), " # handle ")
		if head, opens := strings.CutSuffix(rule, " {"); opens {
			within = strings.TrimPrefix(head, "chain ")
		} else if ok {
			key := table + " " + within
			l.rules[key] = append(l.rules[key], damage{
				name:    "rule of " + within + ": " + counters.ReplaceAllString(rule, ""),
				command: fmt.Sprintf("nft delete rule %s %s handle %s", table, within, handle),
				says:    []string{within},
			})
		}
	}
	return l.rules[table+" "+chain]
}

// nftKey writes a key as nft(8) reads it.
func nftKey(v any) string {
	switch v := v.(type) {
	case map[string]any:
		if parts, ok := v["concat"].([]any); ok {
			var keys []string
			for _, p := range parts {
				keys = append(keys, nftKey(p))
			}
			return strings.Join(keys, " . ")
		}
		if prefix, ok := v["prefix"].(map[string]any); ok {
			return fmt.Sprintf("%v/%v", prefix["addr"], prefix["len"])
		}
		if ends, ok := v["range"].([]any); ok {
			return nftKey(ends[0]) + "-" + nftKey(ends[1])
		}
	case string:
		if _, err := netip.ParseAddr(v); err == nil || plainWord.MatchString(v) {
			return v
		}
		return `"` + v + `"`
	}
	return fmt.Sprint(v)
}

var plainWord = regexp.MustCompile(`^(tcp|udp|sctp|icmp|ipv6-icmp)$`)

// iptablesDamages: words are COMMAND -t TABLE CHAIN.
func iptablesDamages(words, rules, before []string) []damage {
	var out []damage
	for _, rule := range rules {
		if strings.HasPrefix(rule, "policy ") || slices.Contains(before, rule) {
			continue
		}
		out = append(out, damage{
			name:    words[0] + " " + words[3] + ": " + rule,
			command: fmt.Sprintf("%s -t %s -D %s %s", words[0], words[2], words[3], rule),
			says:    []string{words[3]},
		})
	}
	return out
}

// leaseDamages are for files that are named like an address.
func leaseDamages(path string) []damage {
	name := path[strings.LastIndex(path, "/")+1:]
	if _, err := netip.ParseAddr(name); err != nil {
		return nil
	}
	return []damage{
		{name: "delete lease " + name, command: "rm " + path, says: []string{name}},
		{name: "change lease " + name, command: `printf 'somebody-else\r\neth0' > ` + path, says: []string{name}, undo: "rm " + path},
	}
}

// nameDamages are for what dns-hosts has written, which nobody else changes.
func nameDamages(path string, lines []string) []damage {
	if !strings.HasPrefix(path, "/run/dockyard/dns/") && !strings.HasPrefix(path, "/etc/netns/") {
		return nil
	}
	if len(lines) == 0 || strings.HasPrefix(lines[0], "d") {
		return nil // a directory, or the lock
	}
	says := []string{path}
	if strings.Contains(path, "@") {
		says = append(says, "absent")
	}
	out := []damage{{name: "delete " + path, command: "rm " + path, says: says}}
	if !strings.HasPrefix(lines[0], "-> ") {
		out = append(out, damage{name: "overwrite " + path, command: "echo garbage > " + path, says: says},
			damage{name: "empty " + path, command: ": > " + path, says: says})
	}
	return out
}

// sysctlDamages put those back that ADD has changed; of a new link, those that
// differ from what a new link has.
func sysctlDamages(dir string, now, before []string) []damage {
	if before == nil {
		return nil
	}
	var out []damage
	for _, line := range now {
		if slices.Contains(before, line) {
			continue
		}
		name, _, _ := strings.Cut(line, " ")
		at := slices.IndexFunc(before, func(s string) bool { return strings.HasPrefix(s, name+" ") })
		if at < 0 || derived(dir, name) {
			continue
		}
		_, old, _ := strings.Cut(before[at], " ")
		old = strings.ReplaceAll(old, "\t", " ") // which the kernel takes as well
		out = append(out, damage{
			name:    "sysctl " + dir + "/" + name,
			command: fmt.Sprintf("printf %%s %q > /proc/sys/%s/%s", old, dir, name),
			says:    []string{name, "ip_forward", "forwarding"},
		})
	}
	return out
}

// derived are values that the kernel changes with ip_forward, and accept_ra,
// which is changed once, before IPv6 forwarding, so as not to lose routes by it.
func derived(dir, name string) bool {
	return name == "accept_ra" && dir == "net/ipv6/conf/lo" ||
		strings.HasPrefix(dir, "net/ipv4/conf/") && (name == "forwarding" || name == "accept_redirects") ||
		strings.HasPrefix(dir, "net/ipv6/conf/") && name == "forwarding" && !strings.HasSuffix(dir, "/all")
}

// allowed are changes that a later plugin, or the container, may make; CHECK
// must not mind.
func allowed(t *testing.T, e example) {
	l := newLab(t, e, 1)
	a := l.atts[0]
	l.add(a)
	for _, command := range []string{
		"ip link set IF mtu 1300",
		"ip addr add 192.0.2.7/32 dev IF",
		"ip -6 addr add 2001:db8::7/128 dev IF nodad",
		"ip route add 198.51.100.0/24 dev IF",
		"tc qdisc add dev IF root tbf rate 100mbit burst 32k latency 50ms",
		"sysctl -qw net.ipv4.conf.IF.arp_ignore=1",
		"ip link add extra type veth peer name extra1",
	} {
		command = strings.ReplaceAll(command, "IF", a.IfName)
		if strings.Contains(command, " mtu ") && l.configured("tuning", "mtu") {
			continue // it is the later plugin's now
		}
		l.h.In(a.ID, func() {
			off := strings.TrimSpace(l.h.Run("cat", "/proc/sys/net/ipv6/conf/"+a.IfName+"/disable_ipv6")) == "1"
			refused := off && strings.Contains(command, "ip -6 ")
			if _, err := l.h.Try("sh", "-c", command); (err != nil) != refused {
				t.Errorf("%s: %v", command, err)
			}
		})
		if err := l.net.Check(a); err != nil {
			t.Errorf("CHECK after %q: %v", command, err)
		}
	}
	l.del(a)
}
