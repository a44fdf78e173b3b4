package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
)

func loaded(t *testing.T, ipam string, args map[string]string) (*config, *conf.Report) {
	t.Helper()
	text := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "host-local", "ipam": %s}`, ipam)
	r := &cni.Request{Config: []byte(text), Args: args}
	if err := json.Unmarshal(r.Config, &r.Base); err != nil {
		t.Fatal(err)
	}
	return load(r)
}

// nerdctl writes a rangeEnd that is the broadcast address of the subnet.
func TestF12NeitherNetworkNorBroadcastAddress(t *testing.T) {
	for _, c := range []struct {
		start, end string
		total      uint64
	}{
		{"10.51.0.254", "10.51.0.255", 1},
		{"10.51.0.0", "10.51.0.2", 1}, // .1 is the gateway
		{"10.51.0.0", "10.51.0.255", 253},
		{"10.51.0.255", "10.51.0.255", 0},
		{"10.51.0.0", "10.51.0.0", 0},
	} {
		got, report := loaded(t, fmt.Sprintf(`{"type": "host-local", "ranges": [[{"subnet": "10.51.0.0/24", "rangeStart": %q, "rangeEnd": %q}]]}`, c.start, c.end), nil)
		if c.total == 0 {
			if text := strings.Join(report.Problems(), "; "); !strings.Contains(text, "rangeStart") || !strings.Contains(text, "address of 10.51.0.0/24") {
				t.Errorf("%+v: %q", c, text)
			}
			continue
		}
		if len(report.Problems()) > 0 || got.pools[0].Total() != c.total {
			t.Errorf("%+v: %v, %q", c, got.pools, report.Problems())
		}
	}
}

// Docker takes --ip anywhere in the subnet, whatever --ip-range is.
func TestRequestedBesideTheRange(t *testing.T) {
	const ipam = `{"type": "host-local", "ranges": [
		[{"subnet": "10.51.0.0/24", "rangeStart": "10.51.0.100", "rangeEnd": "10.51.0.110"}],
		[{"subnet": "10.51.0.0/24", "rangeStart": "10.51.0.200", "rangeEnd": "10.51.0.210"}]]}`
	for ip, want := range map[string]string{
		"10.51.0.5": "", "10.51.0.105": "", "10.51.0.205": "", "10.51.0.254": "", "10.51.0.5,10.51.0.205": "",
		"10.51.0.5,10.51.0.105": "one set", "10.51.0.1": "gateway", "10.51.0.255": "broadcast", "10.51.0.0": "network",
		"10.52.0.5": "in 10.51.0.0/24",
	} {
		_, report := loaded(t, ipam, map[string]string{"IP": ip})
		if text := strings.Join(report.Problems(), "; "); (text == "") != (want == "") || !strings.Contains(text, want) {
			t.Errorf("%s: %q, want %q", ip, text, want)
		}
	}
}

// What is not a file that ends is refused, and at once.
func TestResolvConfThatNeverEnds(t *testing.T) {
	fifo, large := filepath.Join(t.TempDir(), "fifo"), filepath.Join(t.TempDir(), "large")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, large, "/dev/zero", t.TempDir()} {
		if _, err := readResolvConf(path); err == nil || !strings.Contains(err.Error(), "want a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// Neither many ranges nor many that overlap keep an ADD for long. The time is a
// minute, for what takes one second.
func TestManyRanges(t *testing.T) {
	var one []string
	for i := range 20000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		one = append(one, fmt.Sprintf(`{"subnet": "%s/24"}`, a))
	}
	var sets []string
	for range 3000 {
		sets = append(sets, `[{"subnet": "10.1.0.0/16"}]`)
	}
	begin := time.Now()
	c, report := loaded(t, `{"type": "host-local", "ranges": [[`+strings.Join(one, ",")+`]]}`, nil)
	if len(report.Problems()) > 0 || c.pools[0].Total() != 20000*253 {
		t.Errorf("%d problems", len(report.Problems()))
	}
	_, report = loaded(t, `{"type": "host-local", "ranges": [`+strings.Join(sets, ",")+`]}`, nil)
	if len(report.Problems()) != 2999 {
		t.Errorf("%d problems", len(report.Problems()))
	}
	took := time.Since(begin)
	t.Log(took)
	if took > time.Minute {
		t.Errorf("took %s", took)
	}
}
