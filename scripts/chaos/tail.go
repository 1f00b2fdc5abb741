package main

import (
	"fmt"
	"time"
)

// stepsThatLeaveATail end a holder's life between its first byte and its commit.
var stepsThatLeaveATail = []string{"data.write.torn", "data.write.after", "data.datasync.after", "fence.unlock.after", "commit.before"}

// leaveTail has a child die in the middle of its turn.
func (r *round) leaveTail() error {
	victim, err := r.anyChild()
	if err != nil {
		return err
	}
	if err := victim.arm(r.ctx, failpoint{Name: r.pick(stepsThatLeaveATail), Action: actKill}); err != nil {
		return err
	}
	victim.leaving = true
	if _, err := victim.await(r.ctx, 30*time.Second, "fired"); err != nil {
		return err
	}
	_, err = victim.exits(r.ctx, time.Minute)
	return err
}

// finder has a child leave a tail, and the first who finds it do what point says. All
// who can find it have the failpoint; those who did not are disarmed.
func (r *round) finder(point failpoint) (*proc, event, error) {
	tail := failpoint{Name: r.pick(stepsThatLeaveATail), Action: actKill}
	victim, err := r.anyChild()
	if err != nil {
		return nil, event{}, err
	}
	finders := 0
	for _, p := range r.children() {
		if p != victim {
			finders++
			if err := p.arm(r.ctx, point); err != nil {
				return nil, event{}, err
			}
		}
	}
	if finders == 0 {
		return nil, event{}, rejected("nobody is left to find the tail")
	}
	if err := victim.arm(r.ctx, tail); err != nil {
		return nil, event{}, err
	}
	victim.leaving = true
	if _, err := victim.await(r.ctx, 30*time.Second, "fired"); err != nil {
		return nil, event{}, err
	}
	if _, err := victim.exits(r.ctx, time.Minute); err != nil {
		return nil, event{}, err
	}
	return r.firstToFire(point)
}

// firstToFire waits for the first child at which the failpoint fires.
func (r *round) firstToFire(point failpoint) (first *proc, e event, err error) {
	err = until(r.ctx, 30*time.Second, func() (bool, error) {
		for _, p := range r.children() {
			select {
			case got, ok := <-p.events:
				if !ok {
					<-p.done
					return false, fmt.Errorf("%s ended with %d before it reached %s; the end of its log: %s", p.id, p.code(), point.Name, p.lastWords())
				}
				if got.Event == "fired" {
					first, e = p, got
					return true, nil
				}
			default:
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, e, orRejected(fmt.Errorf("%w: somebody reaches %s", err, point.Name))
	}
	if e.Action != actHold { // that is no fault
		r.fire(e.Point + " " + e.Action)
	}
	return first, e, nil
}

// disarm takes the failpoints away. A child at which one fires meanwhile and that dies
// of it is started again by revive.
func (r *round) disarm() {
	for _, p := range r.children() {
		if err := p.arm(r.ctx); err != nil {
			p.leaving = true
		}
	}
}
