// Package watch tells that a directory has changed.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/fsnotify/fsnotify"
)

// Dir wakes when a file of the directory comes or goes, until ctx ends. Events
// that come together may count as one. A directory that is not there is made.
func Dir(ctx context.Context, dir string, log *slog.Logger) (<-chan struct{}, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
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
				if !e.Has(fsnotify.Create) && !e.Has(fsnotify.Remove) && !e.Has(fsnotify.Rename) {
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
