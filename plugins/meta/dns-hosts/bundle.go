package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// bundles is where containerd keeps the OCI bundles of running containers: a
// directory for each of its namespaces, and in it one for each container.
const bundles = "/run/containerd/io.containerd.runtime.v2.task"

// maxBundle bounds the configuration of a bundle in bytes.
const maxBundle = 4 << 20

// bundleNames returns the names that nerdctl's annotations give a container: its
// name, then its hostname. nerdctl passes neither; its CNI container ID is
// "<namespace>-<ID>", and the bundle is there when its hook runs the plugins.
func bundleNames(containerID string) (names []string) {
	cut := strings.LastIndexByte(containerID, '-')
	if cut <= 0 || cut+1 == len(containerID) {
		return nil
	}
	f, err := os.Open(filepath.Join(bundles, containerID[:cut], containerID[cut+1:], "config.json"))
	if err != nil {
		return nil // another runtime's
	}
	defer func() { _ = f.Close() }()
	var spec struct {
		Annotations map[string]string `json:"annotations"`
	}
	if json.NewDecoder(io.LimitReader(f, maxBundle)).Decode(&spec) != nil {
		return nil
	}
	for _, key := range []string{"nerdctl/name", "nerdctl/hostname"} {
		if name := spec.Annotations[key]; name != "" {
			names = append(names, name)
		}
	}
	return names
}
