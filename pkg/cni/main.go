// Package cni is the border to the runtime: environment, versions, prevResult,
// IPAM delegation, error codes, and the six verbs of the CNI specification
// 1.1.0 (https://www.cni.dev/docs/spec/). A plugin brings either a plan (see
// Planned) or, as IPAM plugins do, verbs of its own.
//
// It holds nothing that knows a kernel object.
package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// Verbs is what a plugin does. Add returns the result to print.
type Verbs interface {
	Add(context.Context, *Request) (*current.Result, error)
	Check(context.Context, *Request) error
	Del(context.Context, *Request) error
	GC(context.Context, *Request) error
	Status(context.Context, *Request) error
}

// Version is set at link time by build_linux.sh.
var Version = "v0.0.0-dev"

// Main runs the plugin of that name for the verb in CNI_COMMAND, prints its
// result or error on stdout, and exits. SIGTERM and SIGINT cancel a verb that waits
// for something; ADD then undoes what it made. A second signal ends that, too. Without
// CNI_COMMAND it prints what it is on stderr, in the form that nerdctl and Nomad read
// ("CNI firewall plugin v1.7.1").
func Main(name string, v Verbs) {
	if p, ok := v.(planner); ok && !p.light() {
		oneCPU()
	}
	os.Exit(run(name, v))
}

// oneCPU: a plugin does one thing after another. Left to itself, Go's runtime
// starts threads for all CPUs, which look for work while the kernel is asked, and cost
// a twentieth of bridge's ADD.
func oneCPU() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

func run(name string, v Verbs) int {
	m := &mainCall{plugin: name, version: version.Current()}
	_, m.undoes = v.(planner)
	_ = os.Setenv(overrideName, "1") // see Request.OwnNetNS
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: m.verb(func(ctx context.Context, r *Request) error {
			res, err := v.Add(ctx, r)
			if err != nil {
				return err
			}
			err = printResult(ctx, v, r, res)
			for _, f := range r.last {
				f()
			}
			return err
		}, (*Request).judgeArgs, (*Request).readPrev),
		Check:  m.verb(v.Check, (*Request).judgeArgs, (*Request).readPrev),
		Del:    m.verb(v.Del),
		GC:     m.verb(v.GC, (*Request).readValid),
		Status: m.verb(v.Status),
	}, version.All, about(name))
	if err == nil {
		return 0
	}
	cause := m.err
	if cause == nil {
		cause = clearer(err)
	}
	if err := printError(os.Stdout, m.version, cause); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// reference is the version of the reference plugins whose behaviour these have.
// Runtimes that ask for a plugin by number mean theirs: nerdctl wants firewall v1.7.1,
// Nomad each plugin 0.4.0 at least.
const reference = "v1.10.0"

// about is what a plugin says of itself, with our own version as semantic versioning's
// build metadata: "CNI bridge plugin v1.10.0+dockyard.0.1.0".
func about(name string) string {
	return fmt.Sprintf("CNI %s plugin %s+dockyard.%s", name, reference, strings.ReplaceAll(strings.TrimPrefix(Version, "v"), "+", "."))
}

// printResult writes the result of ADD in the version of the configuration. One
// that the version has no form for (0.2.0 knows no attachment without address),
// or that nobody takes, is as if ADD had failed: nothing may be left of it.
func printResult(ctx context.Context, v Verbs, r *Request, res *current.Result) error {
	out, err := res.GetAsVersion(r.CNIVersion)
	if err != nil {
		err = Errorf(CodeConfig, "cniVersion: found %q, which cannot express the result (%w), want \"0.3.0\" or later", r.CNIVersion, err)
	} else {
		err = out.Print()
	}
	if err != nil {
		undo, cancel := engine.Undo(ctx)
		defer cancel()
		return errors.Join(err, v.Del(undo, r))
	}
	return nil
}

// quick is how long a plugin works that waits for nothing. To listen to signals takes
// three threads, and 0.1 ms, as they hand over to one another for each signal that is
// asked for. One that comes before ends the process as SIGKILL does.
const quick = 20 * time.Millisecond

func cancelOnSignal(cancel func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
	signal.Stop(c)
	cancel()
}

// A mainCall is one run of a plugin. It keeps the verb's own error, as skel
// would flatten it to text.
type mainCall struct {
	plugin  string
	version string
	undoes  bool
	err     error
}

// A planner works by plan, and undoes what it made when it is told to stop. Other
// plugins, for addresses, have done all or nothing by then, and their caller gives
// back what they gave; listening to signals would cost them three threads.
type planner interface {
	Load(*Request) (Config, error)
	light() bool
}

// verb runs f under a context that a signal cancels; VERSION does without.
func (m *mainCall) verb(f func(context.Context, *Request) error, read ...func(*Request) error) func(*skel.CmdArgs) error {
	return func(a *skel.CmdArgs) error {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		if m.undoes {
			defer time.AfterFunc(quick, func() { cancelOnSignal(stop) }).Stop()
		}
		r, err := newRequest(a)
		if err == nil {
			m.version, r.plugin = r.CNIVersion, m.plugin
			ctx = engine.WithWarn(ctx, func(text string) { r.Warn(text) })
			for _, read := range read {
				if err == nil {
					err = read(r)
				}
			}
		}
		if err == nil {
			err = f(ctx, r)
		}
		m.err = err
		return err
	}
}
