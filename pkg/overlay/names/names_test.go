package names

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A board is a store with other hosts' names, and what this one has said.
type board struct {
	others map[netip.Addr][]string
	said   chan map[string]string
	woken  chan struct{}
}

func (b *board) Names(_ context.Context, own map[string]string) (map[netip.Addr][]string, error) {
	b.said <- own
	return b.others, nil
}

func (b *board) NamesChanged() <-chan struct{} { return b.woken }

func (b *board) hear(t *testing.T) map[string]string {
	t.Helper()
	select {
	case own := <-b.said:
		return own
	case <-time.After(testnet.Patience):
		t.Fatal("nothing is said")
	}
	return nil
}

// The public part of this network's records is told, as they come and go; of what
// others tell, that is taken which can be believed.
func TestExchange(t *testing.T) {
	const ours, theirs = "net", "other"
	s := zone.Store{Root: t.TempDir(), NetNS: t.TempDir()}
	var log bytes.Buffer
	e := Exchange{
		Network: ours, Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Zone: s,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	entry := func(network, container, netns string) zone.Entry {
		return zone.Entry{Store: s, Record: zone.Record{
			Mark: owner.Key{Network: network, ContainerID: container, IfName: "eth0"}.Mark(), Network: network,
			ContainerID: container, NetNS: netns, Names: []string{container}, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")},
		}}
	}
	host := netip.MustParseAddr("192.0.2.2")
	b := &board{said: make(chan map[string]string), woken: make(chan struct{}, 1), others: map[netip.Addr][]string{host: {
		`{"mark":"net/a/eth0","network":"net","names":["good"],"addresses":["10.1.1.2"],"netns":"/etc/passwd","capture":true}`,
		`{"mark":"net/b/eth0","network":"net","names":["out"],"addresses":["10.2.0.1"]}`,
		`{"mark":"other/c/eth0","network":"other","names":["foreign"]}`,
		`{"mark":"net/d/eth0","network":"net","names":["two lines\n"]}`,
		`garbage`,
	}}}
	for _, one := range []zone.Entry{entry(ours, "here", t.TempDir()), entry(ours, "gone", "/nowhere"), entry(ours, "host", "/proc/self/ns/net"), entry(theirs, "there", t.TempDir())} {
		if err := one.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx, b) }()
	b.woken <- struct{}{}
	own := b.hear(t)
	if keys := slices.Collect(maps.Keys(own)); !slices.Equal(keys, []string{"here/eth0"}) || strings.Contains(own["here/eth0"], "/proc") {
		t.Errorf("said %v", own)
	}
	b.woken <- struct{}{}
	b.hear(t) // the first is done
	if err := os.Remove(filepath.Join(s.Containers(), "here", "net@eth0")); err != nil {
		t.Fatal(err)
	}
	if err := entry(ours, "new", t.TempDir()).Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	for own = b.hear(t); !slices.Equal(slices.Collect(maps.Keys(own)), []string{"new/eth0"}); {
		own = b.hear(t) // one event may come before all is done; hear gives up
	}
	cancel()
	for running := true; running; {
		select {
		case <-b.said: // events may make one more
		case err := <-ended:
			if running = false; err != nil {
				t.Error(err)
			}
		}
	}
	records, err := s.Reader().Remote()
	if err != nil || len(records) != 1 || records[0].Names[0] != "good" || records[0].NetNS != "" || records[0].Capture {
		t.Errorf("found %v, %v", records, err)
	}
	for _, want := range []string{"10.2.0.1", `network \"other\"`, "two lines", "invalid character"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("said %d times, want once: %q in %s", strings.Count(log.String(), want), want, log.String())
		}
	}
}
