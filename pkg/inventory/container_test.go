package inventory

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadContainers finds the containers of each runtime by the files that it leaves.
func TestReadContainers(t *testing.T) {
	root := t.TempDir()
	long := strings.Repeat("ab", 32)
	for path, text := range map[string]string{
		bundles + "/default/" + long + "/config.json": `{"annotations": {"nerdctl/name": "web", "nerdctl/namespace": "default"}, "linux": {"namespaces": [{"type": "network"}]}}`,
		bundles + "/default/" + long + "/init.pid":    "4242",
		bundles + "/default/plain/config.json":        `{"linux": {"namespaces": [{"type": "network", "path": "/var/run/netns/cni-1"}]}}`,
		bundles + "/default/plain/init.pid":           "4243",
		bundles + "/default/.going/config.json":       `{}`,
		bundles + "/default/half/config.json":         `{"annot`,
		bundles + "/default/dead/config.json":         `{}`, // no init.pid
		bundles + "/k8s.io/pod1/config.json": `{"annotations": {"io.kubernetes.cri.container-type": "sandbox",
			"io.kubernetes.cri.sandbox-name": "api", "io.kubernetes.cri.sandbox-namespace": "shop"},
			"linux": {"namespaces": [{"type": "network", "path": "/var/run/netns/cni-2"}]}}`,
		bundles + "/k8s.io/pod1/init.pid":    "4244",
		bundles + "/k8s.io/cont/config.json": `{"annotations": {"io.kubernetes.cri.container-type": "container"}}`,
		bundles + "/k8s.io/cont/init.pid":    "4245",
		podmanNames:                          `[{"id": "pod5", "names": ["db"]}]`,
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := ReadContainers(root, []Cached{
		{Key: key("a", "default-"+long, "eth0"), NetNS: "/proc/4242/ns/net"}, // known by its bundle
		{Key: key("a", "pod5", "eth0"), NetNS: "/run/netns/netns-5", Args: map[string]string{"K8S_POD_NAME": "old"}},
		{Key: key("a", "crio6", "eth0"), NetNS: "/var/run/netns/6", Args: map[string]string{"K8S_POD_NAME": "dns", "K8S_POD_NAMESPACE": "kube-system", "K8S_POD_INFRA_CONTAINER_ID": "crio6"}},
		{Key: key("a", "crio6", "net1"), NetNS: "/var/run/netns/6"},
		{Key: key("a", "cnitool-7", "eth0"), NetNS: "/run/netns/bare"},
		{Key: key("a", "other-"+strings.Repeat("cd", 32), "eth0"), NetNS: "/proc/1/ns/net"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range found {
		if c.CNIID == BareContainer(c.Name).CNIID {
			continue // of the host of this test
		}
		got = append(got, strings.ReplaceAll(fmt.Sprintf("%s %s/%s %s %s %s", c.Runtime, c.Namespace, c.Name, c.ID, c.CNIID, c.NetNS), long, "LONG"))
	}
	want := []string{
		"nerdctl default/web LONG default-LONG /proc/4242/ns/net",
		"containerd default/ plain default-plain /var/run/netns/cni-1",
		"containerd shop/api pod1 pod1 /var/run/netns/cni-2",
		"podman /db pod5 pod5 /run/netns/netns-5",
		"cri-o kube-system/dns crio6 crio6 /var/run/netns/6",
		"netns /bare cnitool-7 cnitool-7 /run/netns/bare",
		"nerdctl other/ " + strings.Repeat("cd", 32) + " other-" + strings.Repeat("cd", 32) + " /proc/1/ns/net",
	}
	slices.Sort(got)
	slices.Sort(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("found:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
