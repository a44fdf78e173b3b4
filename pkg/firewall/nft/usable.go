package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/dockyard-cni/dockyard/pkg/engine"
)

// Usable returns a requirement: that the kernel has nf_tables and lets this
// process ask it, and that the table there, if any, is not that of a newer version.
func Usable() engine.Resource { return usable{} }

// Missing reports whether the kernel has no nf_tables. Any other reason for not
// being able to ask it is an error.
func Missing(ctx context.Context) (bool, error) {
	_, err := query(ctx, unix.NFT_MSG_GETGEN, &nftables.Table{}, nil)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, errMissing) {
		return true, nil
	}
	return false, err
}

type usable struct{}

func (usable) Key() string    { return "nf_tables" }
func (usable) String() string { return "modprobe nf_tables" }

// Observe asks for the ruleset's generation, the cheapest question there is.
func (usable) Observe(ctx context.Context) (engine.Diff, error) {
	if _, err := query(ctx, unix.NFT_MSG_GETGEN, &nftables.Table{}, nil); err != nil {
		return engine.Diff(fmt.Sprintf("not usable: %v", err)), nil
	}
	if _, err := presentFormat(ctx); err != nil {
		return engine.Diff(err.Error()), nil
	}
	return engine.Same, nil
}

func (usable) Apply(context.Context) error  { return nil }
func (usable) Remove(context.Context) error { return nil }
