package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dockyard-cni/dockyard/pkg/engine"
	"github.com/dockyard-cni/dockyard/pkg/engine/owner"
)

// chainedDir has a directory for each chained plugin, with a symbolic link for each
// attachment that the plugin has made something for. Its name is the mark, its target
// the interface (netns.NS.Identity): so the second of two plugins in one list knows
// what the first has made from what is left of a dead attachment.
const chainedDir = "/run/dockyard/chained"

func (r *Request) record() string {
	return filepath.Join(chainedDir, r.plugin, strings.ReplaceAll(string(r.Mark()), "/", ":"))
}

// recorded returns what tells the interface from all others, and what is on record
// for the attachment, "" where nothing is.
func (r *Request) recorded() (identity, found string, err error) {
	if identity, err = r.NetNS.Identity(r.Owner.IfName); err != nil {
		return "", "", Errorf(CodeNetNS, "CNI_NETNS: %w", err)
	}
	if found, err = os.Readlink(r.record()); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return identity, found, err
}

// applyOwn makes what a chained plugin owns, beside what the same plugin has made
// earlier in the list, or in place of what a dead attachment has left. shared is what
// it has made that is no attachment's.
func (p Planned) applyOwn(ctx context.Context, r *Request, shared, own engine.Plan) error {
	identity, found, err := r.recorded()
	if err != nil {
		return err
	}
	if found == identity {
		return engine.Apply(ctx, own)
	}
	if err = engine.Release(ctx, p.Scopes(r), r.Mark(), r.Warn); err == nil && found != "" {
		err = r.forget()
	}
	if err != nil || len(own) == 0 && len(shared.Works()) == 0 {
		return err
	}
	if err = r.remember(identity); err == nil {
		err = engine.Apply(ctx, own)
	}
	if err != nil {
		return errors.Join(err, r.forget())
	}
	return nil
}

func (r *Request) remember(identity string) error {
	err := os.Symlink(identity, r.record())
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(r.record()), 0o755); err == nil {
			err = os.Symlink(identity, r.record())
		}
	}
	return err
}

// forget removes the record of the attachment.
func (r *Request) forget() error {
	if err := os.Remove(r.record()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forgetInvalid removes the records of attachments that GC must not keep.
func (r *Request) forgetInvalid() error {
	dir := filepath.Join(chainedDir, r.plugin)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		m := owner.Mark(strings.ReplaceAll(e.Name(), ":", "/"))
		if r.Keep(m) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("record of %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}
