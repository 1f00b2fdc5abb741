package sim

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// The bounds of a schedule.
const (
	eventful  = 160   // scheduling rounds in which things may break
	longest   = 30000 // steps after which a schedule is not getting anywhere
	breathing = 300 * time.Millisecond
)

// world is one schedule.
type world struct {
	tape   *tape
	story  *story
	counts Counts
	broken error // the first promise that was broken

	disk *disk
	zk   *zookeeper

	mu      sync.Mutex // goroutines that a timer woke may wait at the same time
	procs   []*proc
	looks   map[*look]bool
	waiting []*step
	running *proc // whose turn it is to take steps

	preempt int  // a running agent is made to wait once in so many steps
	wear    int  // a request or a disk operation fails once in so many
	budget  int  // faults that may still fire
	themes  int  // which kinds of faults, as bits
	calm    bool // nothing breaks any more: all must come to a good end

	truth
}

// step is an agent that waits to go on.
type step struct {
	proc *proc
	what string
	on   chan struct{}
}

func newWorld(decisions *tape, told *story) *world {
	w := &world{tape: decisions, story: told, looks: map[*look]bool{}}
	w.disk = newDisk(w)
	w.zk = newZookeeper(w)
	w.preempt = []int{8, 2, 4, 16, 50, 200}[w.tape.pick(6)]
	w.wear = []int{100, 20, 40, 300}[w.tape.pick(4)]
	w.budget = []int{1, 1, 2, 2, 3, 4, 6, 10}[w.tape.pick(8)]
	w.themes = w.chooseThemes()
	if w.themed(rollBack) { // what it breaks shows only when something else goes wrong too
		w.budget += 2
	}
	return w
}

// play runs the schedule from its beginning to a good end, or to a broken promise.
// It runs in a bubble of its own, and leaves no goroutine in it.
func (w *world) play() {
	w.strangers()
	if w.tape.chance(5) {
		w.fillInbox(2 + w.tape.pick(4))
	}
	for n := range 2 + w.tape.pick(2) {
		w.start(1+w.tape.pick(3), n)
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
	if w.broken == nil && w.counts.Steps > longest {
		w.fail("no progress: %d steps, and still waiting: %s", w.counts.Steps, w.whoWaits())
	}
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
		others[w.tape.pick(len(others))]()
	}
	return true
}

// able are the steps that can go on: those of agents that are not paused. In an order
// that does not depend on which goroutine came first.
func (w *world) able() []*step {
	var able []*step
	for _, s := range w.waiting {
		if !s.proc.paused {
			able = append(able, s)
		}
	}
	slices.SortStableFunc(able, func(a, b *step) int {
		if a.proc != b.proc {
			return a.proc.n - b.proc.n
		}
		verbA, _, _ := strings.Cut(a.what, " ")
		verbB, _, _ := strings.Cut(b.what, " ") // and not its object, which is named at random
		return strings.Compare(verbA, verbB)
	})
	return able
}

func (w *world) letGo(s *step) {
	w.waiting = slices.DeleteFunc(w.waiting, func(o *step) bool { return o == s })
	w.running = s.proc
	close(s.on)
}

// others are the things that happen besides the agents' steps.
func (w *world) others() []func() {
	var can []func()
	can = append(can, w.zk.events()...)
	can = append(can, w.deaths()...)
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
	return append(can, w.breathe)
}

// breathe lets time pass.
func (w *world) breathe() {
	w.counts.Steps++
	w.mu.Unlock()
	time.Sleep(breathing)
	w.mu.Lock()
}

// steps is how far the schedule has come: the time of the histories.
func (w *world) steps() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts.Steps
}

// step is where an agent's goroutine may have to wait, before it does what. It does not
// return for an agent that was killed.
func (p *proc) step(what string) {
	w := p.w
	w.mu.Lock()
	w.counts.Steps++
	if !p.dead && w.running == p && !w.tape.chance(w.preempt) {
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	p.wait(what)
}

// pass makes everybody wait at their next step.
func (w *world) pass() {
	w.mu.Lock()
	w.running = nil
	w.mu.Unlock()
}

// wait lets others go on.
func (p *proc) wait(what string) { p.queueUp(what, p) }

// queueUp waits for the scheduler. Whoever may be a second goroutine of its process, and
// run beside the first, does so with leaves nil: the first goes on as if it were alone.
func (p *proc) queueUp(what string, leaves *proc) {
	w := p.w
	w.mu.Lock()
	if p.dead {
		w.mu.Unlock()
		runtime.Goexit()
	}
	s := &step{proc: p, what: what, on: make(chan struct{})}
	w.waiting = append(w.waiting, s)
	if leaves != nil && w.running == leaves {
		w.running = nil
	}
	w.mu.Unlock()
	<-s.on
	if p.dead {
		runtime.Goexit()
	}
}

// alive tells whether any agent still runs.
func (w *world) alive() bool {
	return slices.ContainsFunc(w.procs, func(p *proc) bool { return !p.ended && !p.dead })
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
	w.calm = true
	w.tell("nothing breaks any more")
	for _, p := range w.procs {
		if p.paused {
			p.unpause()
		}
	}
	for _, f := range w.zk.flights { // among them may be a halt
		f.land()
	}
	w.zk.flights = nil
	w.zk.leader().drop(haltNode)
	w.restart() // somebody must get a turn, whatever was left behind
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
		who = append(who, s.proc.name+" before "+s.what)
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
