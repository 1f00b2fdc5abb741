package ids

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// agreement is what the pool's own node says.
type agreement struct {
	Size int `json:"size"`
}

// agree makes sure that the pool is there and has our size, and gives the version of the
// node that says so: as long as it is the same, all users agree. A pool of another size
// becomes one of ours when nobody has a number or waits for one.
func (p *Pool) agree(ctx context.Context) (version int32, err error) {
	if p.Size < 1 || p.Size > MaxSize {
		return 0, fmt.Errorf("%w: a pool of %d; give a size from 1 to %d", ErrSize, p.Size, MaxSize)
	}
	for {
		node, err := p.Sess.Get(ctx, p.Dir)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			err = queue.EnsurePath(ctx, p.Sess, p.Dir)
		case err != nil:
		case len(node.Data) == 0:
			err = p.begin(ctx, node.Stat.Version)
		default:
			var a agreement
			if json.Unmarshal(node.Data, &a) != nil || a.Size < 1 || a.Size > MaxSize {
				return 0, fmt.Errorf("%w: %s says %.40q, which is no pool's; use another name, or delete it with all below it", ErrSize, p.Dir, node.Data)
			}
			if a.Size == p.Size {
				return node.Stat.Version, nil
			}
			err = p.resize(ctx, a.Size, node.Stat.Version)
		}
		if err == nil || errors.Is(err, zk.ErrBadVersion) || errors.Is(err, session.ErrBroken) && !queue.Over(ctx, p.Sess) {
			continue // the next look says what is so
		}
		return 0, fmt.Errorf("prepare the pool %s: %w", p.Dir, err)
	}
}

// begin makes what a pool consists of, and last says its size: where that can be read
// all is there.
func (p *Pool) begin(ctx context.Context, version int32) error {
	if err := queue.Ensure(ctx, p.Sess, p.taken()); err != nil {
		return err
	}
	if err := queue.Ensure(ctx, p.Sess, p.waiting()); err != nil {
		return err
	}
	_, err := p.Sess.Set(ctx, p.Dir, encode(agreement{p.Size}), version)
	return err
}

// resize gives an idle pool our size. That nobody has a number is made sure by the
// deletion of the node above them; who waits by then is told that the sizes differ.
func (p *Pool) resize(ctx context.Context, size int, version int32) error {
	inUse := fmt.Errorf("%w: it is in use with %d numbers and you ask for %d; give --size or --slots %d, or wait until nobody uses it", ErrSize, size, p.Size, size)
	waiting, err := p.before(ctx, nil)
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		return inUse
	}
	_, err = p.Sess.Multi(ctx,
		&zk.SetDataRequest{Path: p.Dir, Data: encode(agreement{p.Size}), Version: version},
		&zk.DeleteRequest{Path: p.taken(), Version: -1},
		&zk.CreateRequest{Path: p.taken(), Acl: p.Sess.ACL()})
	if errors.Is(err, zk.ErrNotEmpty) {
		return inUse
	}
	return err
}
