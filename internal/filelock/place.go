package filelock

import (
	"context"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Place is a place in the queue. It ends with Wait's hold, or with Leave.
type Place struct {
	*queue.Place
	queue *Queue
}

// Wait blocks until it is our turn, ctx ends, or the session is over. Once it has
// returned, the place has become the hold, or was given up.
//
// The errors: ErrLost when somebody removed our place; ErrHalted; the session's
// end; ctx's cause.
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
		hold.end(context.Canceled)
	}
}
