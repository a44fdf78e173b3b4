package cni

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// request is a call for interface eth0 of container c1 on network net.
func request(t testing.TB, conf string) *Request {
	t.Helper()
	r, err := newRequest(&skel.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: "/proc/self/ns/net", StdinData: []byte(conf)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseArgs(t *testing.T) {
	for _, c := range []struct {
		text string
		want map[string]string
		bad  int // pairs that cannot be read
	}{
		{"", map[string]string{}, 0},
		{";;", map[string]string{}, 0},
		{"IgnoreUnknown=1;K8S_POD_NAME=p", map[string]string{"IgnoreUnknown": "1", "K8S_POD_NAME": "p"}, 0},
		{"MAC=02:00:00:00:00:01;", map[string]string{"MAC": "02:00:00:00:00:01"}, 0},
		{"A=;B==x;C= y ", map[string]string{"A": "", "B": "=x", "C": " y "}, 0},
		{"A=1;A=2", map[string]string{"A": "2"}, 0},
		{"A", map[string]string{}, 1},
		{"=1;A=2;B", map[string]string{"A": "2"}, 2},
	} {
		got, err := parseArgs(c.text)
		if !maps.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.text, got, c.want)
		}
		if bad := strings.Count(fmt.Sprint(err), "CNI_ARGS: found"); bad != c.bad || err != nil && codeOf(err) != CodeEnvironment {
			t.Errorf("%q: error %v, want %d problems", c.text, err, c.bad)
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{"", "A=B", "A=B;C", ";=;", "IgnoreUnknown=true;IP=10.1.0.2/24;MAC=02:00:00:00:00:01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := parseArgs(s)
		var pairs []string
		for k, v := range args {
			pairs = append(pairs, k+"="+v)
			if k == "" || strings.ContainsAny(k, "=;") || strings.Contains(v, ";") {
				t.Errorf("%q: %q=%q", s, k, v)
			}
		}
		again, errAgain := parseArgs(strings.Join(pairs, ";"))
		if errAgain != nil || !maps.Equal(args, again) {
			t.Errorf("%q: %q (%v) is not what it was: %q (%v)", s, again, errAgain, args, err)
		}
	})
}

// What one key holds of a wrong type does not hide the others: DEL needs them.
func TestNewRequest(t *testing.T) {
	r := request(t, `{"dns": 5, "type": ["x"], "cniVersion": "1.0.0", "prevResult": 7, "name": "net"}`)
	if r.Owner != (owner.Key{Network: "net", ContainerID: "c1", IfName: "eth0"}) || r.CNIVersion != "1.0.0" {
		t.Errorf("%+v", r)
	}
	if _, err := newRequest(&skel.CmdArgs{StdinData: []byte(`{"name": "net"`)}); err == nil || codeOf(err) != CodeDecode {
		t.Errorf("cut off: %v", err)
	}
	r, err := newRequest(&skel.CmdArgs{Args: "X", StdinData: []byte(`{"name": "net"}`)})
	if err != nil || r.judgeArgs() == nil {
		t.Errorf("bad CNI_ARGS: %v, %v; want a request that says so when asked", err, r.judgeArgs())
	}
}

func TestReadValid(t *testing.T) {
	const valid, older = `"cni.dev/valid-attachments": `, `"cni.dev/attachments": `
	for _, c := range []struct{ conf, want string }{
		{``, `error`}, // D8: a client that forgets the list would take away every network
		{valid + `null`, ``},
		{valid + `[]`, ``},
		{valid + `[{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth1"}]`, `net/c1/eth0 net/c2/eth1`},
		{older + `[{"containerID": "c1", "ifname": "eth0"}]`, `net/c1/eth0`},
		{older + `null`, ``},
		{valid + `null, ` + older + `[{"containerID": "c1", "ifname": "eth0"}]`, `net/c1/eth0`},
		{valid + `[{"containerID": "c1", "ifname": "eth0"}], ` + older + `[{"containerID": "c2", "ifname": "eth0"}]`, `net/c1/eth0 net/c2/eth0`},
		{valid + `[{"containerid": "c1", "IfName": "eth0"}]`, `net/c1/eth0`},
		{valid + `{}`, `error`},
		{valid + `["c1"]`, `error`},
		{valid + `[{"containerID": "c1"}]`, `error`},
		{valid + `[{"ifname": "eth0"}]`, `error`},
		{valid + `[null]`, `error`},
		{older + `5`, `error`},
	} {
		r := request(t, `{"name": "net"`+strings.TrimSuffix(", "+c.conf, ", ")+`}`)
		err := r.readValid()
		if c.want == "error" {
			if err == nil || codeOf(err) != CodeConfig {
				t.Errorf("%s: error %v, want one of code %d", c.conf, err, CodeConfig)
			}
			continue
		}
		var got []string
		for m := range r.Valid {
			got = append(got, string(m))
		}
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q (%v), want %q", c.conf, got, err, c.want)
		}
	}
}

func TestKeep(t *testing.T) {
	r := request(t, `{"name": "net", "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}`)
	if err := r.readValid(); err != nil {
		t.Fatal(err)
	}
	for mark, want := range map[owner.Mark]bool{
		"net/c1/eth0": true, "net/c1/eth1": false, "net/c2/eth0": false, "net2/c2/eth0": true, "*/cni0/policy": true,
	} {
		if got := r.Keep(mark); got != want {
			t.Errorf("%s: kept %v, want %v", mark, got, want)
		}
	}
}

