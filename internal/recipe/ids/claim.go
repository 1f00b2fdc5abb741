package ids

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// card is what the node of a number says of who has it.
type card struct {
	queue.Member
	// Mark is one taking's own: by it a node is known as ours though the answer to its
	// making was lost, and whoever else has taken numbers on this session.
	Mark string `json:"mark"`
}

// unused lists the numbers of 1 to size that have no node, the lowest first. Nodes that
// have no number for their name are ignored.
func unused(names []string, size int) (free []int) {
	taken := make([]bool, size+1)
	for _, name := range names {
		if n := number(name); n > 0 && n <= size {
			taken[n] = true
		}
	}
	for n := 1; n <= size; n++ {
		if !taken[n] {
			free = append(free, n)
		}
	}
	return free
}

// number is the number that a node stands for, 0 when for none.
func number(name string) int {
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 || strconv.Itoa(n) != name {
		return 0
	}
	return n
}

// claim takes the number n, and gives up our place in the line, if we have one, in one
// transaction. When it fails the number is not ours, and neither left behind. errRaced:
// another has it; errResized: the pool has another size; queue.ErrLost: our place was
// removed.
func (p *Pool) claim(ctx context.Context, n int, version int32, place *queue.Place) (*ID, error) {
	id := &ID{pool: p, number: n, card: card{Member: p.Who, Mark: queue.NewID()}}
	id.card.Since = time.Now().UTC()
	ops := []any{
		&zk.CheckVersionRequest{Path: p.Dir, Version: version},
		&zk.CreateRequest{Path: id.path(), Data: encode(id.card), Acl: p.Sess.ACL(), Flags: zk.FlagEphemeral},
	}
	if place != nil {
		ops = append(ops, &zk.DeleteRequest{Path: place.Path(), Version: -1})
	}
	results, err := p.Sess.Multi(ctx, ops...)
	switch {
	case err == nil:
		err = id.hold(ctx)
	case session.Definite(err):
		return nil, refusal(results, err)
	case errors.Is(err, session.ErrBroken) && !queue.Over(ctx, p.Sess):
		err = id.find(ctx) // the answer was lost
	}
	if err == nil {
		return id, nil
	}
	if !errors.Is(err, queue.ErrLost) && !errors.Is(err, errRaced) {
		id.remove()
	}
	return nil, fmt.Errorf("take number %d: %w", n, err)
}

// refusal says which of a transaction's operations ZooKeeper refused.
func refusal(results []zk.MultiResponse, err error) error {
	for i, r := range results {
		switch {
		case r.Error == nil:
			continue
		case i == 0:
			return errResized
		case i == 1 && errors.Is(err, zk.ErrNodeExists):
			return errRaced
		case i == 2 && errors.Is(err, zk.ErrNoNode):
			return fmt.Errorf("%w: our place was removed while we waited", queue.ErrLost)
		}
		break
	}
	return fmt.Errorf("take a number: %w", err)
}

// find makes the number ours if the transaction whose answer was lost has happened;
// errRaced tells that it has not and never will.
func (id *ID) find(ctx context.Context) error {
	if err := queue.Barrier(ctx, id.pool.Sess, id.pool.taken()); err != nil {
		return err
	}
	err := id.hold(ctx)
	if errors.Is(err, queue.ErrLost) {
		return errRaced
	}
	return err
}

// hold begins to hold the number, whose node must be there and ours: else the error is
// queue.ErrLost.
func (id *ID) hold(ctx context.Context) error {
	node, err := id.look(ctx)
	if err != nil {
		return err
	}
	id.token = uint64(node.Stat.Czxid)
	id.ctx, id.end = context.WithCancelCause(id.pool.Sess.Context())
	go id.guard(node.Watch) // ends with id.ctx
	return nil
}

// look reads and watches the node of the number.
func (id *ID) look(ctx context.Context) (session.Node, error) {
	node, err := id.pool.Sess.Watch(ctx, id.path())
	if errors.Is(err, zk.ErrNoNode) {
		return node, fmt.Errorf("%w: the node of number %d was removed", queue.ErrLost, id.number)
	}
	if err == nil && !id.owns(node) {
		err = fmt.Errorf("%w: number %d was given to another", queue.ErrLost, id.number)
	}
	return node, err
}

// owns tells whether the node is the one that we made.
func (id *ID) owns(node session.Node) bool {
	if id.token != 0 {
		return uint64(node.Stat.Czxid) == id.token // whatever somebody wrote into it
	}
	var c card
	return json.Unmarshal(node.Data, &c) == nil && c.Mark == id.card.Mark &&
		node.Stat.EphemeralOwner == id.pool.Sess.ID()
}

// remove deletes the node if it is ours, though the caller's context has ended, or
// discards the session.
func (id *ID) remove() {
	sess := id.pool.Sess
	ctx, cancel := context.WithTimeout(sess.Context(), queue.Cleanup)
	defer cancel()
	if err := id.delete(ctx); err != nil && sess.Err() == nil {
		sess.Discard(fmt.Sprintf("number %d may be left taken: %v", id.number, err))
	}
}

// delete deletes the node if it is ours. Another's, made since ours was removed by
// somebody, stays: but for one that comes between the look and the deletion and was
// written to as often; its holder is told.
func (id *ID) delete(ctx context.Context) error {
	sess := id.pool.Sess
	for {
		err := queue.Barrier(ctx, sess, id.pool.taken())
		var node session.Node
		if err == nil {
			node, err = sess.Get(ctx, id.path())
		}
		if errors.Is(err, zk.ErrNoNode) || err == nil && !id.owns(node) {
			return nil
		}
		if err == nil {
			_, err = sess.Multi(ctx, &zk.DeleteRequest{Path: id.path(), Version: node.Stat.Version})
		}
		switch {
		case errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrBadVersion):
		case errors.Is(err, session.ErrBroken) && !queue.Over(ctx, sess):
		default:
			return err
		}
	}
}

func (id *ID) path() string { return path.Join(id.pool.taken(), strconv.Itoa(id.number)) }

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	return data
}
