// Package inventory is one read-only view of a host: its networks, what is attached
// to them, and what is left of attachments that are gone. It joins, by owner, what
// each layer can list. It takes no lock, so nobody who starts a container waits for
// it; what comes or goes meanwhile is in it or not.
package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
)

// ConfigFile is where a host says that its directories are elsewhere.
const ConfigFile = "/etc/dockyard/config.json"

// A Config is where things are on a host, and from where new subnets come.
type Config struct {
	ConfDirs []string `json:"confDirs"` // conflists; new ones go into the first
	CNIDirs  []string `json:"cniDirs"`  // libcni's cache; new attachments go into the first
	BinDirs  []string `json:"binDirs"`  // plugins
	Pools    []Pool   `json:"pools"`
	Audit    string   `json:"audit"` // a file; "" for the journal

	// Root is put before the paths of runtimes, for tests.
	Root string `json:"root"`
}

// A Pool is a block of addresses that subnets are taken from.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"` // length of a subnet's prefix
}

// Default is how most hosts are: k3s and GKE have directories of their own.
func Default() Config {
	return Config{
		ConfDirs: []string{"/etc/cni/net.d", "/var/lib/rancher/k3s/agent/etc/cni/net.d"},
		CNIDirs:  []string{"/var/lib/cni"},
		BinDirs: []string{
			"/opt/cni/bin", "/usr/libexec/cni", "/usr/lib/cni",
			"/var/lib/rancher/k3s/data/current/bin", "/var/lib/rancher/k3s/data/cni", "/home/kubernetes/bin",
		},
		Pools: []Pool{{Base: netip.MustParsePrefix("10.213.0.0/16"), Size: 24}},
	}
}

// Load reads the configuration of a host: the defaults, what the file says instead,
// and CNI_PATH, which runtimes and cnitool take before all else.
func Load(path string) (Config, error) {
	c := Default()
	b, err := os.ReadFile(path)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || path != ConfigFile) {
		return c, err
	}
	if err == nil {
		var rep conf.Report
		conf.Decode(b, &c, &rep)
		c.validate(&rep)
		if err := rep.Err(); err != nil {
			return c, fmt.Errorf("%s: %w", path, err)
		}
	}
	if dirs := os.Getenv("CNI_PATH"); dirs != "" {
		c.BinDirs = filepath.SplitList(dirs)
	}
	return c, nil
}

func (c *Config) validate(rep *conf.Report) {
	for key, dirs := range map[string][]string{"confDirs": c.ConfDirs, "cniDirs": c.CNIDirs, "binDirs": c.BinDirs} {
		if len(dirs) == 0 {
			rep.Missing(key, "at least one directory")
		}
		for i, d := range dirs {
			if !filepath.IsAbs(d) {
				rep.Bad(conf.Index(key, i), d, "an absolute path")
			}
		}
	}
	for i, p := range c.Pools {
		path := conf.Index("pools", i)
		if !p.Base.IsValid() || !p.Base.Addr().Is4() {
			rep.Bad(path+".base", p.Base, `an IPv4 subnet such as "10.213.0.0/16"`)
			continue
		}
		if p.Base != p.Base.Masked() {
			rep.Bad(path+".base", p.Base, "%s: the bits after the prefix must be 0", p.Base.Masked())
		}
		rep.Range(path+".size", p.Size, p.Base.Bits(), 30)
	}
}
