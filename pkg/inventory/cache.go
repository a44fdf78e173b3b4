package inventory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// A Cached is what libcni remembers of an attachment: one directory has those of
// all runtimes of a host, with whole names.
type Cached struct {
	owner.Key
	NetNS  string
	Args   map[string]string // CNI_ARGS
	Ports  []AskedPort
	IPs    []netip.Prefix
	MAC    string
	Links  []string // of the host, in the result
	Since  time.Time
	Config []byte // the conflist as it was at ADD
}

// An AskedPort is a port that a runtime asked to publish.
type AskedPort struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// cacheFile is libcni's own form (libcni/api.go, cachedInfo).
type cacheFile struct {
	Kind           string      `json:"kind"`
	ContainerID    string      `json:"containerId"`
	IfName         string      `json:"ifName"`
	NetworkName    string      `json:"networkName"`
	NetNS          string      `json:"netns"`
	Config         []byte      `json:"config"`
	CniArgs        [][2]string `json:"cniArgs"`
	CapabilityArgs struct {
		PortMappings []AskedPort `json:"portMappings"`
	} `json:"capabilityArgs"`
	Result struct {
		Interfaces []struct {
			Name    string `json:"name"`
			MAC     string `json:"mac"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	} `json:"result"`
}

const cacheKind = "cniCacheV1"

// ReadCache reads the cache of one directory. What is no entry, or half of one, is
// left out, as libcni leaves it out.
func ReadCache(dir string) ([]Cached, error) {
	results := filepath.Join(dir, "results")
	entries, err := os.ReadDir(results)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]Cached, 0, len(entries))
	for _, e := range entries {
		path := filepath.Join(results, e.Name())
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		if err != nil {
			continue
		}
		c, err := parseCached(b)
		if err != nil {
			continue
		}
		if info, err := e.Info(); err == nil {
			c.Since = info.ModTime()
		}
		out = append(out, c)
	}
	return out, nil
}

func parseCached(b []byte) (Cached, error) {
	var f cacheFile
	if err := json.Unmarshal(b, &f); err != nil && (f.Kind == "" || f.NetworkName == "") {
		return Cached{}, err
	}
	if f.Kind != cacheKind || f.NetworkName == "" || f.ContainerID == "" {
		return Cached{}, fmt.Errorf("no %s", cacheKind)
	}
	c := Cached{
		Key:   owner.Key{Network: f.NetworkName, ContainerID: f.ContainerID, IfName: f.IfName},
		NetNS: f.NetNS, Ports: f.CapabilityArgs.PortMappings, Config: f.Config, Args: map[string]string{},
	}
	for _, pair := range f.CniArgs {
		c.Args[pair[0]] = pair[1]
	}
	for _, l := range f.Result.Interfaces {
		if l.Sandbox == "" {
			c.Links = append(c.Links, l.Name)
		} else if l.Name == f.IfName {
			c.MAC = l.MAC
		}
	}
	for _, ip := range f.Result.IPs {
		if p, err := netip.ParsePrefix(ip.Address); err == nil {
			c.IPs = append(c.IPs, p)
		}
	}
	return c, nil
}

// pod is the name that Kubernetes' runtimes and podman pass.
func (c *Cached) pod() (namespace, name string) {
	return c.Args["K8S_POD_NAMESPACE"], c.Args["K8S_POD_NAME"]
}

// bare reports whether the namespace is one of ip-netns(8), and its name.
func bare(path string) (name string, ok bool) {
	dir, name := filepath.Split(filepath.Clean(path))
	if dir != "/run/netns/" && dir != "/var/run/netns/" {
		return "", false
	}
	return name, !strings.HasPrefix(name, "cni-") && !strings.HasPrefix(name, "netns-")
}
