package watch

import (
	"errors"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// A Set watches directories that come and go, and tells which paths have changed.
type Set struct {
	fs    *fsnotify.Watcher
	woken chan struct{}

	mu      sync.Mutex
	dirs    map[string]bool
	changed map[string]bool // since the last Take; "": anything
}

// NewSet returns a set that watches nothing yet.
func NewSet() (*Set, error) {
	const room = 256 // events that may wait
	fs, err := fsnotify.NewBufferedWatcher(room)
	if err != nil {
		return nil, err
	}
	s := &Set{fs: fs, woken: make(chan struct{}, 1), dirs: map[string]bool{}, changed: map[string]bool{}}
	go func() {
		for e := range fs.Events {
			s.Note(e.Name)
		}
	}()
	go func() {
		for range fs.Errors { // events were lost
			s.Note("")
		}
	}()
	return s, nil
}

// Woken receives when there is something to take.
func (s *Set) Woken() <-chan struct{} { return s.woken }

// Note takes note of a change at a path; of no path: of anything.
func (s *Set) Note(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed[path] = true
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Take returns the paths at which something has changed since it was last called. There
// are none where that may be anywhere: events were lost, or are about a directory that
// is watched itself.
func (s *Set) Take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer clear(s.changed)
	for path := range s.changed {
		if path == "" || s.dirs[path] {
			return nil
		}
	}
	return slices.Collect(maps.Keys(s.changed))
}

// Keep watches these directories and no others. One that is not there is left out
// until Keep is called again, and so is one that was made anew.
func (s *Set) Keep(dirs ...string) error {
	want := map[string]bool{}
	for _, dir := range dirs {
		want[dir] = true
	}
	var errs []error
	for _, dir := range s.fs.WatchList() {
		if !want[dir] {
			errs = append(errs, s.fs.Remove(dir))
		}
	}
	for dir := range want {
		if err := s.fs.Add(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = want
	return errors.Join(errs...)
}

// Close ends the set.
func (s *Set) Close() { _ = s.fs.Close() }
