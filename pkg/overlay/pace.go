package overlay

import "time"

// A pace says when to do what is asked for again and again: soon after it is
// asked, so that what comes together counts as one, and so long after the last
// time that doing it takes a part of all time only, however much is asked.
type pace struct {
	most time.Duration // that is waited because of the last time
	due  time.Time     // zero: it is not asked for
	free time.Time     // not before
}

const (
	settle = 5 * time.Millisecond // for events that come together
	idler  = 4                    // times what doing it took nothing is done
)

func (p *pace) ask(now time.Time) {
	if p.due.IsZero() {
		p.due = now.Add(settle)
		if p.due.Before(p.free) {
			p.due = p.free
		}
	}
}

func (p *pace) isDue(now time.Time) bool { return !p.due.IsZero() && !p.due.After(now) }

func (p *pace) done(began, now time.Time) {
	p.due, p.free = time.Time{}, now.Add(min(p.most, idler*now.Sub(began)))
}

// sooner is the first of two times that are not zero.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
