package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/dockyard-cni/dockyard/integration/testnet"
)

// TestScript runs the scenarios in testdata/script, each on a host of its own.
// What the commands below do is said in testdata/script/README.md.
func TestScript(t *testing.T) {
	bin := testnet.Bin(t)
	files := scenarios(t)
	if len(files) == 0 {
		return
	}
	testscript.Run(t, testscript.Params{
		Files:              files,
		RequireUniqueNames: true,
		Setup:              func(env *testscript.Env) error { return newScene(env, bin) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"netns": netnsCommand, "lan": lanCommand, "hosts": hostsCommand, "cni": cniCommand,
			"serve": serveCommand, "fetch": fetchCommand, "reach": reachCommand, "forge": forgeCommand,
			"spoof": spoofCommand, "heard": heardCommand,
			"snapshot": snapshotCommand, "same": sameCommand, "clean": cleanCommand,
		},
	})
}

// A scene is the host of one script, and what the script has made on it.
type scene struct {
	t          testing.TB
	h          *testnet.Host
	bin        string
	pristine   testnet.Snapshot
	snapshots  map[string]testnet.Snapshot
	namespaces []string
	apart      map[string]string // of a host, the directory that it has as /run/dockyard
	attached   []attached
	everAdded  []string
	records    map[string]*record
}

// An attached is what "cni add" has made and "clean" must take away.
type attached struct {
	net *testnet.Network
	on  string // a host, in the sense of "in"
	testnet.Attachment
}

type sceneKey struct{}

// newScene relies on testscript calling Setup on the goroutine that later
// starts the script's commands: they are all born on the host made here.
func newScene(env *testscript.Env, bin string) error {
	t := env.T().(testing.TB)
	s := &scene{t: t, h: testnet.New(t), bin: bin, snapshots: map[string]testnet.Snapshot{}, apart: map[string]string{}, records: map[string]*record{}}
	s.pristine = s.h.Snapshot()
	env.Values[sceneKey{}] = s
	env.Setenv("CNI_PATH", bin)
	env.Setenv("PATH", env.Getenv("PATH")+":"+bin) // last: ip's "bridge" goes before ours
	env.Setenv("EXAMPLES", filepath.Join(testnet.Root(), "conf-examples"))
	env.Setenv("TESTDATA", filepath.Join(testnet.Root(), "integration", "testdata"))
	env.Defer(func() {
		if !t.Failed() {
			if err := s.clean(); err != nil {
				t.Error("at the end of the script: ", err)
			}
		}
	})
	return nil
}

func of(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// outcome judges an error by whether the script wants one ("! command").
func outcome(ts *testscript.TestScript, neg bool, err error) {
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	if neg && err == nil {
		ts.Fatalf("unexpected success")
	}
	if !neg {
		ts.Check(err)
	}
}

func netnsCommand(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: netns [-d] NAME...")
	}
	if args[0] == "-d" {
		for _, name := range args[1:] {
			s.h.DeleteContainer(name)
			s.namespaces = slices.DeleteFunc(s.namespaces, func(n string) bool { return n == name })
		}
		return
	}
	for _, name := range args {
		s.container(name)
	}
}

func (s *scene) container(name string) {
	s.h.Container(name)
	s.h.Run("ip", "-n", name, "link", "set", "lo", "up")
	s.namespaces = append(s.namespaces, name)
}

// lanCommand makes another machine on a link to the host.
func lanCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: lan NAME [LINK]")
	}
	s, link := of(ts), args[0]+"0"
	if len(args) > 1 {
		link = args[1]
	}
	s.h.LAN(args[0], link)
	s.namespaces = append(s.namespaces, args[0])
}

