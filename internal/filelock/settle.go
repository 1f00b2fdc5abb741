package filelock

import (
	"context"
	"fmt"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Settle puts an end to doubt about a commit whose answer was lost. It removes the
// hold's place if it is still there, and only then reads head: without its place
// the commit cannot happen any more, so on a nil error it has happened or never
// will, and the head returned is at least as new as either. Whether the commit is in it
// is for the caller to tell.
//
// The queue may be of another session than the hold's; that of the hold's own is
// as good while it lives. A place that the commit may have taken is removed too: left
// behind, it would block the line.
func (q *Queue) Settle(ctx context.Context, h *Hold) (frame.Head, error) {
	if err := queue.Remove(ctx, q.sess, h.place.Path()); err != nil {
		return frame.Head{}, fmt.Errorf("settle the commit: %w", err)
	}
	// The delete went through a quorum, and this asks for one again, since it may have
	// been of another session than the read.
	head, _, err := FreshHead(ctx, q.sess, q.root)
	if err != nil {
		return head, fmt.Errorf("settle the commit: %w", err)
	}
	if h.nextID != "" {
		q.use(head.Queue)
		next, err := q.line.Find(ctx, h.nextID)
		if err == nil && next != "" {
			err = queue.Remove(ctx, q.sess, next)
		}
		if err != nil {
			return head, fmt.Errorf("settle the commit: %w", err)
		}
	}
	return head, nil
}
