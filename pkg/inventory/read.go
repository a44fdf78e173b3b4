package inventory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/dns/zone"
	"github.com/dockyard-cni/dockyard/pkg/firewall/nft"
	"github.com/dockyard-cni/dockyard/pkg/ipam/lease"
	"github.com/dockyard-cni/dockyard/pkg/kernel/link"
)

// ErrRoot is wrapped where only root may read what has to be read.
var ErrRoot = errors.New("needs root")

// Read reads this host. That something cannot be read is an error: what is not seen
// must not look as if it were not there.
func Read(ctx context.Context, c Config) (*Inventory, error) {
	s, err := ReadSources(ctx, c)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: %w", ErrRoot, err)
	}
	if err != nil {
		return nil, err
	}
	return Join(*s), nil
}

// ReadSources reads what the layers can list, all at once.
func ReadSources(ctx context.Context, c Config) (*Sources, error) {
	s := &Sources{}
	var err error
	s.NetNS, s.Boot = isNetNS, bootTime()
	if s.Networks, err = ReadNetworks(c.ConfDirs); err != nil {
		return s, err
	}
	for _, dir := range c.CNIDirs {
		cached, err := ReadCache(dir)
		if err != nil {
			return s, err
		}
		s.Cache = append(s.Cache, cached...)
	}
	var rest errgroup.Group // each writes fields of its own
	rest.Go(func() (err error) {
		s.Containers, err = ReadContainers(c.Root, s.Cache)
		return err
	})
	rest.Go(func() error { return s.readKernel(ctx) })
	rest.Go(s.readLeases)
	rest.Go(s.readNames)
	return s, rest.Wait()
}

func (s *Sources) readKernel(ctx context.Context) (err error) {
	if s.Links, err = link.List(); err != nil {
		return fmt.Errorf("links: %w", err)
	}
	if s.Placed, err = link.Placements(); err != nil {
		return err
	}
	if s.Claims, err = nft.Claims(ctx); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	if s.Ports, err = nft.HeldPorts(ctx); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// readLeases reads those of the networks that are known, by their files or by their
// attachments.
func (s *Sources) readLeases() error {
	dirs := map[string]string{}
	for _, c := range s.Cache {
		dirs[c.Network] = DefaultDataDir
	}
	for _, n := range s.Networks {
		if n.DataDir != "" && n.Problem == "" {
			dirs[n.Name] = n.DataDir
		}
	}
	for network, dir := range dirs {
		held, err := lease.List(dir, network)
		if err != nil {
			return err
		}
		s.Leases = append(s.Leases, held...)
	}
	return nil
}

func (s *Sources) readNames() error {
	store := zone.Default()
	marks, err := store.Marks()
	if err != nil {
		return err
	}
	for _, m := range marks {
		r, err := store.Read(m)
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err == nil { // one that is half written is no record
			s.Records = append(s.Records, r)
		}
	}
	return nil
}

// isNetNS reports whether a path is a namespace now. It opens nothing.
func isNetNS(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && (st.Type == unix.NSFS_MAGIC || st.Type == unix.PROC_SUPER_MAGIC)
}

// bootTime returns when the host was started, the zero Time if it does not say.
func bootTime() time.Time {
	b, _ := os.ReadFile("/proc/stat")
	fields := strings.Fields(string(b))
	if i := slices.Index(fields, "btime"); i >= 0 && i+1 < len(fields) {
		if sec, err := strconv.ParseInt(fields[i+1], 10, 64); err == nil {
			return time.Unix(sec, 0)
		}
	}
	return time.Time{}
}
