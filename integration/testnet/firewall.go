package testnet

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// firewall records nftables object by object, each element of a set or map as
// an object of its own, and the rules of iptables, whose matches nft(8) does
// not show.
func (h *Host) firewall(s Snapshot) {
	h.t.Helper()
	out, err := h.Try("nft", "-j", "list", "ruleset")
	if err != nil && strings.Contains(err.Error(), "cache initialization failed: Invalid argument") {
		out, err = "{}", nil // the kernel has no nf_tables
	}
	if err != nil {
		h.t.Fatal(err)
	}
	var ruleset struct {
		NFTables []map[string]record `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(out), &ruleset); err != nil {
		h.t.Error("nft -j list ruleset:", err)
	}
	for _, entry := range ruleset.NFTables {
		for kind, r := range entry {
			if kind != "metainfo" && !usesXtables(r) {
				s.nft(kind, r)
			}
		}
	}
	if strings.Contains(out, `"family": "ip`) {
		h.iptables(s, "iptables-save")
		h.iptables(s, "ip6tables-save")
	}
	// /proc/net would be that of the process's first thread.
	if names, _ := os.ReadFile("/proc/thread-self/net/ip_tables_names"); len(names) > 0 {
		h.iptables(s, "iptables-legacy-save")
	}
	if names, _ := os.ReadFile("/proc/thread-self/net/ip6_tables_names"); len(names) > 0 {
		h.iptables(s, "ip6tables-legacy-save")
	}
}

func usesXtables(r record) bool { return strings.Contains(compact(r["expr"]), `"xt"`) }

func (s Snapshot) nft(kind string, r record) {
	table := r.key("family", "table")
	table = strings.NewReplacer("family ", "", "table ", "").Replace(table)
	switch kind {
	case "rule":
		s.add("nft rule "+table+" "+r.text("chain")+" "+compact(scrub(r["expr"])), comment(r)...)
	case "set", "map":
		elems, _ := r["elem"].([]any)
		delete(r, "elem")
		name := r.text("name")
		s.add("nft "+kind+" "+table+" "+name, r.attributes()...)
		for _, e := range elems {
			s.add("nft element "+table+" "+name+" "+elementKey(e), linkNames(compact(scrub(e))))
		}
	default:
		s.add("nft "+kind+" "+table+" "+r.text("name"), r.attributes()...)
	}
}

func comment(r record) []string {
	if c := r.text("comment"); c != "" {
		return []string{"comment " + c}
	}
	return nil
}

var linkIndexes = regexp.MustCompile(`\b(isolated|arrivals):([0-9a-f]{8})+`)

// linkNames puts names in the place of the indexes of links by which a record of the
// owners refers to elements: a bridge that is made anew has another index. The index of
// a link that is gone stays.
func linkNames(text string) string {
	return linkIndexes.ReplaceAllStringFunc(text, func(ref string) string {
		set, key, _ := strings.Cut(ref, ":")
		b, err := hex.DecodeString(key)
		for ; err == nil && len(b) > 0; b = b[4:] {
			index := int(binary.NativeEndian.Uint32(b))
			name := strconv.Itoa(index)
			if link, err := net.InterfaceByIndex(index); err == nil {
				name = link.Name
			}
			set += ":" + name
		}
		return set
	})
}

// elementKey finds the key of an element, which nft nests differently for sets
// and maps, with and without a comment.
func elementKey(e any) string {
	if pair, ok := e.([]any); ok && len(pair) > 0 {
		return elementKey(pair[0])
	}
	if m, ok := e.(map[string]any); ok {
		if elem, ok := m["elem"].(map[string]any); ok {
			return elementKey(elem["val"])
		}
	}
	return compact(e)
}

// iptables records each rule of each table; their order within a chain matters,
// so it is an object a chain.
func (h *Host) iptables(s Snapshot, command string) {
	h.t.Helper()
	table := ""
	for line := range strings.Lines(h.Run(command)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
		case strings.HasPrefix(line, ":"):
			name, rest, _ := strings.Cut(line[1:], " ")
			policy, _, _ := strings.Cut(rest, " ")
			s[object(command, table, name)] = []string{"policy " + policy}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[3:], " ")
			o := object(command, table, name)
			s[o] = append(slices.Clone(s[o]), rule)
		}
	}
}

func object(command, table, chain string) string {
	return strings.TrimSuffix(command, "-save") + " -t " + table + " " + chain
}
