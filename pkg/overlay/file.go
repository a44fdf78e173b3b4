package overlay

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/daemon/watch"
	"github.com/dockyard-cni/dockyard/pkg/overlay/peer"
)

// A File is the Store of a network whose hosts stand in its peersFile. Whoever
// writes the file decides; a half-written one is an error, and changes nothing.
type File struct {
	c       *Config
	changed <-chan struct{}
}

// NewFile watches the peersFile of a network until ctx ends.
func NewFile(ctx context.Context, c *Config, log *slog.Logger) (*File, error) {
	changed, err := watch.File(ctx, c.PeersFile, log)
	if err != nil {
		return nil, fmt.Errorf("peersFile: %w", err)
	}
	return &File{c, changed}, nil
}

// Look implements Store.
func (f *File) Look(context.Context) (hosts peer.Snapshot, leftOut []error, err error) {
	hosts, err = f.c.readPeers()
	return hosts, nil, err
}

// Changed implements Store.
func (f *File) Changed() <-chan struct{} { return f.changed }

// readPeers reads the hosts from the peersFile.
func (c *Config) readPeers() (peer.Snapshot, error) {
	var rep conf.Report
	hosts, err := peer.ReadFile(c.PeersFile, &rep)
	if err != nil {
		return nil, err
	}
	hosts.Validate("peers", c.Subnets, &rep)
	if err := rep.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.PeersFile, err)
	}
	return hosts, nil
}
