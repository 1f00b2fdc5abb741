package filelock

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Settle puts an end to doubt about a commit whose answer was lost. It removes the
// hold's place if it is still there, and only then reads head: without its place
// the commit cannot happen any more, so on a nil error it has happened or never
// will, and the head returned (nil when there is none) is at least as new as
// either. Whether the commit is in it is for the caller to tell, who knows what
// head means.
//
// The queue may be of another session than the hold's; that of the hold's own is
// as good while it lives. A place that the commit may have taken is removed too.
func (q *Queue) Settle(ctx context.Context, h *Hold) (head []byte, err error) {
	if err := queue.Remove(ctx, q.sess, h.place.Path()); err != nil {
		return nil, fmt.Errorf("settle the commit: %w", err)
	}
	if h.nextID != "" {
		next, err := q.line.Find(ctx, h.nextID)
		if err == nil && next != "" {
			err = queue.Remove(ctx, q.sess, next)
		}
		if err != nil {
			return nil, fmt.Errorf("settle the commit: %w", err)
		}
	}
	// The delete was a write of this session: what it reads now is no older.
	node, err := q.sess.Get(ctx, q.root.Head())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("settle the commit: read head: %w", err)
	}
	return node.Data, nil
}
