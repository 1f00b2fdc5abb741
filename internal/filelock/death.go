package filelock

import (
	"context"
	"path"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// bury removes the place of a member that has died, and its name under agents/. On a nil
// error the place is gone. It is always safe, see Evict, so that it does not matter
// whether the member has died.
func (q *Queue) bury(ctx context.Context, place string, node session.Node, m Member) error {
	owner, name := node.Stat.EphemeralOwner, path.Join(q.root.Agents(), m.Agent)
	entry, err := q.sess.Get(ctx, name)
	if err == nil && owner != 0 && entry.Stat.EphemeralOwner == owner {
		// As long as its place is there, so is its session, and the name cannot have
		// become another's: both go, or neither.
		_, err = q.sess.Multi(ctx,
			&zk.DeleteRequest{Path: path.Join(q.line.Dir, place), Version: -1},
			&zk.DeleteRequest{Path: name, Version: -1})
		if err == nil {
			return nil
		}
	}
	return queue.Evict(ctx, q.sess, q.line.Dir, place)
}
