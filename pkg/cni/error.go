package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/dockyard-cni/dockyard/pkg/daemon/filelock"
	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/kernel/netns"
)

// The error codes that a plugin of this suite answers with. 1 to 99 are those
// of the CNI specification, section "Error".
const (
	CodeEnvironment = types.ErrInvalidEnvironmentVariables // 4: a CNI_ variable is missing or malformed
	CodeIO          = types.ErrIOFailure                   // 5
	CodeDecode      = types.ErrDecodingFailure             // 6: stdin is not a JSON object
	CodeConfig      = types.ErrInvalidNetworkConfig        // 7: a key's value is not allowed
	CodeNetNS       = types.ErrInvalidNetNS                // 8: CNI_NETNS is missing, no namespace, or our own
	CodeTryAgain    = types.ErrTryAgainLater               // 11: no address is free just now, or another process holds a lock
	CodeNotReady    = 50                                   // STATUS: ADD would fail
	CodeLimited     = 51                                   // STATUS: ADD would fail, and existing containers suffer
	CodeExists      = 100                                  // ADD: this attachment is there already; DEL it first
	CodeHeld        = 101                                  // ADD: another attachment or host holds the address or host port
	CodeDiffers     = 102                                  // CHECK: the host is not as ADD left it
	CodeRequired    = 103                                  // ADD: what the plan requires of the host is not there
	CodeInternal    = types.ErrInternal                    // 999: everything else
)

// Errorf returns an error that the runtime sees with this code.
func Errorf(code uint, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &coded{code, err}
}

type coded struct {
	code uint
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// codeOf finds the code of an error: that of the innermost plugin that gave
// one, or what its cause calls for.
func codeOf(err error) uint {
	var own *coded
	var delegate *types.Error
	var held *engine.HeldError
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &delegate) && delegate.Code != 0:
		return delegate.Code
	case errors.As(err, &held), errors.Is(err, engine.ErrDuplicate):
		return CodeHeld
	case errors.Is(err, filelock.ErrBusy):
		return CodeTryAgain
	case errors.Is(err, engine.ErrExists):
		return CodeExists
	case errors.Is(err, engine.ErrRequired):
		return CodeRequired
	case errors.Is(err, netns.ErrNotNamespace):
		return CodeNetNS
	}
	return CodeInternal
}

// printError writes err as the specification wants it: with cniVersion, which
// types.Error lacks.
func printError(w io.Writer, version string, err error) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false) // people read it
	return e.Encode(struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
	}{version, codeOf(err), err.Error()})
}
