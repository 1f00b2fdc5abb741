package fleet

import (
	"context"
	"sync/atomic"
	"time"
)

// Tuning is what a running agent's source may be told anew.
type Tuning struct {
	Pace       time.Duration // the ticker's
	Lines      int           // the ticker's, a turn
	MaxRecords int           // of a turn whose records come from elsewhere
	Paused     bool          // nothing new is written
}

// Tuner is a Tuning that is changed while sources use it.
type Tuner struct{ now atomic.Pointer[tuned] }

type tuned struct {
	Tuning
	changed chan struct{} // closed when there is another
}

// NewTuner begins with t.
func NewTuner(t Tuning) *Tuner {
	tuner := &Tuner{}
	tuner.now.Store(&tuned{t, make(chan struct{})})
	return tuner
}

// Set gives another Tuning. Whoever waits by the one before is woken.
func (t *Tuner) Set(next Tuning) {
	before := t.now.Swap(&tuned{next, make(chan struct{})})
	close(before.changed)
}

// Get is the Tuning there is, and what is closed once there is another.
func (t *Tuner) Get() (Tuning, <-chan struct{}) {
	now := t.now.Load()
	return now.Tuning, now.changed
}

// Pausable is source, but holds still while the fleet is paused: a turn that its agent has
// queued for is still taken, and no other.
func Pausable(source Source, tuner *Tuner) Source { return &pausable{source, tuner} }

type pausable struct {
	Source
	tuner *Tuner
}

func (p *pausable) Wait(ctx context.Context) error {
	for {
		if err := p.unpaused(ctx); err != nil {
			return err
		}
		if err := p.Source.Wait(ctx); err != nil {
			return err
		}
		if now, _ := p.tuner.Get(); !now.Paused { // since
			return nil
		}
	}
}

func (p *pausable) unpaused(ctx context.Context) error {
	for {
		now, changed := p.tuner.Get()
		if !now.Paused {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *pausable) More() bool {
	now, _ := p.tuner.Get()
	return !now.Paused && p.Source.More()
}
