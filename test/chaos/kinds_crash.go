package main

import (
	"context"
	"fmt"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
)

// stepsOfATurn are the failpoints that an agent passes in every turn, in their order.
var stepsOfATurn = []string{
	"join.create.before", "join.create.after", "commit.before", "commit.after",
	"data.write.before", "data.write.torn", "data.write.after", "data.datasync.before", "data.datasync.after",
}

// stepsOfABeginning are passed once in the life of a file.
var stepsOfABeginning = []string{
	"begin.before", "begin.after", "data.open.before", "data.open.after", "dir.sync.before", "dir.sync.after",
	"data.write.before", "data.write.torn", "data.write.after", "data.datasync.before", "data.datasync.after",
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
	if err := r.working(3, 1); err != nil {
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
		if err := r.again(victim.slot, 2); err != nil {
			return err
		}
	}
	return nil
}

// killUnderWay: row 3. An agent dies with up to eight turns committed and not on disk, and
// nobody else writes: an idle agent settles them.
func killUnderWay(r *round) error {
	r.rest, r.records = 0, 2
	if err := r.working(3, 1); err != nil {
		return err
	}
	for range 2 {
		victim, err := r.anyChild()
		if err != nil {
			return err
		}
		point := failpoint{Name: r.pick([]string{"data.write.before", "data.write.torn", "data.datasync.before", "data.datasync.after"}), Action: actHold}
		if err := victim.arm(r.ctx, point); err != nil {
			return err
		}
		if _, err := victim.await(r.ctx, 30*time.Second, "fired"); err != nil {
			return err
		}
		if err := r.moment(300 * time.Millisecond); err != nil { // it goes on committing
			return err
		}
		victim.kill()
		r.fire(point.Name + " kill, turns under way")
		for _, p := range r.live() {
			p.feed.pause()
		}
		if err := r.settled(); err != nil {
			return err
		}
		r.goOn()
		if err := r.again(victim.slot, 2); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until no turn is left in ZooKeeper: all are on disk.
func (r *round) settled() error {
	var left []filelock.TurnName
	err := r.with(func(ctx context.Context, sess *session.Session) error {
		return until(ctx, 20*time.Second, func() (bool, error) {
			var err error
			left, err = filelock.ListTurns(ctx, sess, r.root())
			return len(left) == 0, err
		})
	})
	if err != nil {
		return fmt.Errorf("%d turns are not settled: %w", len(left), err)
	}
	return nil
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
	if err := r.working(0, 4); err != nil {
		return err
	}
	for range 5 {
		s := r.slots[r.rng.IntN(len(r.slots))]
		if err := r.moment(50 * time.Millisecond); err != nil {
			return err
		}
		s.now.kill()
		r.fire("SIGKILL")
		if err := r.again(s, 1); err != nil {
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
