package main

import (
	"context"
	"sync"

	"github.com/turnstile-fleet/turnstile/test/bench-turns/tally"
)

// door lets the clients of a process in, a few at a time, and says when all are in: a server
// takes no more than fifty at once, and those who work and those who enter at the same time
// are in each other's way for long.
type door struct {
	tally *tally.Tally
	turns chan struct{} // one for each that may be at the door

	mu      sync.Mutex
	missing int
}

// mostEntering is how many clients of a process enter at the same time.
const mostEntering = 10

func newDoor(t *tally.Tally, clients int) *door {
	return &door{tally: t, turns: make(chan struct{}, mostEntering), missing: clients}
}

// knock waits until the caller may enter.
func (d *door) knock(ctx context.Context) error {
	select {
	case d.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// in says that the caller, who had knocked, is in.
func (d *door) in() {
	<-d.turns
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.missing--; d.missing == 0 {
		d.tally.Here()
	}
}

// wait waits until all begin.
func (d *door) wait(ctx context.Context) error {
	select {
	case <-d.tally.Going():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
