package main

import (
	"context"
	"time"
)

// stepsOfATurn are the failpoints that an agent passes in every turn, in their order.
var stepsOfATurn = []string{
	"join.create.before", "join.create.after",
	"fence.lock.before", "fence.lock.after", "fence.write.before", "fence.write.after",
	"data.write.before", "data.write.torn", "data.write.after", "data.datasync.before", "data.datasync.after",
	"fence.unlock.before", "fence.unlock.after",
	"commit.before", "commit.after",
	"receipt.lock.before", "receipt.lock.after", "receipt.write.before", "receipt.write.after", "receipt.unlock.after",
}

// stepsOfAQuarantine are passed by whoever finds the tail of a dead holder.
var stepsOfAQuarantine = []string{
	"orphan.mkdir.before", "orphan.open.before", "orphan.open.after", "orphan.write.before", "orphan.write.torn", "orphan.write.after",
	"orphan.sync.before", "orphan.sync.after", "dir.sync.before", "dir.sync.after",
	"data.truncate.before", "data.truncate.after", "data.sync.before", "data.sync.after",
}

// stepsOfABeginning are passed once in the life of a file.
var stepsOfABeginning = []string{
	"fence.open.before", "fence.open.after", "fence.lock.after", "data.open.before", "data.open.after",
	"fence.write.before", "fence.write.after", "fence.sync.before", "fence.sync.after", "dir.sync.before", "dir.sync.after",
	"data.truncate.before", "data.truncate.after", "data.write.before", "data.write.torn", "data.write.after",
	"data.datasync.before", "data.datasync.after", "publish.before", "publish.after",
}

// anyChild is one of the live children.
func (r *round) anyChild() (*proc, error) {
	all := r.children()
	if len(all) == 0 {
		return nil, rejected("no child is left")
	}
	return all[r.rng.IntN(len(all))], nil
}

// fires waits until a failpoint of p did.
func (r *round) fires(p *proc) (event, error) {
	e, err := p.await(r.ctx, 30*time.Second, "fired")
	if err == nil {
		r.fire(e.Point + " " + e.Action)
	}
	return e, err
}

// dies waits until p fires and is dead.
func (r *round) dies(p *proc) error {
	p.leaving = true
	if _, err := r.fires(p); err != nil {
		return err
	}
	_, err := p.exits(r.ctx, time.Minute)
	return err
}

// killInTurn: row 1.
func killInTurn(r *round) error {
	if err := r.man(3, 1); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 4 {
		victim, err := r.anyChild()
		if err != nil {
			return err
		}
		point := failpoint{Name: r.pick(stepsOfATurn), Nth: 1 + r.rng.IntN(3), Action: actKill}
		if point.Name[:4] == "join" {
			point.Nth = 1
			if err := r.thirsty(victim); err != nil {
				return err
			}
		}
		if err := victim.arm(r.ctx, point); err != nil {
			return err
		}
		victim.feed.goOn()
		if err := r.dies(victim); err != nil {
			return err
		}
		if err := r.spawn(victim.slot); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
		}
	}
	return nil
}

// thirsty makes an agent wait for records: an agent that always has some takes its
// next place with its commit and never joins.
func (r *round) thirsty(p *proc) error {
	p.feed.pause()
	return until(r.ctx, patience, func() (bool, error) {
		n, _, err := p.acked()
		return p.feed.resting() && n == p.feed.given(), err
	})
}

// revive starts a new process in every slot whose process has ended.
func (r *round) revive() error {
	for _, s := range r.slots {
		if s.now == nil || s.now.leaving {
			if s.now != nil {
				s.now.kill()
			}
			if err := r.spawn(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// killInQuarantine: row 1, for whoever puts aside what another left.
func killInQuarantine(r *round) error {
	if err := r.man(4, 0); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 3 {
		step := r.pick(stepsOfAQuarantine)
		finder, _, err := r.finder(failpoint{Name: step, Action: actKill})
		if err != nil {
			return err
		}
		finder.leaving = true
		r.disarm()
		if _, err := finder.exits(r.ctx, time.Minute); err != nil {
			return err
		}
		if err := r.progress(2); err != nil {
			return err
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

// killInBeginning: row 1, when the file is begun.
func killInBeginning(r *round) error {
	s := r.add(false)
	for range 3 {
		if err := r.spawn(s, failpoint{Name: r.pick(stepsOfABeginning), Action: actKill}); err != nil {
			return err
		}
		if err := r.dies(s.now); err != nil {
			return err
		}
		if head, err := r.head(); err != nil {
			return err
		} else if head != nil {
			break // killed after it was published: it is begun
		}
	}
	if err := r.spawn(s); err != nil {
		return err
	}
	if err := r.man(1, 1); err != nil {
		return err
	}
	return r.progress(8)
}

// killOutside: row 1, real binaries killed at any moment.
func killOutside(r *round) error {
	if err := r.man(0, 4); err != nil {
		return err
	}
	if err := r.warm(); err != nil {
		return err
	}
	for range 5 {
		s := r.slots[r.rng.IntN(len(r.slots))]
		if err := r.moment(50 * time.Millisecond); err != nil {
			return err
		}
		s.now.kill()
		r.fire("SIGKILL")
		if err := r.spawn(s); err != nil {
			return err
		}
		if err := r.progress(1); err != nil {
			return err
		}
	}
	return nil
}

// moment lets some time pass, so that what follows comes at any moment of a turn.
func (r *round) moment(most time.Duration) error {
	select {
	case <-time.After(time.Duration(r.rng.Int64N(int64(most)))):
		return nil
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
}
