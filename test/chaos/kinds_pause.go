package main

import (
	"time"
)

// fencedWords are in the log of an agent whose turn was lost.
var fencedWords = []string{"fenced", "session is over", "queueing again"}

// others are the live processes but one.
func (r *round) others(but *proc) (all []*proc) {
	for _, p := range r.live() {
		if p != but {
			all = append(all, p)
		}
	}
	return all
}

// stops has a child stop itself at a step of its turn.
func (r *round) stops(step string) (*proc, error) {
	p, err := r.anyChild()
	if err != nil {
		return nil, err
	}
	if err := p.arm(r.ctx, failpoint{Name: step, Nth: 1 + r.rng.IntN(3), Action: actStop}); err != nil {
		return nil, err
	}
	if _, err := p.await(r.ctx, 30*time.Second, "fired"); err != nil {
		return nil, err
	}
	if err := stopped(p.cmd.Process.Pid); err != nil {
		return nil, err
	}
	return p, nil
}

// stopInTurn: row 2. The others go on only when the stopped holder's session has
// expired, or it was evicted; it comes back and must find itself fenced.
func stopInTurn(r *round) error {
	if err := r.working(3, 1); err != nil {
		return err
	}
	for range 3 {
		step := "commit.before"
		p, err := r.stops(step)
		if err != nil {
			return err
		}
		mark := p.mark()
		if r.rng.IntN(3) == 0 {
			if _, err := r.mustAgent("evict"); err != nil {
				return err
			}
			step += ", evicted"
		}
		if err := r.progressOf(r.others(p), 3); err != nil {
			return err
		}
		r.fire(step + " stop")
		if err := p.cont(); err != nil {
			return err
		}
		if err := within(r.ctx, patience, p.id+" finds itself fenced", func() bool { return p.said(mark, fencedWords...) }); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// deafHolder: row 2, without any clock. A holder is evicted and cannot hear it; the next
// one is about to commit when the old one goes on, and commits after that.
func deafHolder(r *round) error {
	r.timeout = 12 * time.Second // nothing is to expire meanwhile
	if err := r.wired(4, 0); err != nil {
		return err
	}
	for range 3 {
		old, _, err := r.holdsBeforeCommit()
		if err != nil {
			return err
		}
		mark := old.mark()
		if err := r.poison(old.slot, dropped("downstream")); err != nil {
			return err
		}
		next, err := r.nextHolds(old)
		if err != nil {
			return err
		}
		if err := old.order(r.ctx, order{Do: "go"}); err != nil {
			return err
		}
		if err := r.notices(old, mark, patience, fencedWords...); err != nil {
			return err
		}
		if err := next.order(r.ctx, order{Do: "go"}); err != nil {
			return err
		}
		if err := r.progressOf(r.others(old), 1); err != nil {
			return err
		}
		r.fire("commit.before, evicted and deaf")
		if err := r.cut(old.slot); err != nil {
			return err
		}
		if err := r.cure(old.slot, dropped("downstream")); err != nil {
			return err
		}
		if err := r.mend(old.slot); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// nextHolds evicts the holder and has whoever is next wait before it commits.
func (r *round) nextHolds(old *proc) (next *proc, err error) {
	point := failpoint{Name: "commit.before", Action: actHold}
	for _, p := range r.others(old) {
		if err := p.arm(r.ctx, point); err != nil {
			return nil, err
		}
	}
	if _, err := r.mustAgent("evict"); err != nil {
		return nil, err
	}
	if next, _, err = r.firstToFire(point); err != nil {
		return nil, err
	}
	for _, p := range r.others(old) {
		if p != next {
			if err := p.arm(r.ctx); err != nil {
				return nil, err
			}
		}
	}
	return next, nil
}

// stopInWriting: rows 2 and 3. An agent is stopped past expiry between its commit and its
// sync. The others write its turns, and go on; when it comes back its late writes change
// no byte, and its turns are acknowledged.
func stopInWriting(r *round) error {
	if err := r.working(3, 1); err != nil {
		return err
	}
	for range 3 {
		step := r.pick([]string{"commit.after", "data.write.before", "data.write.torn", "data.write.after", "data.datasync.before", "data.datasync.after"})
		p, err := r.stops(step)
		if err != nil {
			return err
		}
		if err := r.progressOf(r.others(p), 3); err != nil {
			return err
		}
		if r.rng.IntN(2) == 0 { // beyond its session's end
			if err := r.moment(2 * r.timeout); err != nil {
				return err
			}
		}
		head, err := r.head()
		if err != nil {
			return err
		}
		r.fire(step + " stop")
		if r.rng.IntN(3) == 0 {
			p.kill()
			if err := r.spawn(p.slot); err != nil {
				return err
			}
		} else if err := p.cont(); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
		if _, err := r.prefix(head.Offset); err != nil {
			return err
		}
	}
	return nil
}
