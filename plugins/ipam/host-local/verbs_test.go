package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni"
)

// TestMain makes the test binary the plugin when a test runs it as one.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		main()
	}
	// The race detector lets each process linger for a second otherwise.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// A call is one run of the plugin.
type call struct {
	verb, id, conf string
	env            []string
	under          []string // a command to run the plugin under
}

// run returns the result, or the error that the plugin printed.
func (c call) run(t testing.TB) (ips []string, code uint, msg string) {
	t.Helper()
	argv := append(c.under, os.Args[0])
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.verb, "CNI_CONTAINERID="+c.id, "CNI_NETNS=/nowhere", "CNI_IFNAME=eth0", "CNI_PATH=/nowhere")
	cmd.Env = append(cmd.Env, c.env...)
	cmd.Stdin = strings.NewReader(c.conf)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var failure struct {
		Code uint
		Msg  string
	}
	if err != nil {
		if jsonErr := json.Unmarshal(out, &failure); jsonErr != nil || failure.Code == 0 {
			t.Fatalf("%s: %v, printed %q", c.verb, err, out)
		}
		return nil, failure.Code, failure.Msg
	}
	var res current.Result
	if c.verb == "ADD" {
		if err := json.Unmarshal(out, &res); err != nil {
			t.Fatalf("%s printed %q: %v", c.verb, out, err)
		}
	} else if len(out) > 0 {
		t.Fatalf("%s printed %q", c.verb, out)
	}
	for _, ip := range res.IPs {
		ips = append(ips, ip.Address.String()+" via "+ip.Gateway.String())
	}
	return ips, 0, ""
}

// conf is a configuration with one IPv4 and one IPv6 set, and whatever else.
func config2(dir, subnet, more string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "bridge", %s
		"ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}], [{"subnet": "fd00::/64"}]]}}`, more, dir, subnet)
}

func prev(ips ...string) string {
	var list []string
	for _, ip := range ips {
		list = append(list, fmt.Sprintf(`{"address": %q}`, ip))
	}
	return `"prevResult": {"cniVersion": "1.1.0", "ips": [` + strings.Join(list, ",") + `]},`
}

func TestVerbs(t *testing.T) {
	dir := t.TempDir()
	small := config2(dir, "10.1.0.0/30", "")
	steps := []struct {
		call
		ips  string
		code uint
		msg  string
	}{
		{call: call{verb: "STATUS", conf: small}},
		{call: call{verb: "DEL", id: "never", conf: small}},
		{call: call{verb: "GC", conf: config2(dir, "10.1.0.0/30", `"cni.dev/valid-attachments": null,`)}},
		{call: call{verb: "ADD", id: "c1", conf: small}, ips: "10.1.0.2/30 via 10.1.0.1, fd00::2/64 via fd00::1"},
		{call: call{verb: "ADD", id: "c1", conf: small}, ips: "10.1.0.2/30 via 10.1.0.1, fd00::2/64 via fd00::1"},
		{call: call{verb: "CHECK", id: "c1", conf: config2(dir, "10.1.0.0/30", prev("fd00::2/64", "10.1.0.2/30"))}},
		{call: call{verb: "CHECK", id: "c1", conf: config2(dir, "10.1.0.0/30", prev("10.1.0.2/30"))}, code: cni.CodeDiffers, msg: "found 10.1.0.2 fd00::2, want 10.1.0.2 as in prevResult"},
		{call: call{verb: "CHECK", id: "c2", conf: config2(dir, "10.1.0.0/30", prev("10.1.0.2/30"))}, code: cni.CodeDiffers, msg: "found none, want 10.1.0.2"},
		{call: call{verb: "CHECK", id: "c1", conf: small}, code: cni.CodeConfig, msg: "prevResult: missing"},
		{call: call{verb: "STATUS", conf: small}, code: cni.CodeNotReady, msg: "1 of 1 are leased"},
		{call: call{verb: "ADD", id: "c2", conf: small}, code: cni.CodeTryAgain, msg: "no address is free in 10.1.0.1-10.1.0.2: 1 of 1 are leased"},
		{call: call{verb: "ADD", id: "c2", conf: small, env: []string{"CNI_ARGS=IgnoreUnknown=1;IP=10.1.0.2"}}, code: cni.CodeHeld, msg: "address 10.1.0.2 is held by net/c1/eth0"},
		{call: call{verb: "ADD", id: "c2", conf: config2(dir, "10.1.0.1/30", "")}, code: cni.CodeConfig, msg: "ipam.ranges[0][0].subnet"},
		{call: call{verb: "GC", conf: config2(dir, "10.1.0.0/30", `"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],`)}},
		{call: call{verb: "STATUS", conf: small}, code: cni.CodeNotReady},
		{call: call{verb: "DEL", id: "c1", conf: config2(dir, "none", "")}},
		{call: call{verb: "STATUS", conf: small}},
		{call: call{verb: "ADD", id: "c2", conf: small, env: []string{"CNI_ARGS=IP=fd00::99"}}, ips: "10.1.0.2/30 via 10.1.0.1, fd00::99/64 via fd00::1"},
		{call: call{verb: "GC", conf: config2(dir, "10.1.0.0/30", `"cni.dev/attachments": [{"containerID": "c2", "ifname": "eth1"}],`)}},
		{call: call{verb: "STATUS", conf: small}},
	}
	for i, s := range steps {
		ips, code, msg := s.run(t)
		if strings.Join(ips, ", ") != s.ips || code != s.code || !strings.Contains(msg, s.msg) {
			t.Fatalf("step %d, %s %s: got %v, code %d, %s\nwant %s, code %d, %s", i, s.verb, s.id, ips, code, msg, s.ips, s.code, s.msg)
		}
	}
}

