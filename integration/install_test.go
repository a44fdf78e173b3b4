package integration

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// A node is a directory that scripts/install.sh takes for a machine.
type node struct {
	*testing.T
	root string
}

func newNode(t *testing.T) node {
	n := node{t, t.TempDir()}
	n.mkdir("etc/NetworkManager")
	n.mkdir("etc/systemd")
	return n
}

func (n node) mkdir(path string) {
	n.Helper()
	if err := os.MkdirAll(filepath.Join(n.root, path), 0o755); err != nil {
		n.Fatal(err)
	}
}

func (n node) bin(name string) string { return filepath.Join(n.root, "opt/cni/bin", name) }

// install runs the script and returns what it says.
func (n node) install(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(testnet.Root(), "scripts/install.sh"), args...)
	cmd.Env = append(os.Environ(), "DESTDIR="+n.root, "BIN="+testnet.Bin(n))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (n node) must(args ...string) string {
	n.Helper()
	out, err := n.install(args...)
	if err != nil {
		n.Fatalf("install %s: %v\n%s", args, err, out)
	}
	return out
}

// files returns every file of the node with its content.
func (n node) files() map[string]string {
	n.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(n.root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var b []byte
			b, err = os.ReadFile(path)
			rel, _ := filepath.Rel(n.root, path)
			files[rel] = string(b)
		}
		return err
	})
	if err != nil {
		n.Fatal(err)
	}
	return files
}

func (n node) same(want, when string) {
	n.Helper()
	var found []string
	for path := range n.files() {
		found = append(found, path)
	}
	slices.Sort(found)
	if got := strings.Join(found, " "); got != want {
		n.Errorf("%s: %s\nwant %s", when, got, want)
	}
}

// has fails for what a file of the node lacks.
func (n node) has(path string, texts ...string) {
	n.Helper()
	content := n.files()[path]
	for _, text := range texts {
		if !strings.Contains(content, text) {
			n.Errorf("%s: %q\nlacks %q", path, content, text)
		}
	}
}

func TestInstall(t *testing.T) {
	n := newNode(t)
	out := n.must()
	if !strings.Contains(out, "/etc/cni/net.d") || !strings.Contains(out, "bridge") {
		t.Errorf("it does not say what to do next: %s", out)
	}
	for _, plugin := range []string{"bridge", "host-local", "portmap", "loopback", "firewall", "tuning", "bandwidth"} {
		if out, err := exec.Command(n.bin(plugin)).CombinedOutput(); err != nil || !strings.Contains(string(out), "CNI "+plugin+" plugin v") {
			t.Errorf("%s: %v: %s", plugin, err, out)
		}
	}
	if out, err := exec.Command(n.bin("dockyard"), "--version").CombinedOutput(); err != nil || !strings.Contains(string(out), "dockyard version v") {
		t.Errorf("dockyard --version: %v: %s", err, out)
	}
	if !strings.Contains(out, "ln -s /opt/cni/bin/dockyard /usr/local/sbin/") {
		t.Errorf("it does not say how dockyard comes into PATH: %s", out)
	}
	n.has("etc/NetworkManager/conf.d/90-dockyard.conf", "interface-name:veth*;", "interface-name:vx1*;", "interface-name:dyh*;", "managed=0")
	n.has("etc/systemd/network/10-dockyard.network", "Name=veth* ", " dyh* ", " vx9*\n", "Unmanaged=yes")
	before := n.files()
	n.must()
	if after := n.files(); len(after) != len(before) {
		t.Errorf("a second time: %d files, want %d", len(after), len(before))
	}
	n.mkdir("usr/local/sbin")
	if err := os.Symlink("/opt/cni/bin/dockyard", filepath.Join(n.root, "usr/local/sbin/dockyard")); err != nil {
		t.Fatal(err)
	}
	n.must("--uninstall")
	n.same("", "after --uninstall")
	if out, err := n.install("--uninstall"); err == nil || !strings.Contains(out, "nothing is installed") {
		t.Errorf("a second --uninstall: %v: %s", err, out)
	}
}