// hostsCommand makes hosts on one link of their own, numbered in turn.
func hostsCommand(ts *testscript.TestScript, neg bool, args []string) {
	const lan = "switch"
	apart := len(args) > 0 && args[0] == "-apart"
	if apart {
		args = args[1:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: hosts [-apart] NAME NAME...")
	}
	s := of(ts)
	s.container(lan)
	s.h.Run("ip", "-n", lan, "link", "add", "br0", "type", "bridge")
	s.h.Run("ip", "-n", lan, "addr", "add", "192.0.2.1/24", "dev", "br0")
	s.h.Run("ip", "-n", lan, "link", "set", "br0", "up")
	for i, name := range args {
		s.container(name)
		if apart {
			s.apart[name] = ts.MkAbs("run-" + name)
			ts.Check(os.Mkdir(s.apart[name], 0o755))
		}
		for _, command := range []string{
			"ip -n " + name + " link add eth0 type veth peer name " + name + " netns " + lan,
			"ip -n " + lan + " link set dev " + name + " master br0 up",
			fmt.Sprintf("ip -n %s addr add 192.0.2.%d/24 dev eth0", name, 11+i),
			fmt.Sprintf("ip -n %s addr add 2001:db8::%d/64 dev eth0 nodad", name, 11+i),
			"ip -n " + name + " link set eth0 up",
		} {
			s.h.Run(strings.Fields(command)...)
		}
	}
}

// cniCommand runs a verb as a runtime does. After "add", $IP_c1 and $IP6_c1 are
// the addresses of container c1 ($IP_c1_eth1 those of another interface).
func cniCommand(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "usage: cni add|del|check|gc|status [-on HOST] [-cap FILE] [-args K=V;...] CONF [CONTAINER [IF]]..."
	if len(args) < 2 {
		ts.Fatalf(usage)
	}
	s, verb, args := of(ts), args[0], args[1:]
	var caps map[string]any
	var pairs [][2]string
	on := "host"
	for ; len(args) > 1 && strings.HasPrefix(args[0], "-"); args = args[2:] {
		switch args[0] {
		case "-on":
			on = args[1]
		case "-cap":
			ts.Check(json.Unmarshal([]byte(os.Expand(ts.ReadFile(args[1]), ts.Getenv)), &caps))
		case "-args":
			for pair := range strings.SplitSeq(args[1], ";") {
				k, v, _ := strings.Cut(pair, "=")
				pairs = append(pairs, [2]string{k, v})
			}
		}
	}
	n, err := s.network(ts, args[0])
	ts.Check(err)
	if dir := s.apart[on]; dir != "" {
		n = n.With(func(c *testnet.Call) { c.Wrap = apart(dir) })
	}
	if verb == "gc" || verb == "status" {
		s.in(on, func() {
			if err = n.Status(); verb == "gc" {
				err = n.GC(s.keep(args[1:])...)
			}
		})
		outcome(ts, neg, err)
		return
	}
	if len(args) < 2 {
		ts.Fatalf(usage)
	}
	a := s.h.Attachment(args[1])
	if len(args) > 2 {
		a.IfName = args[2]
	}
	a.Caps, a.Args = caps, pairs
	s.in(on, func() { err = s.verb(ts, verb, attached{n, on, a}) })
	outcome(ts, neg, err)
}

// apart is what runs a command where a directory is /run/dockyard.
func apart(dir string) []string {
	const script = `mkdir -p /run/dockyard && mount --bind "$0" /run/dockyard && exec "$@"`
	return []string{"unshare", "--mount", "--propagation", "slave", "sh", "-c", script, dir}
}

func (s *scene) network(ts *testscript.TestScript, name string) (*testnet.Network, error) {
	path := ts.MkAbs(name + ".conflist")
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join(testnet.Root(), "conf-examples", name+".conflist")
	}
	conflist, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	n, err := s.h.Network([]byte(os.Expand(string(conflist), ts.Getenv)), s.bin)
	if err == nil {
		n.Said = func(text string) { fmt.Fprint(ts.Stderr(), text) }
	}
	return n, err
}

func (s *scene) keep(containers []string) []testnet.Attachment {
	var out []testnet.Attachment
	for _, c := range containers {
		id, ifName, ok := strings.Cut(c, "/")
		a := s.h.Attachment(id)
		if ok {
			a.IfName = ifName
		}
		out = append(out, a)
	}
	return out
}

func (s *scene) verb(ts *testscript.TestScript, verb string, at attached) error {
	n, a := at.net, at.Attachment
	switch verb {
	case "add":
		res, err := n.Add(a)
		if err != nil {
			return err
		}
		s.attached = append(s.attached, at)
		s.everAdded = append(s.everAdded, a.ID)
		setAddresses(ts, a, res)
		return json.NewEncoder(ts.Stdout()).Encode(res)
	case "check":
		return n.Check(a)
	case "del":
		s.attached = slices.DeleteFunc(s.attached, func(x attached) bool {
			return x.net.Name == n.Name && x.ID == a.ID && x.IfName == a.IfName
		})
		return n.Del(a)
	}
	return fmt.Errorf("no verb %q", verb)
}

func setAddresses(ts *testscript.TestScript, a testnet.Attachment, res *current.Result) {
	suffix := "_" + a.ID
	if a.IfName != "eth0" {
		suffix += "_" + a.IfName
	}
	for _, ip := range res.IPs {
		if ip.Address.IP.To4() != nil {
			ts.Setenv("IP"+suffix, ip.Address.IP.String())
		} else {
			ts.Setenv("IP6"+suffix, ip.Address.IP.String())
		}
	}
}

// in runs f on the named namespace's thread; "host" is the host itself.
func (s *scene) in(ns string, f func()) {
	if ns == "host" {
		s.h.Do(f)
	} else {
		s.h.In(ns, f)
	}
}

func serveCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: serve tcp|udp NS ADDRESS:PORT TEXT")
	}
	s := of(ts)
	for network := range strings.SplitSeq(args[0], ",") {
		cmd := exec.Command("answer", network, args[2], args[3])
		stdout, err := cmd.StdoutPipe()
		ts.Check(err)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		s.in(args[1], func() { err = s.h.Start(cmd) })
		ts.Check(err)
		said := bufio.NewReader(stdout)
		if line, _ := said.ReadString('\n'); line != "ready\n" {
			ts.Fatalf("serve %s: %s", args, stderr.String())
		}
		if s.records[args[1]] == nil {
			s.records[args[1]] = &record{}
		}
		go s.records[args[1]].keep(said)
	}
}

