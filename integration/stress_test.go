package integration

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// TestStress attaches and detaches 64 containers at the same time, round after
// round: no verb may fail, and nothing may be left. STRESS_ROUNDS sets the
// number of rounds, which take two seconds each.
func TestStress(t *testing.T) {
	const containers = 64
	rounds := 12
	if s := os.Getenv("STRESS_ROUNDS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatal("STRESS_ROUNDS:", err)
		}
	}
	e := readExample(t, testnet.Root()+"/conf-examples/bridge.conflist")
	l := &lab{T: t, h: testnet.New(t), conflist: e.conflist}
	l.net = l.network(e)
	var atts []testnet.Attachment
	for i := range containers {
		a := e.attachment(l.h, l.net, i)
		l.h.Container(a.ID)
		atts = append(atts, a)
	}
	l.add(atts[0])
	l.del(atts[0])
	base := l.h.Snapshot()
	start := time.Now()
	var wg sync.WaitGroup
	for _, a := range atts {
		wg.Add(1)
		go func() {
			defer wg.Done()
			l.h.Do(func() {
				if err := lives(l.net, a, rounds); err != nil {
					t.Error(err)
				}
			})
		}()
	}
	wg.Wait()
	t.Logf("%d containers, %d rounds of ADD and DEL: %v", containers, rounds, time.Since(start).Round(time.Millisecond))
	if err := testnet.Equal(base, l.h.Snapshot()); err != nil {
		t.Error(err)
	}
}

func lives(n *testnet.Network, a testnet.Attachment, rounds int) error {
	for i := range rounds {
		if _, err := n.Add(a); err != nil {
			return fmt.Errorf("%s, round %d: ADD: %w", a.ID, i, err)
		}
		if i%10 == 0 {
			if err := n.Check(a); err != nil {
				return fmt.Errorf("%s, round %d: CHECK: %w", a.ID, i, err)
			}
		}
		if err := n.Del(a); err != nil {
			return fmt.Errorf("%s, round %d: DEL: %w", a.ID, i, err)
		}
	}
	return nil
}
