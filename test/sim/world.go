package sim

import (
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// The bounds of a schedule.
const (
	eventful = 200               // scheduling rounds in which things may break
	longest  = 40000             // steps after which a schedule is not getting anywhere
	atMost   = 45 * time.Second  // in which, once nothing breaks, all must have come to its end
	refusing = 250 * time.Second // the same when agents may refuse, which they do late
)

// world is one schedule.
type world struct {
	tape   *tape
	story  *story
	names  names
	counts Counts
	broken error // the first promise that was broken

	disk  *disk
	hosts []*host
	zk    *zookeeper
	mode  writer.Mode

	mu      sync.Mutex // goroutines that a timer woke may wait at the same time
	procs   []*proc
	looks   map[*look]bool
	waiting []*step
	spare   []chan struct{} // of steps that went on: made once, used many times
	running *thread         // whose turn it is to take steps

	preempt int  // a running thread is made to wait once in so many steps
	wear    int  // a request or a disk operation fails once in so many
	budget  int  // faults that may still fire
	themes  int  // which kinds of faults, as bits
	calm    bool // nothing breaks any more: all must come to a good end
	since   time.Time
	calmly  int
	cleared chan struct{} // closed when, in the calm, all is at its end but the last agent

	truth
}

func newWorld(decisions *tape, told *story) *world {
	w := &world{tape: decisions, story: told, looks: map[*look]bool{}}
	w.disk = newDisk(w)
	w.zk = newZookeeper(w)
	w.preempt = []int{8, 2, 4, 16, 50, 200}[w.tape.pick(6)]
	w.wear = []int{100, 20, 40, 300}[w.tape.pick(4)]
	w.budget = []int{1, 1, 2, 2, 3, 4, 6, 10}[w.tape.pick(8)]
	w.chooseVolume()
	w.themes = w.chooseThemes()
	if w.themed(rollBack) { // what it breaks shows only when something else goes wrong too
		w.budget += 2
	}
	return w
}

// play runs the schedule from its beginning to a good end, or to a broken promise.
// It runs in a bubble of its own, and leaves no goroutine in it.
func (w *world) play() {
	w.cleared = make(chan struct{})
	w.strangers()
	if w.tape.chance(5) {
		w.fillInbox(2 + w.tape.pick(4))
	}
	for range 2 + w.tape.pick(2) {
		w.start(1 + w.tape.pick(4))
	}
	for range eventful {
		if !w.round() {
			break
		}
	}
	w.settleDown()
	for w.round() {
	}
	w.end()
}

// round lets one thing happen. It returns false when everybody has ended or a promise
// is broken.
func (w *world) round() bool {
	synctest.Wait() // until all goroutines wait for something
	w.mu.Lock()     // for those that a timer wakes
	defer w.mu.Unlock()
	w.running = nil
	w.zk.expireOld()
	w.checkCalm()
	if w.broken != nil || !w.alive() {
		return false
	}
	if !w.calm && w.budget > 0 && w.tape.chance(6) && w.breakSomething() {
		return true
	}
	if able := w.able(); len(able) > 0 && !w.tape.chance(4) {
		w.letGo(able[w.tape.pick(len(able))])
	} else {
		others := w.others()
		which := w.tape.pick(len(others))
		if w.calm { // each must have its turn, whatever is decided
			w.calmly++
			which += w.calmly
		}
		others[which%len(others)]()
	}
	return true
}

// able are the steps that can go on: those of agents that are not paused, on volumes that
// do not hang. In an order that does not depend on which goroutine came first.
func (w *world) able() []*step {
	var able []*step
	for _, s := range w.waiting {
		if !s.p.paused && !(s.volume && s.p.host.hung) {
			able = append(able, s)
		}
	}
	slices.SortStableFunc(able, func(a, b *step) int {
		if a.p != b.p {
			return a.p.n - b.p.n
		}
		return a.n - b.n
	})
	return able
}

// letGo lets a thread go on. A moment passes before, so that no two timers end at the same
// time: which of them came first would be random.
func (w *world) letGo(s *step) {
	w.sleep(time.Nanosecond)
	w.waiting = slices.DeleteFunc(w.waiting, func(o *step) bool { return o == s })
	w.running = s.thread
	s.on <- struct{}{}
}

// others are the things that happen besides the agents' steps.
func (w *world) others() []func() {
	can := []func(){w.breathe, w.breathe}
	can = append(can, w.zk.events()...)
	can = append(can, w.deaths()...)
	can = append(can, w.volumeEvents()...)
	for _, p := range w.procs {
		if p.paused {
			can = append(can, p.unpause)
		}
	}
	if !w.calm && w.counts.Restarts < 3 {
		for _, p := range w.procs {
			if p.dead && !p.replaced {
				can = append(can, func() { p.replaced = true; w.restart() })
			}
		}
	}
	return can
}

var breaths = []time.Duration{
	100 * time.Millisecond, 5 * time.Millisecond, time.Millisecond, 25 * time.Millisecond,
	300 * time.Millisecond, time.Second,
}

// breathe lets time pass.
func (w *world) breathe() {
	w.counts.Steps++
	w.sleep(breaths[w.tape.pick(len(breaths))] + time.Nanosecond)
}

func (w *world) sleep(d time.Duration) {
	w.mu.Unlock()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
}

// steps is how far the schedule has come: the time of the histories.
func (w *world) steps() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts.Steps
}

