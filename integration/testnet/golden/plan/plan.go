// Package plan keeps the plans of a plugin as golden files: what a configuration
// makes the plugin do, as the commands that a person would type. It needs no
// privilege, as a plan is a pure function.
package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/integration/testnet/golden"
	"github.com/dockyard-cni/dockyard/pkg/cni"
)

// Test runs the cases in testdata/plan of a plugin. A case has
//
//	conf.json     what the plugin gets on stdin
//	ipam.json     what the IPAM plugin answers, if there is one
//	env           variables other than the usual ones, if any
//	plan.txt      the plan
//	warnings.txt  what is said on stderr, if anything
func Test(t *testing.T, p cni.Planned) {
	golden.Each(t, "testdata/plan/*.txtar", func(t *testing.T, a *golden.Archive) {
		t.Helper()
		conf, ok := a.Input("conf.json")
		if !ok {
			t.Fatal("no conf.json")
		}
		env, _ := a.Input("env")
		args := Args(conf, strings.Fields(env)...)
		answer, _ := a.Input("ipam.json")
		plan, report, err := p.Preview(args, result(t, answer))
		if err != nil {
			t.Fatal(err)
		}
		a.Want(t, "plan.txt", plan.String())
		a.Want(t, "warnings.txt", strings.Join(report.Warnings(), "\n"))
	})
}

// Args is a call for interface eth0 of container c1, but for what env says.
func Args(conf string, env ...string) *skel.CmdArgs {
	a := &skel.CmdArgs{ContainerID: "c1", Netns: "/run/netns/c1", IfName: "eth0", StdinData: []byte(conf)}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		switch name {
		case "CNI_CONTAINERID":
			a.ContainerID, a.Netns = value, "/run/netns/"+value
		case "CNI_IFNAME":
			a.IfName = value
		case "CNI_ARGS":
			a.Args = value
		}
	}
	return a
}

func result(t *testing.T, answer string) *current.Result {
	t.Helper()
	res := &current.Result{}
	if answer == "" {
		return res
	}
	if err := json.Unmarshal([]byte(answer), res); err != nil {
		t.Fatal("ipam.json: ", err)
	}
	return res
}

// Fuzz is the fuzz target of a plugin that makes an interface: whatever a user
// writes and an IPAM plugin answers, there is a plan or an error; neither reads
// the host, nothing panics, and the same gives the same.
func Fuzz(f *testing.F, p cni.Planned) {
	f.Helper()
	golden.Seed(f, "testdata/plan/*.txtar", "conf.json", "ipam.json")
	golden.SeedBroken(f, "testdata/broken.txtar", []byte(nil))
	f.Fuzz(func(t *testing.T, conf, answer []byte) {
		res := &current.Result{}
		if len(answer) > 0 && json.Unmarshal(answer, res) != nil {
			return
		}
		Twice(t, p, conf, res)
	})
}

// FuzzChained is the fuzz target of a chained plugin: whatever a user and a
// runtime write, there is a plan or an error.
func FuzzChained(f *testing.F, p cni.Planned) {
	f.Helper()
	golden.Seed(f, "testdata/plan/*.txtar", "conf.json")
	golden.SeedBroken(f, "testdata/broken.txtar")
	f.Fuzz(func(t *testing.T, conf []byte) { Twice(t, p, conf, nil) })
}

// Twice plans a configuration twice, for fuzz targets: the outcome must be the
// same, whatever it is.
func Twice(t *testing.T, p cni.Planned, conf []byte, ipam *current.Result) {
	t.Helper()
	answer, err := json.Marshal(ipam)
	if err != nil {
		return // an address that is none
	}
	text := func() string {
		res := &current.Result{} // a plan may complete what it is given
		if err := json.Unmarshal(answer, res); err != nil {
			return err.Error()
		}
		plan, report, err := p.Preview(Args(string(conf)), res)
		return fmt.Sprint(plan, report.Problems(), report.Warnings(), err)
	}
	if a, b := text(), text(); a != b {
		t.Errorf("%s\nplanned twice:\n%s\n%s", conf, a, b)
	}
}
