package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
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

// stopOutsideFence: row 2. The others go on only when the stopped holder's session has
// expired, or it was evicted; it comes back and must find itself fenced.
func stopOutsideFence(r *round) error {
	if err := r.man(3, 1); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 3 {
		step := r.pick([]string{"fence.lock.before", "commit.before", "commit.before", "fence.unlock.after"})
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

// deafHolder: row 2, without any clock. A holder is evicted and cannot hear it; the
// next one has its frame on disk when the old one goes on, and commits after that.
func deafHolder(r *round) error {
	r.timeout = 12 * time.Second // nothing is to expire meanwhile
	if err := r.wired(4, 0); err != nil {
		return err
	}
	for range 3 {
		step := r.pick([]string{"fence.lock.before", "fence.lock.before", "fence.unlock.after", "commit.before"})
		old, err := r.anyChild()
		if err != nil {
			return err
		}
		if err := old.arm(r.ctx, failpoint{Name: step, Nth: 1 + r.rng.IntN(3), Action: actHold}); err != nil {
			return err
		}
		if _, err := old.await(r.ctx, 30*time.Second, "fired"); err != nil {
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
		r.fire(step + ", evicted and deaf")
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

// stopInsideFence: row 3. Nobody can pass, and they say why; the file stays as it is.
func stopInsideFence(r *round) error {
	if err := r.man(3, 1); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 2 {
		step := r.pick([]string{"fence.lock.after", "fence.write.after", "data.write.torn", "data.write.after", "data.datasync.after", "receipt.lock.after"})
		p, err := r.stops(step)
		if err != nil {
			return err
		}
		if err := r.waitOutside(p); err != nil {
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
	}
	return nil
}

// waitOutside makes sure that while p is stopped inside the fence somebody who has the
// turn says so, and nobody changes the file.
func (r *round) waitOutside(p *proc) error {
	marks := map[*proc]int64{}
	for _, o := range r.others(p) {
		marks[o] = o.mark()
	}
	before, err := os.Stat(r.data())
	if err != nil {
		return err
	}
	err = within(r.ctx, 30*time.Second, "somebody says that it waits for the fence", func() bool {
		for o, mark := range marks {
			if o.said(mark, "waiting for the fence") {
				return true
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	after, err := os.Stat(r.data())
	if err == nil && after.Size() != before.Size() {
		err = fmt.Errorf("the file grew from %d to %d bytes while %s was stopped inside the fence", before.Size(), after.Size(), p.id)
	}
	return err
}

// stopBeforeTruncate: row 4.
func stopBeforeTruncate(r *round) error {
	if err := r.man(4, 0); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 2 {
		p, _, err := r.finder(failpoint{Name: "data.truncate.before", Action: actStop})
		if err != nil {
			return err
		}
		for _, o := range r.others(p) {
			if err := o.arm(r.ctx); err != nil {
				return err
			}
		}
		head, err := r.head()
		if err != nil {
			return err
		}
		before, err := r.prefix(head.Offset)
		if err != nil {
			return err
		}
		if err := r.expired(p); err != nil {
			return err
		}
		if err := p.cont(); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
		after, err := r.prefix(head.Offset)
		if err != nil {
			return err
		}
		if before != after {
			return fmt.Errorf("committed bytes were changed by %s, stopped before it cut a tail", p.id)
		}
		if err := r.revive(); err != nil {
			return err
		}
		if err := r.progress(1); err != nil {
			return err
		}
	}
	return nil
}

// expired waits until a stopped process's session is gone: then it holds no place.
func (r *round) expired(p *proc) error {
	return r.with(func(ctx context.Context, sess *session.Session) error {
		before, err := filelock.Look(ctx, sess, r.root())
		if err != nil || len(before) == 0 {
			return err
		}
		front := before[0].Place // the one inside the fence has the turn, or had it
		return until(ctx, patience, func() (bool, error) {
			now, err := filelock.Look(ctx, sess, r.root())
			return !slices.ContainsFunc(now, func(e filelock.Entry) bool { return e.Place == front }), err
		})
	})
}
