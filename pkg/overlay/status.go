package overlay

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/daemon/control"
)

// Status asks the daemons whose sockets are in a directory, DefaultStateDir unless a
// network has another, what they know, by network. A daemon that does not answer is
// in the error.
func Status(dir string) (map[string]State, error) {
	sockets, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err == nil && sockets == nil {
		err = fmt.Errorf("%s: no daemon keeps a network there", dir)
	}
	states, errs := map[string]State{}, []error{err}
	for _, path := range sockets {
		s, err := stateAt(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: the daemon does not answer: %w", path, err))
			continue
		}
		states[strings.TrimSuffix(filepath.Base(path), ".sock")] = s
	}
	return states, errors.Join(errs...)
}

func stateAt(socket string) (State, error) {
	call, err := control.Begin(socket, "{}", askFor)
	if err != nil {
		return State{}, err
	}
	defer call.End()
	said, err := listen(call)
	return said.State, err
}