func TestResolvConfAndRoutes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "resolv.conf")
	text := "# c\nnameserver 10.0.0.53\nnameserver fd00::53\nsearch a.test b.test\ndomain a.test\noptions ndots:2\nnonsense\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dns, err := readResolvConf(file)
	if got := fmt.Sprint(dns, err); got != "{[10.0.0.53 fd00::53] a.test [a.test b.test] [ndots:2]} <nil>" {
		t.Error(got)
	}
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "x", "ipam": {"type": "host-local", "dataDir": %q, "subnet": "10.1.0.0/24", "resolvConf": "/nowhere"}}`, dir)
	if _, code, msg := (call{verb: "ADD", id: "c", conf: conf}).run(t); code != cni.CodeConfig || !strings.HasPrefix(msg, "ipam.resolvConf: ") {
		t.Error(code, msg)
	}
	c, report := load(request(`{"subnet": "10.1.0.0/24", "routes": [{"dst": "10.0.0.0/8", "gw": "10.1.0.9", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 0, "scope": 253}]}`, "", ""))
	out, err := json.Marshal(c.routes())
	if want := `[{"dst":"10.0.0.0/8","gw":"10.1.0.9","mtu":1400,"advmss":1360,"priority":7,"table":0,"scope":253}]`; err != nil || string(out) != want {
		t.Errorf("got %s, %v, %v, want %s", out, err, report.Problems(), want)
	}
}

// TestParallel adds 60 at once; each must get an address of its own.
func TestParallel(t *testing.T) {
	conf := config2(t.TempDir(), "10.1.0.0/24", "")
	var mu sync.Mutex
	var wg sync.WaitGroup
	given := map[string]int{}
	for c := range 60 {
		wg.Go(func() {
			ips, _, msg := call{verb: "ADD", id: fmt.Sprint("c", c), conf: conf}.run(t)
			mu.Lock()
			defer mu.Unlock()
			given[fmt.Sprint(ips)]++
			if given[fmt.Sprint(ips)] > 1 || len(ips) != 2 {
				t.Errorf("c%d: got %v, %s", c, ips, msg)
			}
		})
	}
	wg.Wait()
}

// TestCostIsFlat counts the system calls that touch files, with 10 and with
// 60,000 leases that the reference plugin left.
func TestCostIsFlat(t *testing.T) {
	few, many := costs(t, 10), costs(t, 60000)
	for verb, n := range few {
		if many[verb] > n+5 {
			t.Errorf("%s: %d system calls with 10 leases, %d with 60,000", verb, n, many[verb])
		}
	}
	t.Log(few, many)
}

func costs(t *testing.T, leases int) map[string]int {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range leases {
		file := filepath.Join(dir, "net", fmt.Sprintf("10.1.%d.%d", (i+2)>>8, (i+2)&255))
		if err := os.WriteFile(file, fmt.Appendf(nil, "old%d\r\neth0", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf := config2(dir, "10.1.0.0/16", "")
	ips, _, msg := call{verb: "ADD", id: "first", conf: conf}.run(t) // reads it all, once
	if msg != "" {
		t.Fatal(msg)
	}
	checked := prev(strings.Fields(ips[0])[0], strings.Fields(ips[1])[0])
	n := map[string]int{}
	for _, c := range []call{
		{verb: "CHECK", id: "first", conf: config2(dir, "10.1.0.0/16", checked)},
		{verb: "ADD", id: "second", conf: conf},
		{verb: "DEL", id: "old5", conf: conf},
		{verb: "DEL", id: "unknown", conf: conf},
		{verb: "STATUS", conf: conf},
	} {
		trace := filepath.Join(dir, "trace")
		c.under = []string{"strace", "-f", "-qq", "-o", trace, "-e", "trace=%file,%desc"}
		if _, _, msg := c.run(t); msg != "" {
			t.Fatal(msg)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		n[c.verb+" "+c.id] = fileCalls(string(text))
	}
	return n
}

// fileCalls counts the calls from the first that names the data directory on.
func fileCalls(trace string) int {
	_, rest, _ := strings.Cut(trace, "boot_id")
	n := 0
	for line := range strings.SplitSeq(rest, "\n") {
		for _, noise := range []string{"epoll", "mmap", "resumed", "fcntl", "+++", "---"} {
			if strings.Contains(line, noise) {
				n--
				break
			}
		}
		n++
	}
	return n
}
