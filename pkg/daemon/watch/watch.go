// Package watch tells that a directory, or a file, has changed.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// comesOrGoes are the events of a directory's entries; touched is that of one whose
// owner wants to be seen (see chmod(2)).
const (
	comesOrGoes = fsnotify.Create | fsnotify.Remove | fsnotify.Rename
	touched     = fsnotify.Chmod
)

// Dir wakes when a file of the directory comes or goes or is touched, until ctx ends. Events
// that come together may count as one. A directory that is not there is made.
func Dir(ctx context.Context, dir string, log *slog.Logger) (<-chan struct{}, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return watch(ctx, dir, log, func(e fsnotify.Event) bool { return e.Op&(comesOrGoes|touched) != 0 })
}

// File wakes when a file is written to, or another takes its place: also when a
// symbolic link beside it does, by way of which the path leads to another file. It
// need not be there yet, but its directory must.
func File(ctx context.Context, path string, log *slog.Logger) (<-chan struct{}, error) {
	return watch(ctx, filepath.Dir(path), log, func(e fsnotify.Event) bool {
		return e.Op&comesOrGoes != 0 || e.Has(fsnotify.Write) && filepath.Base(e.Name) == filepath.Base(path)
	})
}

func watch(ctx context.Context, dir string, log *slog.Logger, concerns func(fsnotify.Event) bool) (<-chan struct{}, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(dir); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	out := make(chan struct{}, 1)
	go func() {
		defer func() { _ = w.Close() }()
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-w.Errors: // an overflow, after which the next look finds all
				log.Warn("watch", "directory", dir, "error", err)
			case e := <-w.Events:
				if !concerns(e) {
					continue
				}
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, nil
}
