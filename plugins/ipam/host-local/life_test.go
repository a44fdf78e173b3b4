package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/pkg/cni"
)

// TestKilled kills an ADD and a DEL at each system call that changes something,
// with an index and while one is made. Then DEL leaves nothing, and every
// address can be had.
func TestKilled(t *testing.T) {
	for _, verb := range []string{"ADD", "DEL"} {
		kills := 0
		for _, name := range []string{"openat", "write", "pwrite64", "unlinkat", "renameat", "utimensat", "ftruncate", "mkdirat", "flock"} {
			for n := 1; ; n++ {
				kept := kill(t, verb, name, n, false)
				made := kill(t, verb, name, n, true)
				if !kept && !made {
					break
				}
				kills++
			}
		}
		if kills < 20 {
			t.Errorf("%s was killed at %d calls only", verb, kills)
		}
	}
}

// kill reports whether the verb came as far as its n-th call of that name.
func kill(t *testing.T, verb, name string, n int, noIndex bool) bool {
	t.Helper()
	what := fmt.Sprintf("%s killed at %s %d, no index %v", verb, name, n, noIndex)
	dir := t.TempDir()
	conf := config2(dir, "10.1.0.0/29", "")
	good(t, what, call{verb: "ADD", id: "kept", conf: conf})
	if verb == "DEL" {
		good(t, what, call{verb: "ADD", id: "c", conf: conf})
	}
	if noIndex {
		if err := os.RemoveAll(filepath.Join(dir, "net", ".dockyard")); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+name,
		"-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", name, n), os.Args[0])
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+verb, "CNI_CONTAINERID=c", "CNI_NETNS=/nowhere", "CNI_IFNAME=eth0", "CNI_PATH=/nowhere")
	cmd.Stdin = strings.NewReader(conf)
	out, err := cmd.Output()
	if err == nil {
		return false
	}
	if !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%s: %v, %s", what, err, out)
	}
	good(t, what, call{verb: "DEL", id: "c", conf: conf})
	if left, err := filepath.Glob(filepath.Join(dir, "net", "[1f]*")); err != nil || len(left) != 2 {
		t.Fatalf("%s: DEL left %v, %v", what, left, err)
	}
	given := map[string]bool{"[10.1.0.2/29 via 10.1.0.1 fd00::2/64 via fd00::1]": true}
	for c := range 4 {
		ips := fmt.Sprint(good(t, what, call{verb: "ADD", id: fmt.Sprint("n", c), conf: conf}))
		if given[ips] {
			t.Fatalf("%s: %s given twice", what, ips)
		}
		given[ips] = true
	}
	return true
}

func good(t *testing.T, when string, c call) []string {
	t.Helper()
	ips, _, msg := c.run(t)
	if msg != "" {
		t.Fatalf("%s: %s %s: %s", when, c.verb, c.id, msg)
	}
	return ips
}

// TestNamespaces fills a range with real namespaces, and takes back what is
// certainly gone only. It runs in a pid namespace of its own, so that every
// process there is can be seen.
func TestNamespaces(t *testing.T) {
	if os.Getenv("HOST_LOCAL_TEST_INSIDE") == "" {
		cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
			os.Args[0], "-test.run=^TestNamespaces$", "-test.v")
		cmd.Env = append(os.Environ(), "HOST_LOCAL_TEST_INSIDE=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("as root: %v\n%s", err, out)
		}
		return
	}
	sh(t, "mount -t tmpfs tmpfs /run; mkdir /run/netns")
	conf := config2(t.TempDir(), "10.1.0.0/29", "")
	in := func(verb, id string) call {
		return call{verb: verb, id: id, conf: conf, env: []string{"CNI_NETNS=/run/netns/" + id}}
	}
	for c := range 5 {
		id := fmt.Sprint("c", c)
		sh(t, "ip netns add "+id)
		good(t, "filling", in("ADD", id))
	}
	sh(t, "ip netns add new; ip -n c0 link add eth0 type veth peer name p")
	refused(t, "the attachment is alive", in("ADD", "c0"), cni.CodeExists)
	refused(t, "all are alive", in("ADD", "new"), cni.CodeTryAgain)
	refused(t, "all are alive", in("STATUS", ""), cni.CodeNotReady)

	// Without its path, a namespace lives on by a process in it, or by a
	// mount that only another mount namespace has.
	holder(t, "ip", "netns", "exec", "c1")
	holder(t, "unshare", "--mount", "--propagation", "private")
	sh(t, "umount /run/netns/c1 /run/netns/c2")
	refused(t, "paths are gone, namespaces are not", in("ADD", "new"), cni.CodeTryAgain)

	// Removing the mount point takes the mount out of every mount namespace.
	sh(t, "ip netns del c3")
	good(t, "c3 is gone", in("STATUS", ""))
	if ips := good(t, "c3 is gone", in("ADD", "new")); ips[0] != "10.1.0.5/29 via 10.1.0.1" {
		t.Errorf("got %v, want the address of c3", ips)
	}
}

// holder starts a process by a command that changes its namespaces first. It
// ends with the pid namespace.
func holder(t *testing.T, argv ...string) {
	t.Helper()
	cmd := exec.Command(argv[0], append(argv[1:], "sh", "-c", "echo ready; exec sleep 1000")...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
}

func refused(t *testing.T, when string, c call, want uint) {
	t.Helper()
	if ips, code, msg := c.run(t); code != want {
		t.Errorf("%s: %s %s: got %v, code %d %s, want code %d", when, c.verb, c.id, ips, code, msg, want)
	}
}

func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
