package integration

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// Laws 4 and 9 have a life for each system call that is interfered with, too many
// to have all of them each time. So each plugin of each example has a share of a
// budget of time, and takes what fits into it, one call at least, of its calls in
// an order that is drawn by a seed. A slow machine gets through fewer.
//
//	LAWS_SEED=n        another seed than the commit's
//	LAWS_BUDGET=10m    for all of it, if the machine has nothing else to do
//	LAWS_EVERY_CALL=1  all calls, however long it takes
type lottery struct {
	seed  uint64
	every bool
	share time.Duration // of each law for each plugin of each example

	mu         sync.Mutex
	calls, hit map[string]int // by law
}

// interfering is how many laws interfere with system calls.
const interfering = 3

var draws = sync.OnceValue(func() *lottery {
	budget := 3 * time.Minute
	if testing.Short() {
		budget = 15 * time.Second
	}
	if s := os.Getenv("LAWS_BUDGET"); s != "" {
		var err error
		if budget, err = time.ParseDuration(s); err != nil {
			panic(err)
		}
	}
	return &lottery{
		seed: seed(), every: os.Getenv("LAWS_EVERY_CALL") == "1",
		share: budget * time.Duration(parallel()), // to be divided
		calls: map[string]int{}, hit: map[string]int{},
	}
})

// seed is LAWS_SEED; or else from the commit, so that each is tested the same way
// whenever it is; or without git a constant.
func seed() uint64 {
	if s := os.Getenv("LAWS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			panic(fmt.Errorf("LAWS_SEED: %w", err))
		}
		return n
	}
	out, err := exec.Command("git", "-C", testnet.Root(), "rev-parse", "--short=12", "HEAD").Output()
	n, parseErr := strconv.ParseUint(strings.TrimSpace(string(out)), 16, 64)
	if cmp.Or(err, parseErr) != nil {
		return 1
	}
	return n
}

// order draws the order of calls 1 to n of what has that name.
func (d *lottery) order(name string, n int) []int {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	out := rand.New(rand.NewPCG(d.seed, h.Sum64())).Perm(n)
	for i := range out {
		out[i]++
	}
	return out
}

func (d *lottery) note(law string, calls, hit int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[law] += calls
	d.hit[law] += hit
}

// judge fails if a law was run and did not interfere once.
func (d *lottery) judge(t *testing.T) {
	for law, calls := range d.calls {
		if d.hit[law] == 0 {
			t.Errorf("law %s: %d system calls, and none was interfered with: the law says nothing", law, calls)
		}
	}
}

// String is empty if no law was run that interferes.
func (d *lottery) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var b strings.Builder
	for _, law := range slices.Sorted(maps.Keys(d.calls)) {
		fmt.Fprintf(&b, "law %s: %d of %d system calls, drawn by LAWS_SEED=%d\n", strings.ReplaceAll(law, "_", " "), d.hit[law], d.calls[law], d.seed)
	}
	return b.String()
}

// An interference is with a verb, by what trace does at the n-th system call.
type interference struct {
	verb string
	do   []string
}

// interfere runs the verb so that the n-th system call that changes something in
// plugin p goes wrong, and reports which call that was: none if there are fewer. It
// counts the calls if n is 0.
func (l *lab) interfere(with interference, p, n int) (hit string, calls int, err error) {
	report, total := filepath.Join(l.h.Dir(), "report"), filepath.Join(l.h.Dir(), "total")
	_ = os.Remove(report)
	net := l.net.With(func(c *testnet.Call) {
		if c.Verb() == with.verb && c.Index == p {
			c.Wrap = append([]string{"trace", "-n", strconv.Itoa(n), "-report", report, "-total", total, "-do"}, with.do...)
		}
	})
	if with.verb == "ADD" {
		_, err = net.Add(l.atts[0])
	} else {
		err = net.Del(l.atts[0])
	}
	if b, readErr := os.ReadFile(report); readErr == nil {
		hit = fmt.Sprintf("%s %s, call %d (%s)", l.net.Types()[p], with.verb, n, b)
	}
	if n == 0 && err == nil {
		var b []byte
		if b, err = os.ReadFile(total); err == nil {
			calls, err = strconv.Atoi(string(b))
		}
	}
	return hit, calls, err
}

