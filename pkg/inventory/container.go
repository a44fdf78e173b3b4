package inventory

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Container is one that runs, under whichever runtime: what its files say.
type Container struct {
	Runtime   string // "nerdctl", "containerd", "cri-o", "podman" or "netns"
	Namespace string // of Kubernetes or containerd
	Name      string
	ID        string // the runtime's
	CNIID     string // the container ID that the runtime gives to plugins
	NetNS     string
}

// Title is how a person would call the container.
func (c *Container) Title() string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

// is reports how well a container is meant by a name or an ID: 2 by the whole, 1 by
// the beginning of the ID, 0 not at all. "runtime:name" asks for that runtime, and
// "namespace/name" for that namespace.
func (c *Container) is(text string) int {
	if r, rest, ok := strings.Cut(text, ":"); ok {
		if r != c.Runtime {
			return 0
		}
		text = rest
	}
	if ns, rest, ok := strings.Cut(text, "/"); ok {
		if ns != c.Namespace {
			return 0
		}
		text = rest
	}
	switch {
	case text == "":
		return 0
	case text == c.Name, text == c.ID, text == c.CNIID:
		return 2
	case strings.HasPrefix(c.ID, text), strings.HasPrefix(c.CNIID, text):
		return 1
	}
	return 0
}

// bundles is where containerd keeps the OCI bundles of running containers.
const bundles = "/run/containerd/io.containerd.runtime.v2.task"

// podmanNames is where podman keeps who is called what.
const podmanNames = "/var/lib/containers/storage/overlay-containers/containers.json"

// maxFile bounds a runtime's file in bytes.
const maxFile = 4 << 20

// ReadContainers finds the running containers of all runtimes by files alone: what
// runtimes that keep none have attached is known by the cache.
func ReadContainers(root string, cache []Cached) ([]Container, error) {
	out, err := containerdTasks(filepath.Join(root, bundles))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	paths := map[string]bool{}
	for _, c := range out {
		seen[c.CNIID] = true
		paths[filepath.Base(c.NetNS)] = true
	}
	podman := podmanContainers(filepath.Join(root, podmanNames))
	for i := range cache {
		if c := fromCache(&cache[i], podman); !seen[c.CNIID] {
			seen[c.CNIID] = true
			out = append(out, c)
			paths[filepath.Base(c.NetNS)] = true
		}
	}
	return append(out, bareNamespaces(paths)...), nil
}

// fromCache is what is known of a container that has no files of its own.
func fromCache(c *Cached, podman map[string]string) Container {
	out := Container{ID: c.ContainerID, CNIID: c.ContainerID, NetNS: c.NetNS}
	out.Namespace, out.Name = c.pod()
	name, isBare := bare(c.NetNS)
	base := filepath.Base(c.NetNS)
	switch {
	case podman[c.ContainerID] != "":
		out.Runtime, out.Name = "podman", podman[c.ContainerID]
	case strings.HasPrefix(base, "netns-"):
		out.Runtime = "podman"
	case out.Name != "" && strings.HasPrefix(base, "cni-"):
		out.Runtime = "containerd"
	case c.Args["K8S_POD_INFRA_CONTAINER_ID"] != "":
		out.Runtime = "cri-o"
	case isBare:
		out.Runtime = "netns"
		if out.Name == "" {
			out.Name = name
		}
	case strings.HasPrefix(base, "cni-"):
		out.Runtime = "containerd"
	default:
		if ns, id, ok := strings.Cut(c.ContainerID, "-"); ok && len(id) == 64 {
			out.Runtime, out.Namespace, out.ID = "nerdctl", ns, id
		}
	}
	return out
}

// spec is what a bundle's config.json says of a container.
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		Namespaces []struct {
			Type string `json:"type"`
			Path string `json:"path"`
		} `json:"namespaces"`
	} `json:"linux"`
}

