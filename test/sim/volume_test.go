package sim

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// TestPlainDescriptorsOnSeveralHostsLoseBytes: what Direct is for must be seen to matter.
func TestPlainDescriptorsOnSeveralHostsLoseBytes(t *testing.T) {
	broken = true
	defer func() { broken = false }()
	broke, lost := 0, 0
	for seed := range uint64(300) {
		out := Run(t, seed)
		if out.Err != nil {
			broke++
		}
		if out.Err != nil && strings.Contains(out.Err.Error(), "was acknowledged, and is not on disk any more") {
			lost++
		}
	}
	t.Logf("of 300 schedules %d broke a promise, and %d lost what was acknowledged", broke, lost)
	if broke < 50 || lost == 0 {
		t.Error("the simulated page caches do no harm")
	}
}

// TestAHostThatHangsHoldsUpOthersForASecond: the agents of the other hosts have all their
// turns acknowledged at most a second later than without it: here 0.6 s, so that a change that
// uses up most of the second is seen.
func TestAHostThatHangsHoldsUpOthersForASecond(t *testing.T) {
	var worst time.Duration
	for n := range uint64(100) {
		seed := 9 + 8*n
		with, without := untilOthersAreDone(t, seed, true), untilOthersAreDone(t, seed, false)
		if worst = max(worst, with-without); with-without > 600*time.Millisecond {
			t.Errorf("seed %d: %v with a host that hangs, %v without", seed, with, without)
		}
	}
	t.Logf("at most %v later", worst)
}

// untilOthersAreDone runs two agents on each of three hosts, where nothing else breaks and
// whoever can go on does so at once.
func untilOthersAreDone(t *testing.T, seed uint64, hang bool) (took time.Duration) {
	w := newWorld(newTape(seed), nil)
	w.themes, w.budget, w.mode, w.hosts = 0, 0, writer.Direct, nil
	for _, name := range []string{"host-1", "host-2", "host-3"} {
		w.hosts = append(w.hosts, &host{w: w, name: name, cache: &cache{}})
	}
	synctest.Test(t, func(t *testing.T) {
		w.cleared = make(chan struct{})
		w.strangers()
		for range 2 * len(w.hosts) {
			w.start(30)
		}
		for _, p := range w.procs {
			p.source.pauses = make([]time.Duration, len(p.source.batches))
		}
		began := time.Now()
		for turns := 3 + w.tape.pick(120); w.broken == nil && time.Since(began) < time.Minute; {
			w.promptly()
			synctest.Wait() // until nobody runs
			if hang && w.counts.Turns >= turns {
				w.hosts[0].hung = true
			}
			if !slices.ContainsFunc(w.procs, func(p *proc) bool { return p.host != w.hosts[0] && !p.source.done() }) {
				break
			}
		}
		took = time.Since(began)
		w.end()
	})
	if w.broken != nil {
		t.Fatal(w.broken)
	}
	return took
}

// promptly is round, where time passes only when nobody can go on.
func (w *world) promptly() {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = nil
	able, events := w.able(), w.zk.events()
	switch {
	case len(able) > 0:
		w.letGo(able[w.tape.pick(len(able))])
	case len(events) > 0:
		events[w.tape.pick(len(events))]()
	default:
		w.sleep(time.Millisecond)
	}
}
