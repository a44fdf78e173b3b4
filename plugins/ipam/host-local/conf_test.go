package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni"
)

func request(ipam, rest, args string) *cni.Request {
	text := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "b0", %s "ipam": %s}`, rest, ipam)
	return &cni.Request{Config: []byte(text), Args: map[string]string{"IP": args}}
}

func ranges(sets string) string { return `{"type": "host-local", "ranges": ` + sets + `}` }

func TestConfigurations(t *testing.T) {
	one := ranges(`[[{"subnet": "10.1.0.0/24"}]]`)
	tests := []struct {
		ipam, rest, args string
		pools, want      string // want: the problems, separated by ";"
	}{
		{ipam: one, pools: "10.1.0.1-10.1.0.254 253"},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "gateway": "10.1.0.254"}`, pools: "10.1.0.1-10.1.0.254 253"},
		{ipam: `{"Type": "host-local", "Ranges": [[{"Subnet": "10.1.0.0/24", "RangeStart": "10.1.0.8", "rangeend": "10.1.0.9"}]]}`, pools: "10.1.0.8-10.1.0.9 2"},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9"}, {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.11"}], [{"subnet": "fd00::/120"}]]`),
			pools: "10.1.0.1-10.1.0.9,10.1.0.11-10.1.0.254 252; fd00::1-fd00::ff 254"},
		{ipam: one, rest: `"runtimeConfig": {"ipRanges": [{"subnet": "10.2.0.0/30"}]},`, pools: "10.2.0.1-10.2.0.2 1; 10.1.0.1-10.1.0.254 253"},
		{ipam: `{"type": "host-local"}`, rest: `"runtimeConfig": {"ipRanges": [[{"subnet": "10.2.0.0/30"}]]},`, pools: "10.2.0.1-10.2.0.2 1"},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/31"}], [{"subnet": "10.1.0.7/32"}], [{"subnet": "fd00::/127"}], [{"subnet": "fd01::1/128"}]]`),
			pools: "10.1.0.0-10.1.0.1 1; 10.1.0.7-10.1.0.7 1; fd00::-fd00::1 1; fd01::1-fd01::1 1"},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.255"}]]`), pools: "10.1.0.0-10.1.0.255 253"},
		{ipam: ranges(`[[{"subnet": "fd00::/64", "gateway": "fe80::1", "rangeEnd": "fd00::9"}]]`), pools: "fd00::1-fd00::9 9"},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "exclude": ["10.1.0.5", "10.1.0.128/25"]}`, pools: "10.1.0.1-10.1.0.254 125"},
		{ipam: one, rest: `"runtimeConfig": {"ips": ["10.1.0.7/24"]}, "args": {"cni": {"ips": ["10.1.0.7"]}},`, args: "10.1.0.7", pools: "10.1.0.1-10.1.0.254 253"},

		{ipam: `null`, want: `ipam: missing`},
		{ipam: `{"type": "host-local"}`, want: `ipam.ranges: missing`},
		{ipam: ranges(`[]`), want: `ipam.ranges: missing`},
		{ipam: ranges(`[[]]`), want: `ipam.ranges[0]: found [], want at least one range`},
		{ipam: ranges(`[{"subnet": "10.1.0.0/24"}]`), want: `ipam.ranges[0]: found {"subnet": "10.1.0.0/24"}, want a list`},
		{ipam: ranges(`"10.1.0.0/24"`), want: `ipam.ranges: found "10.1.0.0/24", want a list`},
		{ipam: ranges(`[[{"gateway": "10.1.0.1"}]]`), want: `ipam.ranges[0][0].subnet: missing`},
		{ipam: `{"type": "host-local", "gateway": "10.1.0.1"}`, want: `ipam.subnet: missing`},
		{ipam: ranges(`[[{"subnet": "10.1.0/24"}]]`), want: `ipam.ranges[0][0].subnet: found "10.1.0/24", want a subnet`},
		{ipam: ranges(`[[{"subnet": "10.1.0.5/24"}]]`), want: `ipam.ranges[0][0].subnet: found "10.1.0.5/24", want 10.1.0.0/24: the bits after the prefix must be 0`},
		{ipam: ranges(`[[{"subnet": "::ffff:10.1.0.0/120"}]]`), want: `ipam.ranges[0][0].subnet: found "::ffff:10.1.0.0/120", want an IPv4 subnet`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}]]`), want: `ipam.ranges[0][0].gateway: found "10.2.0.1", want an address in 10.1.0.0/24`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "gateway": "10.1.0.255"}]]`), want: `ipam.ranges[0][0].gateway: found "10.1.0.255", want a host's address`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "gateway": "fd00::1"}]]`), want: `ipam.ranges[0][0].gateway: found "fd00::1", want an address in`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}]]`), want: `ipam.ranges[0][0].rangeStart, ipam.ranges[0][0].rangeEnd: found 10.1.0.9 and 10.1.0.8`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.9", "rangeEnd": "10.3.0.8"}]]`), want: `rangeStart: found "10.2.0.9", want an address in 10.1.0.0/24; ipam.ranges[0][0].rangeEnd: found "10.3.0.8"`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}]]`), want: `ipam.ranges[0][0].gateway: found "10.1.0.1", want another address, as it is the only one of the range`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/25"}]]`), want: `ipam.ranges[0][1], ipam.ranges[0][0]: 10.1.0.1-10.1.0.126 and 10.1.0.1-10.1.0.254 overlap`},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]`), want: `ipam.ranges[1][0], ipam.ranges[0][0]: `},
		{ipam: ranges(`[[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]`), want: `ipam.ranges[0][1].subnet: found "fd00::/64", want the address family of 10.1.0.0/24`},
		{ipam: one, rest: `"runtimeConfig": {"ipRanges": [[{"subnet": "x"}]]},`, want: `runtimeConfig.ipRanges[0][0].subnet: found "x"`},
		{ipam: one, rest: `"runtimeConfig": {"ipRanges": [{"subnet": "10.9.0.1/24"}]},`, want: `runtimeConfig.ipRanges[0].subnet: found "10.9.0.1/24"`},
		{ipam: one, rest: `"runtimeConfig": {"ips": ["10.2.0.1"]},`, want: `runtimeConfig.ips[0]: found "10.2.0.1", want an address in 10.1.0.0/24`},
		{ipam: one, rest: `"runtimeConfig": {"ips": "10.1.0.2"},`, want: `runtimeConfig.ips: found "10.1.0.2", want a list`},
		{ipam: one, rest: `"args": {"cni": {"ips": ["no"]}},`, want: `args.cni.ips[0]: found "no", want an address`},
		{ipam: one, args: "10.1.0.1", want: `CNI_ARGS IP: found "10.1.0.1", want another address in 10.1.0.0/24, as this is the gateway`},
		{ipam: one, args: "10.1.0.0", want: `as this is its network address`},
		{ipam: one, args: "10.1.0.255/24", want: `as this is its broadcast address`},
		{ipam: one, args: "10.1.0.2,10.1.0.3", want: `CNI_ARGS IP, CNI_ARGS IP: found 10.1.0.2 and 10.1.0.3, want one address`},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "exclude": ["10.2.0.5"]}`, want: `ipam.exclude[0]: found "10.2.0.5", want an address or subnet inside`},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "exclude": ["all"]}`, want: `ipam.exclude[0]: found "all"`},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "exclude": ["10.1.0.0/24"]}`, want: `ipam.exclude: found ["10.1.0.0/24"], want at least one address`},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "routes": [{"gw": "10.1.0.1"}]}`, want: `ipam.routes[0].dst: missing`},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.9.9/8"}, {"dst": "::/0", "gw": "10.1.0.1", "mtu": -1, "scope": 256}]}`,
			want: `ipam.routes[0].dst: found "10.9.9.9/8", want 10.0.0.0/8: the bits after the prefix must be 0; ipam.routes[1].gw: found "10.1.0.1", want an address of the family of dst, ::/0; ipam.routes[1].mtu: found -1, want a number from 0 to 2147483647; ipam.routes[1].scope: found 256`},
		{ipam: `{"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": 5, "resolvConf": []}`, want: `ipam.dataDir: found 5, want a string; ipam.resolvConf: found []`},
	}
	for _, test := range tests {
		c, report := load(request(test.ipam, test.rest, test.args))
		problems := strings.Join(report.Problems(), "; ")
		if test.want == "" && problems != "" || !strings.Contains(problems, test.want) {
			t.Errorf("%s %s %s:\n got %s\nwant %s", test.ipam, test.rest, test.args, problems, test.want)
		}
		if got := describe(c); test.want == "" && got != test.pools {
			t.Errorf("%s %s:\n got %s\nwant %s", test.ipam, test.rest, got, test.pools)
		}
	}
}