// Daemons have units, with the paths of their programs; and the link by which
// podman finds dns-hosts goes with it.
func TestInstallDaemons(t *testing.T) {
	n := newNode(t)
	dir := filepath.Join(n.root, "usr/libexec/cni")
	out := n.must(dir)
	for _, name := range []string{"dns-hosts", "vxlan-overlay"} {
		n.has("etc/systemd/system/"+name+".service", "/usr/libexec/cni/"+name+" daemon", "WantedBy=multi-user.target")
		if !strings.Contains(out, "systemctl enable --now "+name+".service") {
			t.Errorf("it does not say how %s is started: %s", name, out)
		}
	}
	if text := n.files()["etc/systemd/system/vxlan-overlay.service"]; strings.Contains(text, "/opt/cni/bin") || strings.Contains(text, n.root) {
		t.Errorf("another directory is in a unit: %s", text)
	}
	if !strings.Contains(out, "ln -s dns-hosts /usr/libexec/cni/dnsname") {
		t.Errorf("it does not say how podman finds names: %s", out)
	}
	link := filepath.Join(dir, "dnsname")
	if err := os.Symlink("dns-hosts", link); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(link).CombinedOutput(); err != nil || !strings.Contains(string(out), "CNI dns-hosts plugin v") {
		t.Errorf("by the name dnsname: %v: %s", err, out)
	}
	n.must(dir)
	n.must("--uninstall", dir)
	n.same("", "after --uninstall")
}

// A plugin dnsname of others stays.
func TestInstallForeignDNSName(t *testing.T) {
	n := newNode(t)
	n.mkdir("opt/cni/bin")
	if err := os.WriteFile(n.bin("dnsname"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.must()
	n.must("--uninstall")
	n.same("opt/cni/bin/dnsname", "after --uninstall")
}

// Binaries of others are refused, all at once and before anything is changed, or
// kept and put back.
func TestInstallReplaces(t *testing.T) {
	n := newNode(t)
	n.mkdir("opt/cni/bin")
	for _, name := range []string{"bridge", "tuning", "macvtap"} {
		if err := os.WriteFile(n.bin(name), []byte("#!/bin/sh\necho "+name+" of others\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := n.install()
	if err == nil || !strings.Contains(out, "bridge tuning;") || !strings.Contains(out, "--replace") {
		t.Errorf("foreign binaries: %v: %s", err, out)
	}
	n.same("opt/cni/bin/bridge opt/cni/bin/macvtap opt/cni/bin/tuning", "after a refusal")
	n.must("--replace")
	n.must() // ours are there now
	if out, err := exec.Command(n.bin("bridge")).CombinedOutput(); err != nil || !strings.Contains(string(out), "CNI bridge plugin") {
		t.Errorf("after --replace: %v: %s", err, out)
	}
	// A package of the distribution puts its own back.
	if err := os.WriteFile(n.bin("portmap.new"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(n.bin("portmap.new"), n.bin("portmap")); err != nil {
		t.Fatal(err)
	}
	if out := n.must("--uninstall"); !strings.Contains(out, "portmap is not ours any more") {
		t.Errorf("--uninstall says nothing of what it leaves: %s", out)
	}
	n.same("opt/cni/bin/bridge opt/cni/bin/macvtap opt/cni/bin/portmap opt/cni/bin/tuning", "after --uninstall")
	if out, err := exec.Command(n.bin("tuning")).Output(); err != nil || string(out) != "tuning of others\n" {
		t.Errorf("put back: %v: %q", err, out)
	}
}

// While a node works, every execution finds a whole binary.
func TestInstallBesideRunning(t *testing.T) {
	n := newNode(t)
	n.must()
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			cmd := exec.Command(n.bin("bridge"))
			cmd.Env = []string{"CNI_COMMAND=VERSION"}
			cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0"}`)
			if out, err := cmd.Output(); err != nil || !bytes.Contains(out, []byte("supportedVersions")) {
				failed <- err
				return
			}
		}
	}()
	for range 5 {
		n.must()
	}
	close(stop)
	if err, ok := <-failed; ok {
		t.Error("while it was being replaced: ", err)
	}
}
