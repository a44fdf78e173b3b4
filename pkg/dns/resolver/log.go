package resolver

import (
	"log/slog"
	"sync"
	"time"
)

// A limitedLog lets a few lines a second through, and then says how many it did
// not: what containers cause must not fill the host's disk.
type limitedLog struct {
	log *slog.Logger

	mu      sync.Mutex
	since   time.Time
	said    int
	dropped int
}

const linesPerSecond = 5

func newLimitedLog(log *slog.Logger) *limitedLog { return &limitedLog{log: log} }

func (l *limitedLog) warn(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) >= time.Second {
		if l.dropped > 0 {
			l.log.Warn("more of such lines were left out", "lines", l.dropped)
		}
		l.since, l.said, l.dropped = now, 0, 0
	}
	if l.said++; l.said > linesPerSecond {
		l.dropped++
		return
	}
	l.log.Warn(msg, args...)
}