func (s *scene) ask(ns, network, address string, within time.Duration, more ...string) (string, error) {
	var out []byte
	var err error
	s.in(ns, func() {
		out, err = exec.Command("ask", slices.Concat([]string{"-within", within.String()}, more, []string{network, address})...).CombinedOutput()
	})
	return strings.TrimSpace(string(out)), err
}

// denial is how long tests look at what must not work: a refusal or a drop. An
// emulated machine is slower by ten times.
func denial() time.Duration {
	if testnet.Emulated() {
		return 3 * time.Second
	}
	return 600 * time.Millisecond
}

func fetchCommand(ts *testscript.TestScript, neg bool, args []string) {
	var from []string
	if len(args) > 1 && args[0] == "-from" {
		from, args = args[:2], args[2:]
	}
	if len(args) != 3 {
		ts.Fatalf("usage: fetch [-from PORT] NS tcp|udp ADDRESS:PORT")
	}
	within := testnet.Patience
	if neg {
		within = denial()
	}
	answer, err := of(ts).ask(args[0], args[1], args[2], within, from...)
	fmt.Fprintln(ts.Stdout(), answer)
	outcome(ts, neg, err)
}

// reachCommand tries every line of a table at the same time:
//
//	FROM  tcp[,udp]  ADDRESS:PORT  ANSWER | blocked
func reachCommand(ts *testscript.TestScript, neg bool, args []string) {
	var from []string
	if len(args) > 1 && args[0] == "-from" {
		from, args = args[:2], args[2:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: reach [-from PORT] FILE")
	}
	s := of(ts)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var wrong []string
	for line := range strings.Lines(os.Expand(ts.ReadFile(args[0]), ts.Getenv)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if len(words) < 4 {
			ts.Fatalf("reach: %q: want FROM PROTO ADDRESS:PORT ANSWER", line)
		}
		for network := range strings.SplitSeq(words[1], ",") {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := s.reach(words[0], network, words[2], strings.Join(words[3:], " "), from); err != nil {
					mu.Lock()
					defer mu.Unlock()
					wrong = append(wrong, fmt.Sprintf("%s %s %s: %v", words[0], network, words[2], err))
				}
			}()
		}
	}
	wg.Wait()
	if slices.Sort(wrong); wrong != nil {
		ts.Fatalf("%s:\n%s", args[0], strings.Join(wrong, "\n"))
	}
}

func (s *scene) reach(from, network, address, want string, port []string) error {
	within := testnet.Patience
	if want == "blocked" {
		within = denial()
	}
	got, err := s.ask(from, network, address, within, port...)
	switch {
	case want == "blocked" && err == nil:
		return fmt.Errorf("answered %q, want blocked", got)
	case want == "blocked":
		return nil
	case err != nil:
		return fmt.Errorf("%s, want %q", got, want)
	case !sameAnswer(got, want):
		return fmt.Errorf("answered %q, want %q", got, want)
	}
	return nil
}

// sameAnswer compares TEXT ADDRESS, where either may be "*".
func sameAnswer(got, want string) bool {
	return slices.EqualFunc(strings.Fields(got), strings.Fields(want), func(g, w string) bool {
		return w == "*" || g == w || sameAddr(g, w)
	})
}

func sameAddr(a, b string) bool {
	x, errX := netip.ParseAddr(a)
	y, errY := netip.ParseAddr(b)
	return errX == nil && errY == nil && x.Unmap() == y.Unmap()
}

func (s *scene) look() testnet.Snapshot {
	all := s.h.Snapshot()
	for _, ns := range s.namespaces {
		for object, attributes := range s.h.SnapshotOf(ns) {
			all[inside(ns)+object] = attributes
		}
	}
	return all
}

func snapshotCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: snapshot NAME")
	}
	of(ts).snapshots[args[0]] = of(ts).look()
}

func sameCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: same NAME")
	}
	s := of(ts)
	outcome(ts, neg, testnet.Equal(s.snapshots[args[0]], s.look()))
}

func cleanCommand(ts *testscript.TestScript, neg bool, _ []string) {
	outcome(ts, neg, of(ts).clean())
}

// clean detaches all that is attached, takes away what the script's own commands
// have made, and looks for leaks.
func (s *scene) clean() error {
	for _, a := range slices.Backward(s.attached) {
		var err error
		s.in(a.on, func() { err = a.net.Del(a.Attachment) })
		if err != nil {
			return fmt.Errorf("DEL of %s %s: %w", a.ID, a.IfName, err)
		}
	}
	s.attached = nil
	s.h.Stop() // a namespace lives as long as a process in it
	for _, ns := range s.namespaces {
		s.h.DeleteContainer(ns)
	}
	s.namespaces = nil
	return testnet.Until(func() error { // the kernel ends a namespace in its own time
		return testnet.SharedOnly(s.pristine, s.h.Snapshot(), s.everAdded...)
	})
}