// containerdTasks reads the bundles below containerd's state: nerdctl's, ctr's and
// the pods of its CRI.
func containerdTasks(dir string) ([]Container, error) {
	namespaces, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []Container
	for _, ns := range namespaces {
		tasks, readErr := os.ReadDir(filepath.Join(dir, ns.Name()))
		if errors.Is(readErr, fs.ErrPermission) {
			return nil, readErr
		}
		for _, t := range tasks {
			if strings.HasPrefix(t.Name(), ".") {
				continue // about to be deleted
			}
			if c, ok := task(filepath.Join(dir, ns.Name(), t.Name()), ns.Name(), t.Name()); ok {
				out = append(out, c)
			}
		}
	}
	return out, err
}

// task reads one bundle. One that is going, or a container within a pod, is none.
func task(bundle, namespace, id string) (Container, bool) {
	var s spec
	if readJSON(filepath.Join(bundle, "config.json"), &s) != nil {
		return Container{}, false
	}
	pid, err := os.ReadFile(filepath.Join(bundle, "init.pid"))
	if err != nil {
		return Container{}, false
	}
	c := Container{ID: id, CNIID: namespace + "-" + id, Namespace: namespace, Runtime: "containerd"}
	c.NetNS = filepath.Join("/proc", strings.TrimSpace(string(pid)), "ns/net")
	for _, n := range s.Linux.Namespaces {
		if n.Type == "network" && n.Path != "" {
			c.NetNS = n.Path
		}
	}
	a := s.Annotations
	switch kind := a["io.kubernetes.cri.container-type"]; {
	case kind == "sandbox":
		c.CNIID, c.Namespace, c.Name = id, a["io.kubernetes.cri.sandbox-namespace"], a["io.kubernetes.cri.sandbox-name"]
	case kind != "":
		return c, false // its sandbox has the namespace
	case a["nerdctl/name"] != "" || a["nerdctl/namespace"] != "":
		c.Runtime, c.Name = "nerdctl", a["nerdctl/name"]
	}
	return c, true
}

// podmanContainers maps IDs to names, as far as podman's file can be read.
func podmanContainers(path string) map[string]string {
	var list []struct {
		ID    string   `json:"id"`
		Names []string `json:"names"`
	}
	out := map[string]string{}
	if readJSON(path, &list) != nil {
		return out
	}
	for _, c := range list {
		if len(c.Names) > 0 {
			out[c.ID] = c.Names[0]
		}
	}
	return out
}

// netnsDir is where ip-netns(8) keeps namespaces.
const netnsDir = "/run/netns"

// bareNamespaces lists those of ip-netns(8) that no runtime has.
func bareNamespaces(taken map[string]bool) (out []Container) {
	entries, _ := os.ReadDir(netnsDir) // what cannot be read has nothing to be attached
	for _, e := range entries {
		path := filepath.Join(netnsDir, e.Name())
		if name, ok := bare(path); ok && !taken[name] {
			out = append(out, BareContainer(name))
		}
	}
	return out
}

// BareContainer is a namespace of ip-netns(8) as a container: with the ID that
// cnitool gives it.
func BareContainer(name string) Container {
	path := filepath.Join(netnsDir, name)
	sum := sha512.Sum512([]byte(path))
	id := "cnitool-" + hex.EncodeToString(sum[:10])
	return Container{Runtime: "netns", Name: name, ID: id, CNIID: id, NetNS: path}
}

func readJSON(path string, into any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	return json.NewDecoder(io.LimitReader(f, maxFile)).Decode(into)
}

// An AmbiguousError lists the containers that a name means.
type AmbiguousError struct {
	Text  string
	Means []Container
}

func (e *AmbiguousError) Error() string {
	var all []string
	for _, c := range e.Means {
		all = append(all, c.Runtime+":"+strings.TrimPrefix(c.Namespace+"/"+c.Title(), "/"))
	}
	return "container " + e.Text + " is ambiguous (" + strings.Join(all, ", ") + "); name one of these, or its ID"
}

// ErrNoContainer is wrapped where no running container has a name.
var ErrNoContainer = errors.New("no such container runs")

// FindContainer finds the one that a name, an ID, or the beginning of an ID means.
func FindContainer(all []Container, text string) (Container, error) {
	for _, level := range []int{2, 1} {
		found := slices.DeleteFunc(slices.Clone(all), func(c Container) bool { return c.is(text) != level })
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return Container{}, &AmbiguousError{text, found}
		}
	}
	return Container{}, ErrNoContainer
}