func describe(c *config) string {
	var s []string
	for _, p := range c.pools {
		s = append(s, fmt.Sprint(p, " ", p.Total()))
	}
	return strings.Join(s, "; ")
}

func TestWarnsOnlyOfItsOwnKeys(t *testing.T) {
	ipam := `{"type": "host-local", "subnet": "10.1.0.0/24", "subnett": 1, "_comment": "x"}`
	_, report := load(request(ipam, `"foo": {"bar": 1}, "runtimeConfig": {"mac": "x"},`, ""))
	if got := strings.Join(report.Warnings(), "; "); got != `ipam.subnett: unknown key, ignored; did you mean "subnet"?` {
		t.Error(got)
	}
}

func TestOldVersionsHaveOneAddressPerFamily(t *testing.T) {
	r := request(ranges(`[[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]`), "", "")
	r.Config = []byte(strings.Replace(string(r.Config), "1.1.0", "0.2.0", 1))
	if _, report := load(r); !strings.HasPrefix(strings.Join(report.Problems(), "; "), `cniVersion: found "0.2.0"`) {
		t.Error(report.Problems())
	}
}

func TestDataDirOfABrokenConfiguration(t *testing.T) {
	for ipam, want := range map[string]string{
		`{"type": "host-local", "dataDir": "/x", "ranges": 5}`: "/x",
		`{"type": "host-local", "dataDir": ""}`:                defaultDataDir,
		`{"type": "host-local", "dataDir": {}}`:                defaultDataDir,
		`"none"`:                                               defaultDataDir,
		`null`:                                                 defaultDataDir,
	} {
		if got := dataDir(request(ipam, `"runtimeConfig": 5, "args": [],`, "")); got != want {
			t.Errorf("%s: got %s, want %s", ipam, got, want)
		}
	}
}

// FuzzConfig looks for a configuration that stops the plugin, or that has
// neither a problem nor a pool to give addresses from.
func FuzzConfig(f *testing.F) {
	f.Add(ranges(`[[{"subnet": "10.1.0.0/24", "gateway": "10.1.0.9", "rangeStart": "10.1.0.1"}]]`), "10.1.0.3/24")
	f.Add(`{"subnet": "fd00::/8", "exclude": ["fd00::/9"], "routes": [{"dst": "::/0", "table": 1}]}`, "fd80::7")
	f.Fuzz(func(t *testing.T, ipam, args string) {
		c, report := load(request(ipam, "", args))
		for _, p := range c.pools {
			if len(report.Problems()) == 0 && p.Total() == 0 {
				t.Errorf("empty pool %s", p)
			}
		}
		if len(report.Problems()) == 0 && len(c.pools) == 0 {
			t.Error("no problem and no pool")
		}
		_ = c.routes()
	})
}
