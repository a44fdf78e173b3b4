package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// A State is what the daemon leaves for the plugin: the hosts as the kernel has
// them, and what is wrong, if anything. The time of its file is that of the
// daemon's last word with etcd.
type State struct {
	Self    netip.Addr    `json:"self"`
	Hosts   peer.Snapshot `json:"peers"`
	Problem string        `json:"problem,omitempty"`
	// Draining are blocks of this host that no container gets an address from, as
	// they are about to be given back.
	Draining []netip.Prefix `json:"resting,omitempty"`
}

const (
	defaultTTL     = 30 * time.Second
	defaultReclaim = 24 * time.Hour
	askFor         = 10 * time.Second // how long CHECK waits for the daemon, which a busy host may keep from answering
	claimFor       = 5 * time.Second  // how long ADD does, which has etcd asked
)

// TTL is how long a host is known after its last word.
func (e *Etcd) TTL() time.Duration {
	if e == nil {
		return defaultTTL
	}
	return seconds(e.LeaseTTL, defaultTTL)
}

// Reclaim is how long a host that is gone keeps its blocks at least: for ever where
// nobody else can claim them.
func (e *Etcd) Reclaim() time.Duration {
	if e == nil {
		return math.MaxInt64
	}
	return seconds(e.ReclaimAfter, defaultReclaim)
}

func seconds(n int, otherwise time.Duration) time.Duration {
	if n == 0 {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

func (c *Config) stateFile() string  { return filepath.Join(c.StateDir, c.Name+".json") }
func (c *Config) socketFile() string { return filepath.Join(c.StateDir, c.Name+".sock") }
func (c *Config) lockFile() string   { return filepath.Join(c.StateDir, c.Name+".lock") }

// readState reads what the daemon knows. It asks nobody: containers start while
// daemon and etcd are away.
func (c *Config) readState() error {
	b, err := os.ReadFile(c.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return cni.Errorf(cni.CodeTryAgain, "%s: not there yet; is \"vxlan-overlay daemon\" running for this network, and can it reach etcd?", c.stateFile())
	}
	if err != nil {
		return err
	}
	var s State
	var rep conf.Report
	if conf.Decode(b, &s, &rep); rep.Err() != nil {
		return fmt.Errorf("%s: %w; delete the file, and the daemon writes it again", c.stateFile(), rep.Err())
	}
	info, err := os.Stat(c.stateFile())
	if err != nil {
		return err
	}
	c.adopt(s)
	switch age := time.Since(info.ModTime()); {
	case c.Etcd == nil:
	case age > c.Etcd.Reclaim():
		c.hosts = c.hosts.Others(s.Self)
		c.problem = fmt.Sprintf("no word with etcd for %v, and after reclaimAfter, %v, other hosts may take this one's blocks", age.Round(time.Second), c.Etcd.Reclaim())
	case age < -c.Etcd.TTL():
		c.hosts = c.hosts.Others(s.Self)
		c.problem = fmt.Sprintf("the last word with etcd is of %v from now, so this host's clock was set back, and since when other hosts may take its blocks is not known; the daemon's next word with etcd settles it", -age.Round(time.Second))
	}
	return nil
}

func (c *Config) adopt(s State) {
	c.hosts, c.problem, c.draining = s.Hosts, s.Problem, s.Draining
	if c.Underlay == "" {
		c.underlay.addr = s.Self
	}
}

// noBlock says why no container can start.
func (c *Config) noBlock() error {
	why := c.problem
	if why == "" {
		why = "the daemon has claimed none yet"
	}
	return cni.Errorf(cni.CodeTryAgain, "this host has no block of %v: %s", c.Subnets, why)
}

// Limited implements cni.Limiter: the network is not as etcd has it.
func (c *Config) Limited(context.Context) error {
	if c.problem == "" {
		return nil
	}
	return errors.New("the network has not converged: " + c.problem)
}

// await lets the daemon finish what it is about, and takes its word for which
// hosts there are. If it is away, its last word counts.
func (c *Config) await() error {
	call, err := c.ask(askFor, request{Anew: c.PeersFile != ""})
	if err != nil {
		return nil //nolint:nilerr // as said
	}
	defer call.End()
	said, err := listen(call)
	if err != nil {
		return fmt.Errorf("%s: the daemon does not answer: %w", c.socketFile(), err)
	}
	c.adopt(said.State)
	return nil
}

// ask tells the daemon something. Its answer comes by the call.
func (c *Config) ask(patience time.Duration, r request) (*control.Call, error) {
	question, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return control.Begin(c.socketFile(), string(question), patience)
}

func listen(call *control.Call) (said answer, err error) {
	line, err := call.Line()
	if err == nil {
		err = json.Unmarshal([]byte(line), &said)
	}
	return said, err
}
