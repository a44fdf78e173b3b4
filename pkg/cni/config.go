package cni

import (
	"context"
	"encoding/json"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/dockyard-cni/dockyard/pkg/cni/conf"
	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// A Config is the configuration of a plugin that works by plan.
type Config interface {
	// Validate reports every problem of the decoded configuration.
	Validate(*Request, *conf.Report)

	// Plan is a pure function of the configuration and the attachment: it
	// reads nothing from the host.
	Plan(*Attachment) engine.Plan
}

// An Allotter is a Config that knows better than its author from which addresses
// the IPAM plugin is to take one: those that this host holds of a network on many
// hosts. Allot returns the "ipam" object to hand on, before IPAM's ADD and STATUS.
type Allotter interface {
	Allot(context.Context, *Request) (json.RawMessage, error)
}

// A Completer is a Config that adds to what the IPAM plugin returned (a gateway,
// a default route). Complete is a pure function, called on ADD before Plan; on
// CHECK prevResult has it all.
type Completer interface {
	Complete(*Attachment) error
}

// A Resolver is a Config some of whose defaults depend on the host (the MTU of
// the default route, the firewall backend). Resolve fills them in before Plan
// on ADD and CHECK. On CHECK a default that the host has since changed must not
// make the attachment wrong.
type Resolver interface {
	Resolve(context.Context, *Attachment) error
}

// A Warner is a Config that has something to say on STATUS that is no reason to
// be not ready: it may come to nothing, or concern what is beside the plugin.
type Warner interface {
	Warnings(context.Context) []string
}

// A Limiter is a Config that knows what existing containers suffer from; it is
// asked on STATUS, after what ADD would need.
type Limiter interface {
	Limited(context.Context) error
}

// A Linker is a Config whose plugin makes the interface. Links returns, after
// Apply, the interfaces to report; the last is the container's.
type Linker interface {
	Links(context.Context, *Attachment) ([]*current.Interface, error)
}

// A Reporter is a Config of a chained plugin that adds to what earlier plugins
// reported, such as a name server, or corrects it. Report is called on ADD after
// Apply, with a copy of the result.
type Reporter interface {
	Report(*Attachment, *current.Result)
}

// A FromResult is a Linker that, if FromResult is true, takes the addresses of
// the plugin before it in the list over, where there is one and no IPAM plugin
// is named.
type FromResult interface {
	FromResult() bool
}
