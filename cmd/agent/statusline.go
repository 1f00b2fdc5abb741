package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// statusLine tells what takes so long, once it has taken two seconds: at a terminal in one
// line that is drawn again and again, elsewhere in a line every ten seconds.
type statusLine struct {
	out   io.Writer
	start time.Time

	mu    sync.Mutex
	what  string
	shown bool
}

func (l *statusLine) say(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what = what
}

func (l *statusLine) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.shown = false
	}
}

// tick tells until stop is called.
func (l *statusLine) tick(ctx context.Context) (stop func()) {
	first, every, show := 2*time.Second, 10*time.Second, l.print
	if isTerminal(l.out) {
		every, show = 200*time.Millisecond, l.draw
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		timer := time.NewTimer(first)
		defer timer.Stop()
		for {
			select {
			case now := <-timer.C:
				show(now)
				timer.Reset(every)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); group.Wait(); l.clear() }
}

func (l *statusLine) draw(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.what != "" {
		fmt.Fprintf(l.out, "\r  trying   %-12s %v\x1b[K", l.what, now.Sub(l.start).Round(100*time.Millisecond))
		l.shown = true
	}
}

func (l *statusLine) print(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.what != "" {
		fmt.Fprintf(l.out, "trying %s (%v)\n", l.what, now.Sub(l.start).Round(time.Second))
	}
}
