package filelock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/session"
)

// Place is a place in the queue. It ends with Wait's hold, or with Leave.
type Place struct {
	queue *Queue
	name  string

	token uint64          // its creation zxid, once looked at
	own   <-chan zk.Event // tells of its removal
	seen  uint64          // the session's connection on which that was set
}

// Join takes the last place in the queue. When it fails, no place is left behind,
// or the session is discarded and takes it along.
func (q *Queue) Join(ctx context.Context) (*Place, error) {
	id := newID()
	for {
		node, err := q.sess.Create(ctx, q.prefix(id), q.card(), zk.FlagEphemeral|zk.FlagSequence)
		if session.Broken(err) && !over(ctx, q.sess) {
			// The answer was lost with the connection; the node may be there.
			node, err = q.find(ctx, id)
			if err == nil && node == "" {
				continue
			}
		}
		if err != nil && !session.Definite(err) {
			q.tidy(id)
		}
		if err != nil {
			return nil, fmt.Errorf("join the queue: %w", err)
		}
		return q.place(path.Base(node))
	}
}

func (q *Queue) place(name string) (*Place, error) {
	if _, seq, ok := parseName(name); !ok || seq < 0 || seq == math.MaxInt32 {
		q.tidy(name)
		return nil, ErrExhausted
	}
	return &Place{queue: q, name: name}, nil
}

// newID is a GUID of our own, by which a node is recognised whose name we were
// never told.
func newID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

func (q *Queue) prefix(id string) string { return path.Join(q.root.Queue(), id) + "-" }

func (q *Queue) card() []byte {
	who := q.who
	who.Since = time.Now().UTC()
	return encode(who)
}

// find looks for the place that carries our id; "" when there is none. Sync, for
// our create may have gone through another server than the read will.
func (q *Queue) find(ctx context.Context, id string) (string, error) {
	if err := q.sess.Sync(ctx, q.root.Queue()); err != nil {
		return "", err
	}
	names, err := q.sess.Children(ctx, q.root.Queue())
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if strings.HasPrefix(name, id) {
			return path.Join(q.root.Queue(), name), nil
		}
	}
	return "", nil
}

// tidy removes the place with this id or name, if there is one, though the
// caller's context has ended.
func (q *Queue) tidy(id string) {
	ctx, cancel := context.WithTimeout(q.sess.Context(), cleanup)
	defer cancel()
	node, err := q.find(ctx, id)
	if err == nil && node != "" {
		err = remove(ctx, q.sess, node)
	}
	if err != nil && q.sess.Err() == nil {
		q.sess.Discard(fmt.Sprintf("a place may be left in the queue: %v", err))
	}
}

// remove deletes a node, and promises on a nil error that it is gone.
func remove(ctx context.Context, sess *session.Session, node string) error {
	for {
		err := sess.Delete(ctx, node)
		switch {
		case err == nil || errors.Is(err, zk.ErrNoNode):
			return nil
		case session.Definite(err) || over(ctx, sess):
			return fmt.Errorf("delete %s: %w", node, err)
		}
	}
}

// Leave gives the place up, so that those behind move up at once. It works though
// the caller's own context has ended, and takes less than a second.
func (p *Place) Leave() {
	p.queue.tidy(p.name)
}

func (p *Place) path() string { return path.Join(p.queue.root.Queue(), p.name) }

// Wait blocks until it is our turn, ctx ends, or the session is over. Once it has
// returned, the place has become the hold, or was given up.
//
// The errors: ErrLost when somebody removed our place; ErrHalted; the session's
// end; ctx's cause.
func (p *Place) Wait(ctx context.Context) (*Hold, error) {
	hold, err := p.wait(ctx)
	if err != nil && !errors.Is(err, ErrLost) && p.queue.sess.Err() == nil {
		p.Leave()
	}
	return hold, err
}

