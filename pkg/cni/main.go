// Package cni is the border to the runtime: environment, versions, prevResult,
// IPAM delegation, error codes, and the six verbs of the CNI specification
// 1.1.0 (https://www.cni.dev/docs/spec/). A plugin brings either a plan (see
// Planned) or, as IPAM plugins do, verbs of its own.
//
// It holds nothing that knows a kernel object.
package cni

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
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
// result or error on stdout, and exits. SIGTERM and SIGINT cancel an ADD, which
// then undoes what it made. Without CNI_COMMAND it prints what it is on stderr,
// in the form that nerdctl reads ("CNI firewall plugin v1.7.1").
func Main(name string, v Verbs) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(ctx, stop, name, v))
}

func run(ctx context.Context, stop func(), name string, v Verbs) int {
	defer stop()
	m := &mainCall{ctx: ctx, version: version.Current()}
	if os.Getenv("CNI_NETNS_OVERRIDE") == "" {
		_ = os.Setenv("CNI_NETNS_OVERRIDE", "1") // see Request.OwnNetNS
	}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: m.verb(func(r *Request) error {
			res, err := v.Add(ctx, r)
			if err != nil {
				return err
			}
			return types.PrintResult(res, r.CNIVersion)
		}, (*Request).readPrev),
		Check:  m.verb(func(r *Request) error { return v.Check(ctx, r) }, (*Request).readPrev),
		Del:    m.verb(func(r *Request) error { return v.Del(context.WithoutCancel(ctx), r) }),
		GC:     m.verb(func(r *Request) error { return v.GC(ctx, r) }, (*Request).readValid),
		Status: m.verb(func(r *Request) error { return v.Status(ctx, r) }),
	}, version.All, fmt.Sprintf("CNI %s plugin %s", name, Version))
	if err == nil {
		return 0
	}
	var cause error = err
	if m.err != nil {
		cause = m.err
	}
	if err := printError(os.Stdout, m.version, cause); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// A mainCall is one run of a plugin. It keeps the verb's own error, as skel
// would flatten it to text.
type mainCall struct {
	ctx     context.Context
	version string
	err     error
}

func (m *mainCall) verb(f func(*Request) error, read ...func(*Request) error) func(*skel.CmdArgs) error {
	return func(a *skel.CmdArgs) error {
		r, err := newRequest(a)
		if err == nil {
			m.version = r.CNIVersion
			for _, read := range read {
				if err == nil {
					err = read(r)
				}
			}
		}
		if err == nil {
			err = f(r)
		}
		m.err = err
		return err
	}
}
