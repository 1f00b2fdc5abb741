package fleet

import (
	"context"
	"time"
)

// What the scribe's goroutine waits for.
const (
	ending = iota
	asked  // a job
	woken  // there is something to write, or it is time to try again
	ticked // it is time to look for leftovers
	ended  // a sync has ended
)

// event waits for what comes first. Of several that are there already it takes them in a
// fixed order, not at random as select does: a schedule of the simulator is then the same
// each time.
func (s *scribe) event(ctx context.Context, again, tick <-chan time.Time) (job, int) {
	if ctx.Err() != nil {
		return job{}, ending
	}
	select {
	case j := <-s.jobs:
		return j, asked
	default:
	}
	select {
	case outcome := <-s.syncs:
		return job{synced: outcome}, ended
	default:
	}
	select { // before what may never end: there is always something to write in a busy fleet
	case <-tick:
		return job{}, ticked
	default:
	}
	select {
	case <-s.wake:
		return job{}, woken
	default:
	}
	select {
	case <-again:
		return job{}, woken
	default:
	}
	select {
	case <-ctx.Done():
		return job{}, ending
	case j := <-s.jobs:
		return j, asked
	case outcome := <-s.syncs:
		return job{synced: outcome}, ended
	case <-s.wake:
		return job{}, woken
	case <-again:
		return job{}, woken
	case <-tick:
		return job{}, ticked
	}
}
