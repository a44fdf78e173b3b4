package golden_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dockyard-cni/dockyard/integration/testnet"
	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
)

func TestMain(m *testing.M) { os.Exit(testnet.M{M: m}.Run()) }

// The least number of broken configurations that are kept.
const leastCases = 60

// Each plugin's testdata/broken.txtar is a catalogue of what users get wrong,
// with what the built plugin answers. A case is
//
//	$ VERB [VARIABLE=value ...]     beside the usual environment; $BIN is expanded
//	configuration
//	> what stands on stdout
//	! what stands on stderr
//	DEL> what a DEL with the same says, if it fails
//
// Whatever is wrong, nothing on the host changes, and DEL succeeds: it fails
// only where not even the attachment can be known.
func TestBroken(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(testnet.Root(), "plugins/*/*/testdata/broken.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range paths {
		dir := filepath.Dir(filepath.Dir(path))
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c := newCatalogue(t, filepath.Base(dir))
			before := c.look()
			a := golden.Open(t, path)
			for _, f := range slices.Clone(a.Files) {
				cases++
				a.Want(t, f.Name, c.answer(f.Name, string(f.Data)))
			}
			if err := testnet.Equal(before, c.look()); err != nil {
				t.Error(err)
			}
		})
	}
	if cases < leastCases {
		t.Errorf("%d cases, want at least %d", cases, leastCases)
	}
}

// A catalogue runs the cases of one plugin on a host with one container.
type catalogue struct {
	*testing.T
	h           *testnet.Host
	bin, plugin string
}

func newCatalogue(t *testing.T, plugin string) catalogue {
	t.Helper()
	c := catalogue{t, testnet.New(t), testnet.Bin(t), plugin}
	c.h.Container("c1")
	// A host in use has the directory of the plugin's records, which stays.
	if err := os.MkdirAll("/run/dockyard/chained/"+plugin, 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c catalogue) look() testnet.Snapshot {
	s := c.h.Snapshot()
	for object, attributes := range c.h.SnapshotOf("c1") {
		s["in c1: "+object] = attributes
	}
	return s
}

// answer runs a case and returns it with what came of it.
func (c catalogue) answer(name, text string) string {
	call, _, _ := strings.Cut(text, "\n> ")
	call = strings.TrimRight(call, "\n")
	head, conf, _ := strings.Cut(call, "\n")
	words := strings.Fields(head)
	if len(words) < 2 || words[0] != "$" {
		c.Fatalf("%s: does not begin with a verb: %q", name, head)
	}
	verb, env := words[1], words[2:]
	stdout, stderr, failed := c.run(verb, env, conf)
	if !failed {
		c.Errorf("%s: %s succeeds", name, verb)
	}
	out := call + "\n> " + stdout + "\n"
	for line := range strings.Lines(stderr) {
		out += "! " + line
	}
	if verb == "ADD" || verb == "CHECK" {
		out += c.del(name, env, conf)
	}
	return out
}

// unknowable are the codes of a DEL that cannot know the attachment: bad
// variables, no JSON, no valid network name, a version of another protocol.
var unknowable = []float64{1, 4, 6, 7}

func (c catalogue) del(name string, env []string, conf string) string {
	stdout, _, failed := c.run("DEL", env, conf)
	if !failed && stdout == "" {
		return ""
	}
	var said struct{ Code float64 }
	err := json.Unmarshal([]byte(stdout), &said)
	if err != nil || !slices.Contains(unknowable, said.Code) || said.Code == 7 && !strings.Contains(stdout, `"msg":"name: `) {
		c.Errorf("%s: DEL: %s", name, stdout)
	}
	return "DEL> " + stdout + "\n"
}

func (c catalogue) run(verb string, env []string, conf string) (stdout, stderr string, failed bool) {
	var out, errs bytes.Buffer
	cmd := exec.Command(filepath.Join(c.bin, c.plugin))
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.env(verb, env), strings.NewReader(conf), &out, &errs
	err := cmd.Run()
	return c.settle(out.String()), c.settle(errs.String()), err != nil
}

// env is the usual environment of a runtime but for what a case says; a variable
// without a value is not set.
func (c catalogue) env(verb string, changes []string) []string {
	usual := map[string]string{
		"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": c.h.Path("c1"), "CNI_IFNAME": "eth0", "CNI_PATH": c.bin,
	}
	for _, e := range changes {
		k, v, _ := strings.Cut(e, "=")
		usual[k] = strings.ReplaceAll(v, "$BIN", c.bin)
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	for _, k := range slices.Sorted(maps.Keys(usual)) {
		if usual[k] != "" {
			env = append(env, fmt.Sprintf("%s=%s", k, usual[k]))
		}
	}
	return env
}

var times = regexp.MustCompile(`(?m)^time=\S+ level=`)

// kinds is what a kernel that lacks some adds to what is wrong.
var kinds = regexp.MustCompile(`(\\n)?modprobe rtnl-link-[a-z]+: the kernel has no links of type .*? or start a kernel that has it`)

// settle takes out what differs from run to run, and from kernel to kernel.
func (c catalogue) settle(s string) string {
	s = kinds.ReplaceAllString(times.ReplaceAllString(s, ""), "")
	return strings.TrimSpace(strings.ReplaceAll(s, c.bin, "$BIN"))
}