func (p *Place) wait(ctx context.Context) (*Hold, error) {
	for {
		ahead, err := p.ahead(ctx)
		if err != nil {
			return nil, err
		}
		if err := p.look(ctx); err != nil {
			return nil, err
		}
		if ahead == "" {
			// Whatever we read from now on, on whichever server, is no older than
			// the list, which shows nobody before us.
			return p.take(ctx)
		}
		token, gone, err := p.watch(ctx, ahead)
		if err != nil {
			return nil, err
		}
		if !gone {
			continue
		}
		hold, err := p.take(ctx)
		if err != nil || hold.follows(token) {
			return hold, err
		}
		// It went without a commit, or the server that we read from lags behind the
		// one that told us. Others may still be before us: look again.
		hold.end(context.Canceled)
	}
}

// look makes sure that our place is there and ours, and watches it.
func (p *Place) look(ctx context.Context) error {
	sess := p.queue.sess
	p.seen = sess.Connections()
	own, err := sess.Watch(ctx, p.path())
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return fmt.Errorf("%w: our place %s was removed while we waited", ErrLost, p.name)
	case err != nil:
		return fmt.Errorf("look at our place: %w", err)
	case own.Stat.EphemeralOwner != sess.ID():
		return fmt.Errorf("%w: our place %s belongs to another session", ErrLost, p.name)
	}
	p.token, p.own = uint64(own.Stat.Czxid), own.Watch
	return nil
}

// recheck makes sure, after every wait, that our place is still there. As long as the
// connection is the same, its watch tells; else look again.
func (p *Place) recheck(ctx context.Context) error {
	if p.queue.sess.Connections() == p.seen {
		select {
		case <-p.own:
		default:
			return nil
		}
	}
	return p.look(ctx)
}

// ahead finds the place just before ours, "" when ours is the first.
func (p *Place) ahead(ctx context.Context) (nearest string, err error) {
	names, err := p.queue.sess.Children(ctx, p.queue.root.Queue())
	if err != nil {
		return "", fmt.Errorf("list the queue: %w", err)
	}
	_, mine, _ := parseName(p.name)
	var best int32
	present := false
	for _, name := range names {
		present = present || name == p.name
		_, seq, ok := parseName(name)
		switch {
		case !ok:
			p.queue.log.Warn("ignoring a foreign node in the queue", zap.String("node", name))
		case seq < mine && (nearest == "" || seq > best):
			nearest, best = name, seq
		}
	}
	if !present {
		return "", fmt.Errorf("%w: our place %s is gone", ErrLost, p.name)
	}
	return nearest, nil
}

// watch waits until something happens to the place ahead, and tells its token and
// whether it is gone.
func (p *Place) watch(ctx context.Context, ahead string) (token uint64, gone bool, err error) {
	sess := p.queue.sess
	node, err := sess.Watch(ctx, path.Join(p.queue.root.Queue(), ahead))
	if errors.Is(err, zk.ErrNoNode) {
		return 0, false, nil // since the list; so make another
	}
	if err != nil {
		return 0, false, fmt.Errorf("watch the place ahead: %w", err)
	}
	if node.Stat.EphemeralOwner == 0 {
		p.queue.log.Warn("the place ahead belongs to no session and will not go by itself: agent evict removes it",
			zap.String("place", ahead))
	}
	select {
	case event := <-node.Watch:
		return uint64(node.Stat.Czxid), event.Type == zk.EventNodeDeleted, nil
	case <-p.own:
		return 0, false, nil // the next look says what it was
	case <-sess.Done():
		return 0, false, sess.Err()
	case <-ctx.Done():
		return 0, false, context.Cause(ctx)
	}
}

// idLen is the length of newID.
const idLen = 32

// parseName splits a place's name; ok is false for a node that is none of ours.
func parseName(name string) (id string, seq int32, ok bool) {
	if len(name) <= idLen || name[idLen] != '-' || strings.Trim(name[:idLen], "0123456789abcdef") != "" {
		return "", 0, false
	}
	digits := name[idLen+1:]
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || fmt.Sprintf("%010d", n) != digits { // as ZooKeeper writes it
		return "", 0, false
	}
	return name[:idLen], int32(n), true
}
