// Package faultlog logs what is wrong with something that a daemon keeps trying:
// when it changes, not each time.
package faultlog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A Log is of one thing that may be wrong. It writes when the text of the problem
// changes and when the problem ends, and no more than ten times a minute, as a text
// may be another each time.
type Log struct {
	Log     *slog.Logger
	Wrong   string // the message while there is a problem
	Right   string // and when it has ended
	last    string
	written []time.Time
}

// Tell takes note of the problem that there is now, nil for none.
func (l *Log) Tell(problem error) {
	const most, period = 10, time.Minute
	text := ""
	if problem != nil {
		text = problem.Error()
	}
	if text == l.last {
		return
	}
	now := time.Now()
	if len(l.written) == most {
		if now.Sub(l.written[0]) < period {
			return // last stays, so that what lasts is written later
		}
		l.written = l.written[1:]
	}
	l.last, l.written = text, append(l.written, now)
	if problem == nil {
		l.Log.Info(l.Right)
		return
	}
	l.Log.Error(l.Wrong, "error", text)
}

// Some joins the first few of many problems, and counts the others; nil for none.
func Some(problems []error) error {
	const most = 5
	if more := len(problems) - most; more > 0 {
		problems = append(problems[:most:most], fmt.Errorf("and %d more", more))
	}
	return errors.Join(problems...)
}
