package overlay

import (
	"testing"
	"time"
)

// What comes alone is done at once; of what comes without end, what it takes is a
// part of the time; nothing is forgotten.
func TestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	p := pace{most: time.Second}
	if p.isDue(now) {
		t.Error("due without being asked")
	}
	p.ask(now)
	p.ask(after(time.Millisecond))
	if p.isDue(after(settle-1)) || !p.isDue(after(settle)) {
		t.Errorf("asked at %v, due at %v", now, p.due)
	}
	const took = 10 * time.Millisecond
	p.done(after(settle), after(settle+took))
	if !p.due.IsZero() {
		t.Error("due after it was done")
	}
	p.ask(after(settle + took))
	if want := after(settle + took + idler*took); p.due != want {
		t.Errorf("due at %v, want %v", p.due, want)
	}
	p.done(now, after(time.Hour))
	if p.ask(after(time.Hour)); p.due != after(time.Hour+p.most) {
		t.Errorf("due at %v, want %v", p.due, after(time.Hour+p.most))
	}
	if got := sooner(time.Time{}, sooner(after(2), after(1))); got != after(1) || !sooner(time.Time{}, time.Time{}).IsZero() {
		t.Errorf("found %v", got)
	}
}
