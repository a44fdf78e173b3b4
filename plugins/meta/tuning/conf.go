package main

import (
	"bufio"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/kernel/sysctl"
)

// config is the wire configuration, all of it the reference plugin's. README.md
// says what each key means.
type config struct {
	cni.Base
	DataDir string `json:"dataDir"`
	settings

	RuntimeConfig struct {
		MAC conf.MAC `json:"mac"`
	} `json:"runtimeConfig" conf:"open"`
	CNIArgs struct {
		CNI settings `json:"cni"`
	} `json:"args" conf:"open"`

	mac     net.HardwareAddr
	sysctls []named
}

// settings stand in the configuration, or in args.cni, which goes before it.
type settings struct {
	Sysctl   map[string]string `json:"sysctl"`
	MAC      conf.MAC          `json:"mac"`
	Promisc  *bool             `json:"promisc"`
	MTU      *int              `json:"mtu"`
	TxQLen   *int              `json:"txQLen"`
	AllMulti *bool             `json:"allmulti"`
}

// A named is a sysctl with its key as it was written.
type named struct {
	path, key string
	sysctl.Value
}

const (
	defaultDataDir = "/run/cni/tuning"
	allowlistFile  = "/etc/cni/tuning/allowlist.conf"

	maxTxQLen = 1 << 30
)

var (
	_ cni.Config   = (*config)(nil)
	_ cni.Resolver = (*config)(nil)
	_ cni.Reporter = (*config)(nil)
)

func newConfig() cni.Config { return &config{DataDir: defaultDataDir} }

// Validate implements cni.Config.
func (c *config) Validate(r *cni.Request, rep *conf.Report) {
	if !filepath.IsAbs(c.DataDir) {
		rep.Bad("dataDir", c.DataDir, "an absolute path")
	}
	c.mac = r.MAC(rep, c.RuntimeConfig.MAC, c.CNIArgs.CNI.MAC)
	if c.mac == nil {
		c.mac = net.HardwareAddr(c.MAC)
	}
	for _, part := range []struct {
		path string
		settings
	}{{"", c.settings}, {"args.cni.", c.CNIArgs.CNI}} {
		if part.MTU != nil && *part.MTU != 0 {
			rep.Range(part.path+"mtu", *part.MTU, conf.MinMTU, conf.MaxMTU)
		}
		if part.TxQLen != nil {
			rep.Range(part.path+"txQLen", *part.TxQLen, 0, maxTxQLen)
		}
		for _, key := range slices.Sorted(maps.Keys(part.Sysctl)) {
			c.addSysctl(part.path+"sysctl", key, part.Sysctl[key], r.Owner.IfName, rep)
		}
	}
}

// addSysctl judges a key, which may be written with dots or slashes. What is
// below net/ is of the container's namespace alone; anything else is the host's.
func (c *config) addSysctl(path, key, value, ifName string, rep *conf.Report) {
	name := strings.ReplaceAll(key, ".", "/")
	if ifName != "" { // STATUS knows none
		name = strings.Replace(name, "IFNAME", ifName, 1)
	}
	if !strings.HasPrefix(name, "net/") || filepath.Clean(name) != name || strings.ContainsFunc(name, unprintable) {
		rep.Bad(path, key, `a sysctl of the network namespace, such as "net.ipv4.conf.IFNAME.arp_filter"; others are the host's`)
		return
	}
	s := named{path, key, sysctl.Value{Name: name, Value: value}}
	i := slices.IndexFunc(c.sysctls, func(o named) bool { return o.Name == name })
	switch {
	case i < 0:
		c.sysctls = append(c.sysctls, s)
	case c.sysctls[i].path == path:
		rep.Conflict(path, "%q and %q are one setting, want one of them", c.sysctls[i].key, key)
	default:
		c.sysctls[i] = s
	}
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// judgeAllowed compares the sysctls with the administrator's list, as the
// reference plugin does: a regular expression a line, of which one must match
// somewhere in the key as it is written. Without the file all are allowed.
func (c *config) judgeAllowed(file string, rep *conf.Report) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var allowed []*regexp.Regexp
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		e, err := regexp.Compile(line)
		if err != nil {
			rep.Conflict(file, "%v", err)
			continue
		}
		allowed = append(allowed, e)
	}
	for _, s := range c.sysctls {
		if !slices.ContainsFunc(allowed, func(e *regexp.Regexp) bool { return e.MatchString(s.key) }) {
			rep.Bad(s.path, s.key, "one that %s allows", file)
		}
	}
	return lines.Err()
}
