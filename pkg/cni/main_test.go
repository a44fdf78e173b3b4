package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// A fake answers every verb with the same error, and ADD with a result. It
// remembers what was asked.
type fake struct {
	res   *current.Result
	err   error
	asked []string
}

func (f *fake) did(verb string) error {
	f.asked = append(f.asked, verb)
	return f.err
}

func (f *fake) Add(context.Context, *Request) (*current.Result, error) { return f.res, f.did("ADD") }
func (f *fake) Check(context.Context, *Request) error                  { return f.did("CHECK") }
func (f *fake) Del(context.Context, *Request) error                    { return f.did("DEL") }
func (f *fake) GC(context.Context, *Request) error                     { return f.did("GC") }
func (f *fake) Status(context.Context, *Request) error                 { return f.did("STATUS") }

// call runs a plugin in this process, and returns what it prints on stdout.
func call(t *testing.T, v Verbs, verb, conf string) (stdout string, code int) {
	t.Helper()
	for k, val := range map[string]string{
		"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/proc/self/ns/net", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere",
		"CNI_NETNS_OVERRIDE": "1", "CNI_ARGS": "",
	} {
		t.Setenv(k, val)
	}
	in, out := os.Stdin, os.Stdout
	defer func() { os.Stdin, os.Stdout = in, out }()
	stdinR, stdinW := pipe(t)
	stdoutR, stdoutW := pipe(t)
	os.Stdin, os.Stdout = stdinR, stdoutW
	if _, err := stdinW.WriteString(conf); err != nil { // shorter than a pipe is long
		t.Fatal(err)
	}
	stdinW.Close()
	code = run("test", v)
	stdoutW.Close()
	b, err := io.ReadAll(stdoutR)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), code
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, w
}

func config(version string) string {
	return `{"cniVersion": "` + version + `", "name": "net", "type": "test", "cni.dev/valid-attachments": []}`
}

// The specification's form of an error, with the version of the configuration.
func TestErrorForm(t *testing.T) {
	for _, version := range []string{"0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		f := &fake{err: Errorf(CodeConfig, `x: found "<a&b>", want "c"`)}
		stdout, code := call(t, f, "ADD", config(version))
		want := `{"cniVersion":"` + version + `","code":7,"msg":"x: found \"<a&b>\", want \"c\""}` + "\n"
		if stdout != want || code != 1 {
			t.Errorf("%s: %q (exit %d), want %q", version, stdout, code, want)
		}
	}
}

// Nomad wants a semantic version of 0.4.0 at least, nerdctl 1.7.1 of firewall.
func TestAbout(t *testing.T) {
	was := Version
	defer func() { Version = was }()
	Version = "v0.1.0-3-gabc+dirty"
	if got, want := about("bridge"), "CNI bridge plugin v1.10.0+dockyard.0.1.0-3-gabc.dirty"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestVerbs(t *testing.T) {
	for _, verb := range []string{"ADD", "CHECK", "DEL", "GC", "STATUS"} {
		f := &fake{res: &current.Result{CNIVersion: "1.1.0"}}
		stdout, code := call(t, f, verb, config("1.1.0"))
		if !reflect.DeepEqual(f.asked, []string{verb}) || code != 0 || (stdout == "") != (verb != "ADD") {
			t.Errorf("%s: asked %q, exit %d, stdout %q", verb, f.asked, code, stdout)
		}
	}
	f := &fake{}
	stdout, code := call(t, f, "VERSION", "")
	var v struct{ SupportedVersions []string }
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != 0 || len(v.SupportedVersions) < 7 || f.asked != nil {
		t.Errorf("VERSION: %q (exit %d, %v)", stdout, code, err)
	}
	// Verbs that are younger than the version of the configuration are refused.
	for verb, version := range map[string]string{"CHECK": "0.3.1", "GC": "1.0.0", "STATUS": "1.0.0"} {
		f := &fake{}
		if stdout, code := call(t, f, verb, config(version)); code != 1 || !strings.Contains(stdout, `"code":1,`) || f.asked != nil {
			t.Errorf("%s on %s: exit %d, %s", verb, version, code, stdout)
		}
	}
}

func TestCodes(t *testing.T) {
	held := &engine.HeldError{Object: "host port tcp 80", Holder: "net/c2/eth0"}
	for _, c := range []struct {
		err  error
		want uint
	}{
		{errors.New("x"), 999},
		{Errorf(CodeConfig, "x"), 7},
		{fmt.Errorf("more: %w", Errorf(CodeNetNS, "x")), 8},
		{Errorf(CodeNotReady, "%w", Errorf(CodeConfig, "x")), 50}, // the outermost: it knows the verb
		{errors.Join(errors.New("x"), Errorf(CodeIO, "y")), 5},
		{types.NewError(11, "later", ""), 11},
		{fmt.Errorf("ipam plugin: %w", types.NewError(50, "no", "address")), 50},
		{fmt.Errorf("step: %w", held), 101},
		{fmt.Errorf("step: %w", engine.ErrExists), 100},
		{fmt.Errorf("%w: %w", engine.ErrRequired, engine.Absent), 103},
		{fmt.Errorf("open: %w", netns.ErrNotNamespace), 8},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%v: code %d, want %d", c.err, got, c.want)
		}
	}
}

