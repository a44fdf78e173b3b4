package overlay

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"

	"github.com/dockyard-cni/dockyard/pkg/cni"
	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
)

const plugin = "vxlan-overlay"

// Load reads the configurations of the networks in conflists that are for the
// daemon: all others' are left out. Every problem of all files is in the error.
func Load(files []string) ([]*Config, error) {
	var out []*Config
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		list, err := libcni.NetworkConfFromBytes(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, p := range list.Plugins {
			if p.Network.Type != plugin {
				continue
			}
			c, err := load(list, p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if c.Etcd != nil || c.PeersFile != "" {
				out = append(out, c)
			}
		}
	}
	if out == nil {
		return nil, fmt.Errorf("%v: no network of type %q has \"etcd\" or \"peersFile\"; the others need no daemon", files, plugin)
	}
	return out, nil
}

func load(list *libcni.NetworkConfigList, p *libcni.PluginConfig) (*Config, error) {
	var object map[string]any
	if err := json.Unmarshal(p.Bytes, &object); err != nil {
		return nil, err
	}
	object["name"], object["cniVersion"] = list.Name, list.CNIVersion
	b, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	c, rep := New().(*Config), &conf.Report{}
	conf.Decode(b, c, rep)
	c.Validate(&cni.Request{Base: c.Base, Config: b}, rep)
	return c, rep.Err()
}
