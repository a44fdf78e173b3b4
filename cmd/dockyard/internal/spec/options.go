package spec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
)

// A kind is what the value of an option is.
type kind int

const (
	text kind = iota
	flag
	number
	list
	raw // JSON, or text
)

// bridged are the keys of all networks on a bridge.
var bridged = map[string]kind{
	"bridge": text, "mtu": number, "ipMasq": flag, "hairpinMode": flag, "portIsolation": flag, "icc": flag,
	"enabledad": flag, "gatewayMode": text, "gatewayModeIPv4": text, "gatewayModeIPv6": text,
	"trustedInterfaces": list, "gatewayPriority": number, "announce": flag,
}

var child = map[string]kind{
	"master": text, "mode": text, "mtu": number, "vlan": number, "hostAccess": flag,
	"gatewayPriority": number, "announce": flag, "duplicateCheck": number,
}

// own are the keys of the plugin that makes the interface, by driver.
var own = map[string]map[string]kind{
	"bridge":  with(bridged, map[string]kind{"vlan": number, "vlanTrunk": raw, "macspoofchk": flag, "promiscMode": flag, "forceAddress": flag}),
	"macvlan": with(child, nil),
	"ipvlan":  with(child, map[string]kind{"flag": text}),
	"overlay": with(bridged, map[string]kind{
		"vni": number, "port": number, "underlay": text, "mode": text, "peers": raw, "peersFile": text, "group": text,
		"blocks": list, "etcd": list, "txChecksum": text,
	}),
}

// chained are the keys of the plugins behind it.
var chained = map[string]map[string]kind{
	"portmap":   {"hostListeners": text, "snat": flag},
	"dns-hosts": {"domainName": text, "uniqueNames": flag, "ttl": number, "capture": flag},
}

// docker are the names that docker, podman and nerdctl have for our keys.
var docker = map[string]string{
	"com.docker.network.bridge.name":                    "bridge",
	"com.docker.network.bridge.enable_ip_masquerade":    "ipMasq",
	"com.docker.network.bridge.enable_icc":              "icc",
	"com.docker.network.bridge.gateway_mode_ipv4":       "gatewayModeIPv4",
	"com.docker.network.bridge.gateway_mode_ipv6":       "gatewayModeIPv6",
	"com.docker.network.bridge.trusted_host_interfaces": "trustedInterfaces",
	"com.docker.network.driver.mtu":                     "mtu",
	"com.docker.network.driver.overlay.vxlanid_list":    "vni",
	"parent":       "master",
	"macvlan_mode": "mode",
	"ipvlan_mode":  "mode",
	"ipvlan_flag":  "flag",
}

// impossible are options of docker that have no counterpart, and what to do instead.
var impossible = map[string]string{
	"com.docker.network.bridge.host_binding_ipv4": "name the address with each published port, as in -p 192.0.2.1:8080:80",
	"com.docker.network.bridge.host_binding_ipv6": "name the address with each published port",
	"com.docker.network.bridge.inhibit_ipv4":      "use --internal -o gatewayMode=isolated",
	"com.docker.network.container_iface_prefix":   "the runtime names interfaces",
	"com.docker.network.bridge.default_bridge":    "there is no default bridge",
	"encrypted": "packets of overlays are not encrypted; let the hosts meet on a network that is",
}

func with(a, b map[string]kind) map[string]kind {
	out := map[string]kind{}
	for _, m := range []map[string]kind{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// place finds the plugin that an option is for, its key and its kind.
func place(driver, option string) (plugin, key string, k kind, err error) {
	key = option
	if ours, ok := docker[option]; ok {
		key = ours
	}
	if k, ok := own[driver][key]; ok {
		return "", key, k, nil
	}
	for plugin, keys := range chained {
		if k, ok := keys[key]; ok {
			return plugin, key, k, nil
		}
	}
	if what, ok := impossible[option]; ok {
		return "", "", 0, fmt.Errorf("option %s has no counterpart: %s", option, what)
	}
	return "", "", 0, fmt.Errorf("unknown option %s of driver %s%s", option, driver, meant(option, known(driver)))
}

// known are all options of a driver.
func known(driver string) []string {
	var out []string
	for k := range own[driver] {
		out = append(out, k)
	}
	for _, keys := range chained {
		for k := range keys {
			out = append(out, k)
		}
	}
	for option, key := range docker {
		if _, ok := own[driver][key]; ok {
			out = append(out, option)
		}
	}
	slices.Sort(out)
	return out
}

// meant guesses what a person has meant, or lists all there is.
func meant(word string, all []string) string {
	best, least := "", max(2, len(word)/3)+1
	for _, k := range all {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %s?", best)
	}
	return "; want one of " + strings.Join(all, ", ")
}

// value reads the value of an option as its kind.
func value(option, s string, k kind) (any, error) {
	switch k {
	case flag:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, fmt.Errorf("option %s: found %q, want true or false", option, s)
		}
		return b, nil
	case number:
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("option %s: found %q, want a number", option, s)
		}
		return n, nil
	case list:
		return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == ':' && strings.HasPrefix(option, "com.docker.") }), nil
	case raw:
		if json.Valid([]byte(s)) {
			return json.RawMessage(s), nil
		}
		return nil, fmt.Errorf("option %s: found %q, want JSON", option, s)
	}
	return s, nil
}
