package main

import (
	"fmt"
	"time"
)

// stepsThatLeaveATurn end an agent's life between its commit and its sync.
var stepsThatLeaveATurn = []string{"commit.after", "data.write.before", "data.write.torn", "data.write.after", "data.datasync.before"}

// leaveTurn has a child die with a turn that is committed and not on disk.
func (r *round) leaveTurn() error {
	victim, err := r.anyChild()
	if err != nil {
		return err
	}
	if err := victim.arm(r.ctx, failpoint{Name: r.pick(stepsThatLeaveATurn), Action: actKill}); err != nil {
		return err
	}
	victim.leaving = true
	if _, err := victim.await(r.ctx, 30*time.Second, "fired"); err != nil {
		return err
	}
	_, err = victim.exits(r.ctx, time.Minute)
	return err
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
