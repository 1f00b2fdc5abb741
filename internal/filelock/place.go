package filelock

import (
	"context"
	"errors"
	"fmt"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Place is a place in the queue. It ends with Wait's hold, or with Leave.
type Place struct {
	*queue.Place
	queue *Queue
	k     uint32 // the line that it is in
}

// Wait blocks until it is our turn, ctx ends, or the session is over. Once it has
// returned, the place has become the hold, or was given up.
//
// A request that is under way when ctx ends is awaited all the same: who can't wait for
// ZooKeeper discards the session. So it is with Commit.
//
// The errors: ErrLost when somebody removed our place, or the fleet queues elsewhere by
// now; the session's end; ctx's cause.
func (p *Place) Wait(ctx context.Context) (*Hold, error) {
	hold, err := p.wait(ctx)
	if err != nil {
		p.GiveUp(err)
	}
	return hold, err
}

func (p *Place) wait(ctx context.Context) (*Hold, error) {
	for {
		after, err := p.Next(ctx)
		if err != nil {
			return nil, err
		}
		hold, err := p.take(ctx)
		if err != nil || after == 0 || hold.follows(after) {
			return hold, err
		}
		// It went without a commit, or the server that we read from lags behind the
		// one that told us. Others may still be before us: look again.
	}
}

// take makes the place a hold: it reads head. That our place is still there the commit
// makes sure of.
func (p *Place) take(ctx context.Context) (*Hold, error) {
	head, version, err := ReadHead(queue.Steady(ctx), p.queue.sess, p.queue.root)
	hold := &Hold{place: p, head: head, at: version}
	switch {
	case errors.Is(err, ErrNoHead) && p.k == 1:
		return hold, nil
	case errors.Is(err, ErrNoHead):
		p.queue.use(1)
		p.Leave()
		return nil, fmt.Errorf("%w: %w: the fleet begins anew in queue-1", ErrLost, err)
	case err != nil && version != noHead && p.queue.adopts && p.k == 1:
		return hold, nil
	case err != nil:
		return nil, err
	case head.Queue != p.k:
		p.queue.use(head.Queue)
		p.Leave()
		return nil, fmt.Errorf("%w: the fleet queues in queue-%d now", ErrLost, head.Queue)
	}
	return hold, nil
}