// draw runs a law for each plugin of an example, on hosts of their own, with the
// system calls that are drawn. before is the host's way to the verb, at one life.
func draw(t *testing.T, e example, with interference, before func(*lab), at func(l *lab, with interference, p, n int) bool) {
	d := draws()
	law, share := strings.Split(t.Name(), "/")[1], d.share/time.Duration(interfering*chances(t))
	for p, plugin := range e.plugins(t) {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, e, 1)
			before(l)
			_, calls, err := l.interfere(with, p, 0)
			if err != nil {
				t.Fatalf("%s without interference: %v", with.verb, err)
			}
			l.del(l.atts[0])
			hits, start := 0, time.Now()
			for _, n := range d.order(t.Name(), calls) {
				if t.Failed() || hits > 0 && !d.every && time.Since(start) > share {
					break
				}
				before(l)
				if at(l, with, p, n) {
					hits++
				}
			}
			d.note(law, calls, hits)
			l.add(l.atts[0])
			l.check(l.atts[0])
			l.del(l.atts[0])
		})
	}
}

// chances is how many plugins all examples have that run under this kernel.
func chances(t *testing.T) (n int) {
	for _, e := range lawful(t) {
		if testnet.Emulated() || len(testnet.Lacking(needs(t, e.conflist))) == 0 {
			n += len(e.plugins(t))
		}
	}
	return n
}

// failEverywhere makes calls fail, one in each life. The plugin may get along without
// it; but if ADD fails, nothing of that plugin's is left.
func failEverywhere(t *testing.T, e example) {
	draw(t, e, interference{"ADD", []string{"EIO", "-all"}}, func(*lab) {}, (*lab).failAt)
}

// failAt reports whether there was an n-th call that could fail.
func (l *lab) failAt(with interference, p, n int) bool {
	l.Helper()
	var before testnet.Snapshot
	plain := l.net
	l.net = plain.With(func(c *testnet.Call) {
		if c.Verb() == "ADD" && c.Index == p {
			before = l.look()
		}
	})
	hit, _, err := l.interfere(with, p, n)
	l.net = plain
	if err != nil && hit == "" {
		l.Fatal("ADD without interference: ", err)
	}
	if err != nil {
		l.is(l.withSettings(before), "EIO from %s: %v", hit, err)
	}
	l.del(l.atts[0])
	l.is(l.base, "DEL after EIO from %s", hit)
	return hit != ""
}

// withSettings is s with the settings that the hosts' ends of pairs have now: they go
// with the link, which a later plugin of the chain does not own.
func (l *lab) withSettings(s testnet.Snapshot) testnet.Snapshot {
	out := maps.Clone(s)
	for object, attributes := range l.look() {
		if strings.HasPrefix(object, "sysctl net/ipv4/conf/veth") {
			out[object] = attributes
		}
	}
	return out
}

// killDuringAdd: that ADD works again is shown by the next one, which may come
// farther, on a host that looks as before, and by the last, which is whole.
func killDuringAdd(t *testing.T, e example) {
	draw(t, e, interference{"ADD", []string{"kill"}}, func(*lab) {}, (*lab).killAt)
}

func killDuringDel(t *testing.T, e example) {
	draw(t, e, interference{"DEL", []string{"kill"}}, func(l *lab) { l.add(l.atts[0]) }, (*lab).killAt)
}

// killAt reports whether there was an n-th call to be killed at.
func (l *lab) killAt(with interference, p, n int) bool {
	l.Helper()
	hit, _, err := l.interfere(with, p, n)
	if hit == "" && err != nil {
		l.Fatalf("%s without interference: %v", with.verb, err)
	}
	if err := l.net.Del(l.atts[0]); err != nil {
		l.Errorf("killed in %s: DEL: %v", hit, err)
	}
	l.is(l.base, "DEL after being killed in %s", hit)
	return hit != ""
}
