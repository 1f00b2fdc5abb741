package ids

import (
	"context"
	"errors"
	"sync"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// ID is a number that is ours until Close, or until Context says otherwise.
type ID struct {
	pool   *Pool
	number int
	card   card
	token  uint64

	ctx    context.Context
	end    context.CancelCauseFunc
	closed sync.Once
}

// Number is the number, 1 to the pool's size.
func (id *ID) Number() int { return id.number }

// Token is the fencing token: the creation zxid of the number's node, higher than that of
// every earlier holder of the number.
func (id *ID) Token() uint64 { return id.token }

// Context is done when the number is no longer ours: its cause is queue.ErrLost when
// others removed it, the session's when that is over, context.Canceled after Close.
func (id *ID) Context() context.Context { return id.ctx }

// Close gives the number back, so that a waiter has it at once. It takes less than a
// second, whatever ZooKeeper does; when that is too short the session is discarded, and
// takes the number along when it expires. It may be called again.
func (id *ID) Close() {
	id.closed.Do(func() {
		id.end(context.Canceled)
		if !errors.Is(context.Cause(id.ctx), queue.ErrLost) && id.pool.Sess.Err() == nil {
			id.remove()
		}
	})
}

// guard ends the context when our node is gone.
func (id *ID) guard(changed <-chan zk.Event) {
	for {
		select {
		case <-changed:
		case <-id.ctx.Done():
			return
		}
		node, err := id.look(id.ctx)
		if errors.Is(err, queue.ErrLost) {
			id.end(err)
		}
		if err != nil {
			return
		}
		changed = node.Watch // somebody wrote into our node, which changes nothing
	}
}
