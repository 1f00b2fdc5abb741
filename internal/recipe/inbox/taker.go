package inbox

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Taker is the first in the takers' line: who looks at the messages. Others wait until it
// leaves or dies. It ends with Close, or with its session.
type Taker struct {
	dir   Dir
	sess  *session.Session
	log   *zap.Logger
	by    string
	place *queue.Place

	ctx   context.Context
	end   context.CancelCauseFunc
	close sync.Once

	news   <-chan zk.Event // tells that the list of messages has changed; nil: unknown
	warned map[string]bool // of nodes that are left alone
}

// NewTaker waits until it is the first in the takers' line. died, which may be nil, is
// queue.Line's Died. When it fails nothing is left behind, or the session is discarded.
//
// The errors: queue.ErrLost when somebody removed our place; the session's end; ctx's
// cause.
func NewTaker(
	ctx context.Context, sess *session.Session, dir Dir, who queue.Member,
	died func(queue.Member) <-chan struct{}, log *zap.Logger,
) (*Taker, error) {
	if err := Ensure(ctx, sess, dir); err != nil {
		return nil, err
	}
	line := &queue.Line{Sess: sess, Dir: dir.Takers(), Who: who, Log: log, Died: died}
	place, err := line.Join(ctx)
	if err == nil {
		err = place.Wait(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("wait to be the first at the inbox: %w", err)
	}
	t := &Taker{dir: dir, sess: sess, log: log, by: who.Agent, place: place, warned: map[string]bool{}}
	t.ctx, t.end = place.Guard()
	return t, nil
}

// Context is done when we are the first no more; context.Cause tells why: queue.ErrLost,
// the session's end, or context.Canceled after Close.
func (t *Taker) Context() context.Context { return t.ctx }

// Close leaves the line, so that the next one is the first. It works though the session
// is over, takes less than a second, and may be called twice.
func (t *Taker) Close() {
	t.close.Do(func() {
		t.place.Leaving()
		t.end(context.Canceled)
		t.place.Leave()
	})
}

// Contended tells whether others wait behind us.
func (t *Taker) Contended(ctx context.Context) (bool, error) {
	names, err := t.sess.Children(ctx, t.dir.Takers())
	return len(names) > 1, err
}

// Changed blocks until the list of messages is another than Load found, ctx is done, or we
// are the first no more.
func (t *Taker) Changed(ctx context.Context) error {
	select {
	case <-t.news:
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// list gives the names of all nodes beside the messages, and has a watch on them.
func (t *Taker) list(ctx context.Context) ([]string, error) {
	select {
	case <-t.news:
		t.news = nil
	default:
	}
	if t.news != nil { // it stands; another would be one more for the library to keep
		return t.sess.Children(ctx, t.dir.Messages())
	}
	names, node, err := t.sess.WatchChildren(ctx, t.dir.Messages())
	if err == nil {
		t.news = node.Watch
	}
	return names, err
}

// alone says once that a node is left where it is, and why.
func (t *Taker) alone(name, why string) {
	if !t.warned[name] {
		t.warned[name] = true
		t.log.Warn("a node in the inbox is left alone", zap.String("node", name), zap.String("why", why))
	}
}