// CONVENTIONS.md: runtimeConfig, then args, then CNI_ARGS.
func TestMAC(t *testing.T) {
	one, two := conf.MAC{2, 0, 0, 0, 0, 1}, conf.MAC{2, 0, 0, 0, 0, 2}
	const three = "02:00:00:00:00:03"
	for _, c := range []struct {
		capability, args conf.MAC
		env, want        string
	}{
		{nil, nil, "", ""},
		{nil, nil, "MAC=" + three, three},
		{nil, two, "MAC=" + three, "02:00:00:00:00:02"},
		{one, two, "MAC=" + three, "02:00:00:00:00:01"},
		{nil, nil, "MAC=", ""},
		{nil, nil, "MAC=x", "CNI_ARGS MAC"},
	} {
		var report conf.Report
		r := request(t, `{"name": "net"}`)
		r.Args, _ = parseArgs(c.env)
		got := r.MAC(&report, c.capability, c.args).String()
		if err := report.Err(); err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestReadPrev(t *testing.T) {
	for version, prev := range map[string]string{
		"0.1.0": `{"ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"}}`,
		"0.2.0": `{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"}}`,
		"0.3.1": `{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}`,
		"0.4.0": `{"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}`,
		"1.0.0": `{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}`,
		"1.1.0": `{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}`,
	} {
		r := request(t, `{"name": "net", "cniVersion": "`+version+`", "prevResult": `+prev+`}`)
		if err := r.readPrev(); err != nil {
			t.Errorf("%s: %v", version, err)
			continue
		}
		got, err := r.PrevIPs()
		if err != nil || fmt.Sprint(got) != "[{10.1.0.2/24 10.1.0.1}]" {
			t.Errorf("%s: %v (%v)", version, got, err)
		}
	}
	for _, prev := range []string{`5`, `"x"`, `[]`, `{"ips": 5}`, `{"ips": [{"address": "x"}]}`, `{"interfaces": "x"}`} {
		r := request(t, `{"name": "net", "cniVersion": "1.1.0", "prevResult": `+prev+`}`)
		if err := r.readPrev(); err == nil || codeOf(err) != CodeDecode || !strings.HasPrefix(err.Error(), "prevResult: found ") {
			t.Errorf("%s: %v", prev, err)
		}
	}
}

// Of a result, those addresses count that are the interface's, or nobody's.
func TestIPs(t *testing.T) {
	address := func(text string, index int) *current.IPConfig {
		ip, n, _ := net.ParseCIDR(text)
		c := &current.IPConfig{Address: net.IPNet{IP: ip, Mask: n.Mask}}
		if index >= -1 {
			c.Interface = current.Int(index)
		}
		return c
	}
	const none = -2
	res := &current.Result{
		Interfaces: []*current.Interface{{Name: "eth0"}, {Name: "eth0", Sandbox: "/ns"}, {Name: "eth1", Sandbox: "/ns"}},
		IPs: []*current.IPConfig{
			address("10.1.0.1/24", 0), address("10.1.0.2/24", 1), address("10.1.0.3/24", 2),
			address("fd00::4/64", none), address("10.1.0.5/24", -1), address("10.1.0.6/24", 3),
		},
	}
	got, err := ips(res, "eth0")
	if want := "[{10.1.0.2/24 invalid IP} {fd00::4/64 invalid IP}]"; err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v (%v), want %s", got, err, want)
	}
	res.IPs = []*current.IPConfig{{Address: net.IPNet{IP: net.IP{1, 2}}}}
	if _, err := ips(res, "eth0"); err == nil || codeOf(err) != CodeDecode {
		t.Errorf("an address of two bytes: %v", err)
	}
}

func TestHostLinks(t *testing.T) {
	r := request(t, `{"name": "net"}`)
	if got := (&Attachment{Request: r}).HostLinks(); len(got) > 0 {
		t.Errorf("without prevResult: %q", got)
	}
	r.Prev = &current.Result{Interfaces: []*current.Interface{{Name: "br0"}, {Name: "eth0", Sandbox: "/ns"}, {Name: "veth0"}}}
	if got := (&Attachment{Request: r}).HostLinks(); !slices.Equal(got, []string{"br0", "veth0"}) {
		t.Errorf("%q", got)
	}
}

// The reference bridge lists its link in a VLAN last.
func TestHostEnd(t *testing.T) {
	r := request(t, `{"name": "net"}`)
	r.Prev = &current.Result{Interfaces: []*current.Interface{{Name: "br0"}, {Name: "veth0"}, {Name: "eth0", Sandbox: "/ns"}, {Name: "br0.5"}}}
	if got := (&Attachment{Request: r}).HostEnd(); got != "veth0" {
		t.Errorf("%q", got)
	}
}

func TestDefaultRoute(t *testing.T) {
	for ipv6, want := range map[bool]string{false: "0.0.0.0/0", true: "::/0"} {
		dst := DefaultRoute(ipv6)
		if got := (&types.Route{Dst: dst}).Dst.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// libcni takes the version of the configuration for that of a prevResult without one.
func TestF19PrevResultWithoutVersion(t *testing.T) {
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		r := request(t, `{"cniVersion": "`+version+`", "name": "net", "prevResult": {"ips": [{"version": "4", "address": "10.1.0.2/24"}]}}`)
		if err := r.readPrev(); err != nil || len(r.Prev.IPs) != 1 {
			t.Errorf("%s: %+v, %v", version, r.Prev, err)
		}
	}
	r := request(t, `{"cniVersion": "1.0.0", "name": "net", "prevResult": {"cniVersion": "7.0.0"}}`)
	if err := r.readPrev(); err == nil || codeOf(err) != CodeDecode {
		t.Errorf("of a version that is not known: %v", err)
	}
}