// dual is a result with two addresses and a route of each family.
func dual(t *testing.T) *current.Result {
	t.Helper()
	const text = `{"cniVersion": "1.1.0",
		"interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/ns"}],
		"ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd00::2/64", "gateway": "fd00::1", "interface": 1}],
		"routes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "::/0"}], "dns": {"nameservers": ["10.1.0.1"]}}`
	res := &current.Result{}
	if err := json.Unmarshal([]byte(text), res); err != nil {
		t.Fatal(err)
	}
	return res
}

// A result is printed in the version of the configuration, whatever is lost.
func TestResultVersions(t *testing.T) {
	const (
		old   = `{"cniVersion": "%s", "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0"}]}, "ip6": {"ip": "fd00::2/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]}, "dns": {"nameservers": ["10.1.0.1"]}}`
		three = `{"cniVersion": "%s", "interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns"}], "ips": [{"version": "4", "interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"version": "6", "interface": 1, "address": "fd00::2/64", "gateway": "fd00::1"}], "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "::/0"}], "dns": {"nameservers": ["10.1.0.1"]}}`
		one   = `{"cniVersion": "%s", "interfaces": [{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "sandbox": "/ns"}], "ips": [{"interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"interface": 1, "address": "fd00::2/64", "gateway": "fd00::1"}], "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "::/0"}], "dns": {"nameservers": ["10.1.0.1"]}}`
	)
	for version, want := range map[string]string{
		"0.1.0": old, "0.2.0": old, "0.3.0": three, "0.3.1": three, "0.4.0": three, "1.0.0": one, "1.1.0": one,
	} {
		stdout, code := call(t, &fake{res: dual(t)}, "ADD", config(version))
		if !sameJSON(stdout, fmt.Sprintf(want, version)) || code != 0 {
			t.Errorf("%s: exit %d\n%s\nwant\n%s", version, code, stdout, fmt.Sprintf(want, version))
		}
	}
	// A configuration that says no version is of the first one.
	stdout, code := call(t, &fake{res: dual(t)}, "ADD", `{"name": "net", "type": "test"}`)
	if !sameJSON(stdout, fmt.Sprintf(old, "0.1.0")) || code != 0 {
		t.Errorf("no version: exit %d\n%s", code, stdout)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// 0.2.0 has no form for an attachment without address: ADD fails, and undoes.
func TestResultWithoutForm(t *testing.T) {
	for version, fails := range map[string]bool{"0.1.0": true, "0.2.0": true, "0.3.0": false, "1.1.0": false} {
		f := &fake{res: &current.Result{CNIVersion: "1.1.0", Interfaces: []*current.Interface{{Name: "eth0"}}}}
		stdout, code := call(t, f, "ADD", config(version))
		if (code != 0) != fails || len(f.asked) == 2 != fails {
			t.Errorf("%s: exit %d, asked %q: %s", version, code, f.asked, stdout)
		}
		if fails && !strings.Contains(stdout, `"code":7,"msg":"cniVersion: found \"`+version) {
			t.Errorf("%s: %s", version, stdout)
		}
	}
}

func TestNewResult(t *testing.T) {
	r := request(t, `{"name": "net", "cniVersion": "1.1.0", "dns": {"domain": "example.org"}}`)
	a, err := newAttachment(r, dual(t))
	if err != nil {
		t.Fatal(err)
	}
	if a.MAC.String() != "02:00:00:00:00:01" || len(a.IPs) != 2 {
		t.Errorf("MAC %v, addresses %v of eth0 in the result", a.MAC, a.IPs)
	}
	res := newResult(a, []*current.Interface{{Name: "br0"}, {Name: "veth0"}, {Name: "eth0"}})
	if len(res.IPs) != 2 || *res.IPs[1].Interface != 2 || !res.IPs[1].Gateway.Equal(net.ParseIP("fd00::1")) {
		t.Errorf("addresses are not the last link's: %+v", res.IPs)
	}
	if res.DNS.Domain != "example.org" || res.DNS.Nameservers != nil {
		t.Errorf("dns of the configuration replaces that of IPAM: %+v", res.DNS)
	}
}