// pass makes everybody wait at their next step.
func (w *world) pass() {
	w.mu.Lock()
	w.running = nil
	w.mu.Unlock()
}

// alive tells whether any agent still runs.
func (w *world) alive() bool {
	return slices.ContainsFunc(w.procs, func(p *proc) bool { return !p.gone() })
}

// settleDown ends the time of faults: what is broken is mended, and everybody must come
// to a good end.
func (w *world) settleDown() {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return
	}
	w.calm, w.since = true, time.Now()
	w.tell("nothing breaks any more")
	for _, p := range w.procs {
		if p.paused {
			p.unpause()
		}
	}
	for _, f := range w.zk.flights {
		f.land()
	}
	w.zk.flights = nil
	w.zk.hidden = map[string]bool{}
	for _, h := range w.hosts {
		h.mend()
	}
	w.restart() // somebody must get a turn, whatever was left behind
	w.procs[len(w.procs)-1].source.stays = true
}

// checkCalm lets the last agent go when all has come to its end, and fails when that takes
// too long.
func (w *world) checkCalm() {
	if w.broken != nil {
		return
	}
	if w.counts.Steps > longest {
		w.fail("no progress: %d steps, and still waiting: %s", w.counts.Steps, w.whoWaits())
	}
	if !w.calm {
		return
	}
	select {
	case <-w.cleared:
		return
	default:
	}
	last := w.procs[len(w.procs)-1]
	done := !slices.ContainsFunc(w.procs, func(p *proc) bool { return p != last && !p.gone() }) &&
		last.source.done() && (w.mayRefuse || len(w.zk.turns()) == 0)
	limit := atMost
	if w.mayRefuse {
		limit = refusing
	}
	switch {
	case done:
		close(w.cleared)
	case time.Since(w.since) > limit:
		w.fail("nothing broke for %v, and there is no end: %s, turns %v", limit, w.whoWaits(), w.zk.turns())
	}
}

// end removes whoever is still there, and lets their goroutines end.
func (w *world) end() {
	w.mu.Lock()
	for _, p := range w.procs {
		p.kill()
	}
	w.mu.Unlock()
	synctest.Wait()
	time.Sleep(time.Minute)
}

func (w *world) whoWaits() string {
	var who []string
	for _, s := range w.waiting {
		who = append(who, s.p.name+" before "+s.what)
	}
	return fmt.Sprint(who)
}

// fail notes the first broken promise; the schedule ends there.
func (w *world) fail(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
		w.tell("BROKEN: %v", w.broken)
	}
}

func (w *world) tell(format string, args ...any) { w.story.tell(format, args...) }
