package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet/roundtrip"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// A7: what the daemon writes for the plugin, and what they tell one another, is
// read as it was written.
func TestA7RoundTrip(t *testing.T) {
	roundtrip.CheckDecode[State](t)
	roundtrip.Check[request](t)
	roundtrip.Check[answer](t)
}

// A8: an answer that is understood in part is word with the store, so the blocks
// stay this host's; what was left out is told. So is one that says no more than
// that they are this host's.
func TestA8AnsweredInPart(t *testing.T) {
	d, l := newTestDaemon(t)
	l.host.Blocks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/29")}
	l.leftOut = []error{errors.New("evil/x: no key of an overlay network")}
	old := time.Now().Add(-2 * d.c.Etcd.Reclaim())
	for name, answered := range map[string]error{"in part": nil, "no more": fmt.Errorf("network: %w", peer.ErrAnswered)} {
		l.err, d.contact = answered, old
		d.known.Hosts = peer.Snapshot{l.host}
		hosts, err := d.look(t.Context())
		if self, _ := hosts.Find(d.known.Self); len(self.Blocks) != 1 || d.contact.Equal(old) || (err == nil) != (answered == nil) {
			t.Errorf("%s: %v, %v, word with the store at %s", name, hosts, err, d.contact)
		}
	}
	l.err, d.contact = errors.New("away"), old
	if hosts, err := d.look(t.Context()); err == nil || len(hosts) > 0 || !d.contact.Equal(old) {
		t.Errorf("away: %v, %v", hosts, err)
	}
	d.c.StateDir = t.TempDir()
	for range 7 {
		d.leftOut = append(d.leftOut, errors.New("evil/y: no key of an overlay network"))
	}
	if err := d.publish(nil); err != nil || !strings.HasPrefix(d.known.Problem, "evil/x: ") || !strings.HasSuffix(d.known.Problem, "and 3 more keys are left out") {
		t.Errorf("%v, %s", err, d.known.Problem)
	}
}

// A clock that was set back says nothing of how long other hosts may have had this
// one's blocks; one that was set forward, or a machine that has slept, too long.
func TestClockJumps(t *testing.T) {
	d, l := newTestDaemon(t)
	l.host.Blocks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/29")}
	d.c.StateDir = t.TempDir()
	d.known.Hosts = peer.Snapshot{l.host}
	for age, want := range map[time.Duration]bool{
		time.Minute: true, -time.Second: true,
		d.c.Etcd.Reclaim() + time.Minute: false, -time.Hour: false,
	} {
		d.contact = time.Now().Round(0).Add(-age)
		if err := d.publish(nil); err != nil {
			t.Fatal(err)
		}
		if err := d.c.readState(); err != nil {
			t.Fatal(err)
		}
		if self, _ := d.c.hosts.Find(l.host.Address); (len(self.Blocks) == 1) != want || (d.c.problem == "") != want {
			t.Errorf("word with etcd %v ago: %v, %q", age, d.c.hosts, d.c.problem)
		}
	}
}
