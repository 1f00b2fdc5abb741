package fleet

import (
	"context"
	"errors"
	"time"
)

// await waits for the source, and no longer than the session lasts: an agent that has
// nothing to write, or is paused, is in the fleet all the same. While turns of its are
// under way, the fleet is told meanwhile when something holds them up.
func (a *Agent) await(ctx context.Context, sess Session) error {
	for {
		waiting, done := both(sess.Context(), ctx)
		if a.told != "" || !a.scribe.idle() {
			waiting, done = forAWhile(waiting, done, a.scribe.limit()+70*time.Millisecond)
		}
		err := a.Source.Wait(waiting)
		again := err != nil && !hasEnded(err) && errors.Is(context.Cause(waiting), errWhile)
		done()
		switch {
		case again:
			a.publish(ctx, sess)
		case err == nil || hasEnded(err) || ctx.Err() != nil || sess.Err() == nil:
			return err
		default:
			return sess.Err()
		}
	}
}

// errWhile says that a while is over.
var errWhile = errors.New("a while is over")

// forAWhile is ctx, which done ends, for a while at most.
func forAWhile(ctx context.Context, done context.CancelFunc, while time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, while, errWhile)
	return ctx, func() { cancel(); done() }
}

// lingering is done a while after stop is.
func lingering(stop context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	unhook := context.AfterFunc(stop, func() {
		select {
		case <-time.After(while):
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { unhook(); cancel() }
}

// both is done, with its cause, when either a or b is.
func both(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(a)
	if b.Err() != nil {
		cancel(context.Cause(b)) // at once, and not in a moment
	}
	unhook := context.AfterFunc(b, func() { cancel(context.Cause(b)) })
	return ctx, func() { unhook(); cancel(context.Canceled) }
}
