package daemon

import (
	"log/slog"
	"sync"
	"time"
)

// Problems logs problems, each by what it is about: when it begins, when its text
// changes, and when it is over; not each time that it is met. One whose text never
// stays the same is logged once in a while.
type Problems struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	known map[string]problem
}

// A problem is what was logged last.
type problem struct {
	text string
	at   time.Time
}

// while is the least time between two lines about one thing, but for its first.
const while = time.Minute

// NewProblems returns a log without a problem.
func NewProblems(log *slog.Logger) *Problems {
	return &Problems{log: log, now: time.Now, known: map[string]problem{}}
}

// Report tells what is wrong with something now; nil: nothing.
func (p *Problems) Report(about string, err error, attrs ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.known[about]
	text := ""
	if err != nil {
		text = err.Error()
	}
	now := p.now()
	if text == was.text || known && now.Sub(was.at) < while {
		return
	}
	if err == nil {
		p.log.Info(about+": over", attrs...)
	} else {
		p.log.Warn(about, append(attrs, "error", text)...)
	}
	p.known[about] = problem{text, now}
}

// Forget is for what is no more: nothing is logged about it, and nothing is kept.
func (p *Problems) Forget(about string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, about)
}
