package fleet_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// The wall clock jumps by an hour, either way, at each turn (row 16).
func TestRun_aClockThatJumpsHasNoEffect(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	sources := []*script{{name: "one", count: 10}, {name: "two", count: 10}}
	var mu sync.Mutex
	jumps := 0
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		jumps++
		return time.Now().Add([]time.Duration{0, time.Hour, -time.Hour}[jumps%3])
	}
	var group sync.WaitGroup
	for _, source := range sources {
		opts := s.calm(source)
		opts.Name, opts.Acks = source.name, ackLog(t, filepath.Join(s.dir, source.name+".acks"))
		opts.Now = now
		group.Go(func() {
			if err := fleet.New(opts).Run(t.Context()); err != nil {
				t.Errorf("%s: %v", source.name, err)
			}
		})
	}
	group.Wait()
	if jumps < 20 {
		t.Errorf("the clock was asked %d times", jumps)
	}
	report := s.verify(filepath.Join(s.dir, "one.acks"), filepath.Join(s.dir, "two.acks"))
	if report.Turns != 20 {
		t.Errorf("%d turns", report.Turns)
	}
	s.wantOnce(sources...)
}
