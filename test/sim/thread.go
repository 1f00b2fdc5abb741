package sim

import "runtime"

// An agent is up to three goroutines: its lock loop, its scribe, and the scribe's sync when
// one is under way. A thread is one of them, as the
// scheduler knows it. Of all threads of all processes one runs at a time; another that is
// woken beside it waits at whatever it does next that others could notice.
type thread struct {
	p *proc
	n int // 0: the lock loop's, 1: the scribe's, 2: the sync's, 3: who ends a session
}

// getg tells goroutines apart while they live: it is the address of the runtime's own
// record of the one that asks.
func getg() uintptr

// thread is the one that asks.
func (p *proc) thread() *thread {
	if getg() == p.goroutine {
		return &p.threads[0]
	}
	return &p.threads[1]
}

// step is a thread that waits to go on.
type step struct {
	*thread
	what   string
	volume bool   // it touches the volume, which may hang
	late   func() // what may happen though the process is killed: a write that is under way
	on     chan struct{}
}

// step is where a thread may have to wait, before it does what. It does not return in a
// process that was killed.
func (p *proc) step(what string) { p.enter(step{what: what}, true) }

// gate is for what a thread only asks: it waits when another thread runs, and else goes on.
func (p *proc) gate(what string) { p.enter(step{what: what}, false) }

// onVolume is step for what touches the volume.
func (p *proc) onVolume(what string) { p.enter(step{what: what, volume: true}, true) }

// writing is onVolume for a write: late is done, at any time later, when the process is
// killed before.
func (p *proc) writing(what string, late func()) {
	p.enter(step{what: what, volume: true, late: late}, true)
}

// syncing is onVolume for the goroutine that does nothing else.
func (p *proc) syncing() {
	p.enter(step{thread: &p.threads[2], what: "syncing", volume: true}, true)
}

// discarding is step for the goroutine that ends a session.
func (p *proc) discarding() {
	p.enter(step{thread: &p.threads[3], what: "discarding its session"}, true)
}

// asksVolume is gate for what touches the volume.
func (p *proc) asksVolume(what string) { p.enter(step{what: what, volume: true}, false) }

func (p *proc) enter(s step, decide bool) {
	w := p.w
	if s.thread == nil {
		s.thread = p.thread()
	}
	w.mu.Lock()
	p.exitIfGone()
	if decide {
		w.counts.Steps++
	}
	if w.running == s.thread && !(s.volume && p.host.hung) && !(decide && w.tape.chance(w.preempt)) {
		w.mu.Unlock()
		return
	}
	p.queueUp(s)
}

// yield lets others go on first.
func (p *proc) yield(what string) {
	p.w.mu.Lock()
	p.exitIfGone()
	p.queueUp(step{thread: p.thread(), what: what})
}

// queueUp waits for the scheduler. The caller has the lock, and loses it.
func (p *proc) queueUp(s step) {
	w := p.w
	if n := len(w.spare); n > 0 {
		s.on, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		s.on = make(chan struct{}, 1)
	}
	w.waiting = append(w.waiting, &s)
	if w.running == s.thread {
		w.running = nil
	}
	w.mu.Unlock()
	<-s.on
	w.mu.Lock()
	w.spare = append(w.spare, s.on)
	p.exitIfGone()
	w.mu.Unlock()
}

// exitIfGone ends a goroutine of a process that is no more. The caller has the lock.
func (p *proc) exitIfGone() {
	if p.gone() {
		p.w.mu.Unlock()
		runtime.Goexit()
	}
}

// stopIfDead is for what no other thread can notice.
func (p *proc) stopIfDead() {
	p.w.mu.Lock()
	p.exitIfGone()
	p.w.mu.Unlock()
}
