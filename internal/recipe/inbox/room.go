package inbox

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// room waits until there is room for so many messages more. Until leave is called nobody
// who waited behind us is let in.
func (s *Sender) room(ctx context.Context, messages int) (leave func(), err error) {
	waits, err := s.children(ctx, s.Dir.Messages())
	if err != nil {
		return nil, err
	}
	line, err := s.children(ctx, s.Dir.Senders())
	if err != nil {
		return nil, err
	}
	if line == 0 && s.fits(waits, messages) {
		return func() {}, nil
	}
	place, err := (&queue.Line{Sess: s.sess, Dir: s.Dir.Senders(), Who: s.Who, Log: s.Log}).Join(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for room in the inbox: %w", err)
	}
	if s.Patience == 0 {
		err = s.tryRoom(ctx, place, waits, messages)
	} else {
		err = s.waitRoom(ctx, place, messages)
	}
	if err != nil {
		place.Leave()
		return nil, fmt.Errorf("wait for room in the inbox: %w", err)
	}
	return place.Leave, nil
}

func (s *Sender) fits(waits, more int) bool { return waits == 0 || waits+more <= s.Limit }

// children is how many a node has, without listing them.
func (s *Sender) children(ctx context.Context, node string) (int, error) {
	n, err := s.sess.Get(ctx, node)
	if err != nil {
		return 0, fmt.Errorf("look at %s: %w", node, err)
	}
	return int(n.Stat.NumChildren), nil
}

func (s *Sender) full(waits int) error {
	return fmt.Errorf("%w: %d messages wait in it, and the limit is %d", ErrFull, waits, s.Limit)
}

// tryRoom is for who does not want to wait.
func (s *Sender) tryRoom(ctx context.Context, place *queue.Place, waits, more int) error {
	first, err := place.Try(ctx)
	if err == nil && !(first && s.fits(waits, more)) {
		err = s.full(waits)
	}
	return err
}

// waitRoom waits until the place is the first, and then for room: only the first is woken
// when messages go.
func (s *Sender) waitRoom(ctx context.Context, place *queue.Place, more int) error {
	if s.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.Patience, fmt.Errorf("%w for %v: the limit is %d messages", ErrFull, s.Patience, s.Limit))
		defer cancel()
	}
	if err := place.Wait(ctx); err != nil {
		return err
	}
	lost, end := place.Guard()
	defer end(context.Canceled)
	for {
		names, node, err := s.sess.WatchChildren(ctx, s.Dir.Messages())
		if err != nil {
			return err
		}
		if s.fits(len(names), more) {
			return nil
		}
		select {
		case <-node.Watch:
		case <-lost.Done():
			return context.Cause(lost)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// forgotten is after how long, by ZooKeeper's clock, a sender that has sent nothing is
// taken for dead. If it is not, it makes itself a new node.
const forgotten = 24 * time.Hour

// sweep removes what dead senders left, who have sent nothing for so long before own was
// made. Whoever fails leaves it to the next.
func sweep(ctx context.Context, sess *session.Session, dir Dir, own string, after time.Duration, log *zap.Logger) {
	now, err := sess.Get(ctx, own)
	if err != nil {
		return
	}
	names, err := sess.Children(ctx, dir.Sending())
	if err != nil {
		return
	}
	for _, name := range names {
		node, err := sess.Get(ctx, path.Join(dir.Sending(), name))
		if err != nil || len(name) != len(path.Base(own)) || now.Stat.Ctime-node.Stat.Mtime < after.Milliseconds() {
			continue
		}
		_, err = sess.Multi(ctx, &zk.DeleteRequest{Path: path.Join(dir.Sending(), name), Version: node.Stat.Version})
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			log.Debug("a dead sender's node stays", zap.String("sender", name), zap.Error(err))
			return
		}
	}
}
