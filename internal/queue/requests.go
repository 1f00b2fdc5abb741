package queue

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
)

// Over tells whether there is no point in going on with this session.
func Over(ctx context.Context, sess Session) bool {
	return ctx.Err() != nil || sess.Err() != nil
}

// Steady is ctx for one request that does not end with it once it is sent: it ends with its
// answer, or with the session. That costs half (session.Session knows why).
func Steady(ctx context.Context) context.Context {
	if ctx.Done() == nil || ctx.Err() != nil { // then it is not sent at all
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// Pause keeps a server that cuts every connection from being hammered.
func Pause(ctx context.Context, sess Session) {
	select {
	case <-time.After(5 * time.Millisecond):
	case <-ctx.Done():
	case <-sess.Done():
	}
}

// Barrier makes later reads of this session see all that was committed before: by a write
// that changes nothing, because sync may be answered by a leader that was deposed. The
// error is zk.ErrNoNode when there is no such node.
func Barrier(ctx context.Context, sess Session, node string) error {
	for {
		_, err := sess.Multi(ctx, &zk.CheckVersionRequest{Path: node, Version: -1})
		if !again(ctx, sess, err) {
			return err
		}
	}
}

// again tells, after a moment's rest, whether a request that failed with err may be sent
// again: when its connection broke. What else ZooKeeper says (throttled, a quota) it says
// again.
func again(ctx context.Context, sess Session, err error) bool {
	if !errors.Is(err, session.ErrBroken) || Over(ctx, sess) {
		return false
	}
	Pause(ctx, sess)
	return true
}

// Remove deletes a node, and promises on a nil error that it is gone.
func Remove(ctx context.Context, sess Session, node string) error {
	for {
		err := sess.Delete(ctx, node)
		switch {
		case err == nil || errors.Is(err, zk.ErrNoNode):
			return nil
		case !again(ctx, sess, err):
			return fmt.Errorf("delete %s: %w", node, err)
		}
	}
}

// Ensure makes a persistent node if it is missing. Repeating a create whose answer was
// lost is harmless here.
func Ensure(ctx context.Context, sess Session, node string) error {
	for {
		if _, err := sess.Get(ctx, node); !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		_, err := sess.Create(ctx, node, nil, 0)
		switch {
		case err == nil || errors.Is(err, zk.ErrNodeExists):
			return nil
		case errors.Is(err, zk.ErrNoAuth): // it names the node
			return fmt.Errorf("create %w", err)
		case !again(ctx, sess, err):
			return fmt.Errorf("create %s: %w", node, err)
		}
	}
}

// EnsurePath makes a persistent node and all above it that are missing.
func EnsurePath(ctx context.Context, sess Session, node string) error {
	err := Ensure(ctx, sess, node)
	if errors.Is(err, zk.ErrNoNode) && node != "/" {
		if err := EnsurePath(ctx, sess, path.Dir(node)); err != nil {
			return err
		}
		err = Ensure(ctx, sess, node)
	}
	return err
}
