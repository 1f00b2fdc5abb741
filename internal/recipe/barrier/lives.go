package barrier

import (
	"context"
	"errors"
	"path"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
)

// Lives lists by what the deaths of the members in a barrier's directory are noticed.
func Lives(ctx context.Context, sess *session.Session, dir string) (lives []string, err error) {
	rounds, err := sess.Children(ctx, dir)
	for _, round := range rounds {
		if err != nil || !roundName.MatchString(round) {
			continue
		}
		var names []string
		names, err = sess.Children(ctx, path.Join(dir, round))
		for _, name := range members(names) {
			node, gone := sess.Get(ctx, path.Join(dir, round, name))
			if gone == nil {
				lives = append(lives, whose(node).Life)
			} else if !errors.Is(gone, zk.ErrNoNode) {
				return nil, gone
			}
		}
		err = unlessNoNode(err)
	}
	return lives, unlessNoNode(err)
}
