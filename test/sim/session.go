package sim

import (
	"context"
	"errors"
	"path"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
)

// Here a client promises what session.Session does: it is a fleet.Session.

func (c *client) ID() int64                { return c.id }
func (c *client) ACL() []zk.ACL            { return nil }
func (c *client) Connections() uint64      { c.p.gate("asking for its connection"); return c.conns }
func (c *client) Connected() bool          { return c.connected }
func (c *client) Context() context.Context { return c.ctx }
func (c *client) Done() <-chan struct{}    { return c.ctx.Done() }
func (c *client) Timeout() time.Duration   { return timeout }

// Discard is also what ends a session that nobody answers once its agent was told to stop:
// that is a goroutine of its own.
func (c *client) Discard(why string) {
	if strings.HasPrefix(why, "told to stop") {
		c.p.discarding()
	} else {
		c.p.stopIfDead()
	}
	c.expire(why)
}

const timeout = 10 * time.Second

func (c *client) Err() error {
	c.p.gate("asking for its session")
	return c.err()
}

func (c *client) err() error {
	if c.doomed {
		c.expire("no answer from ZooKeeper before the session's deadline")
	}
	return context.Cause(c.ctx)
}

func (c *client) Close() {
	c.p.gate("asking for its session")
	if c.over() {
		return
	}
	c.p.step("closing the session")
	if c.connected && !c.gone {
		c.z.expire(c)
	}
	c.end(session.ErrClosed)
	c.cut()
}

func (c *client) Get(ctx context.Context, node string) (n session.Node, err error) {
	err = c.request(ctx, "reading "+path.Base(node), false, func() error {
		n, err = c.look(node)
		return err
	})
	return n, err
}

func (c *client) look(node string) (session.Node, error) {
	there := c.server.nodes[node]
	if c.z.hidden[node] {
		return session.Node{}, zk.ErrNoAuth
	}
	if there == nil {
		return session.Node{}, zk.ErrNoNode
	}
	return session.Node{Data: there.data, Stat: there.stat()}, nil
}

func (c *client) Watch(ctx context.Context, node string) (n session.Node, err error) {
	err = c.request(ctx, "watching "+path.Base(node), false, func() error {
		if n, err = c.look(node); err == nil {
			n.Watch = c.watch(node, true)
		}
		return err
	})
	return n, err
}

func (c *client) watch(node string, there bool) <-chan zk.Event {
	w := &watch{node, make(chan zk.Event, 1), there}
	c.watches = append(c.watches, w)
	return w.ch
}

func (c *client) WatchFor(ctx context.Context, node string) (exists bool, ch <-chan zk.Event, err error) {
	err = c.request(ctx, "looking for "+path.Base(node), false, func() error {
		exists = c.server.nodes[node] != nil
		ch = c.watch(node, exists)
		return nil
	})
	return exists, ch, err
}

func (c *client) Children(ctx context.Context, node string) (names []string, err error) {
	err = c.request(ctx, "listing "+path.Base(node), false, func() error {
		if c.server.nodes[node] == nil {
			return zk.ErrNoNode
		}
		names = c.server.children(node)
		return nil
	})
	return names, err
}

func (c *client) Create(ctx context.Context, node string, data []byte, flags int32) (made string, err error) {
	done, err := c.write(ctx, "creating "+path.Base(node), &zk.CreateRequest{Path: node, Data: data, Flags: flags})
	if err != nil {
		return "", err
	}
	return done[0].path, nil
}

func (c *client) Delete(ctx context.Context, node string) error {
	_, err := c.write(ctx, "deleting "+path.Base(node), &zk.DeleteRequest{Path: node, Version: -1})
	return err
}

func (c *client) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	done, err := c.write(ctx, transaction(ops), ops...)
	if err != nil && !session.Definite(err) {
		return nil, err
	}
	var results []zk.MultiResponse
	if err != nil { // as go-zookeeper tells it: which it was, and nothing of those after it
		results = make([]zk.MultiResponse, len(ops))
		for i := range ops {
			switch {
			case i == len(done):
				results[i].Error = err
			case i > len(done):
				results[i].Error = errNotReached
			}
		}
		return results, err
	}
	for _, c := range done {
		r := zk.MultiResponse{String: c.path}
		if c.node != nil {
			r.Stat = c.node.stat()
		}
		results = append(results, r)
	}
	return results, nil
}

func (c *client) write(ctx context.Context, what string, ops ...any) (done []change, err error) {
	err = c.request(ctx, what, true, func() error {
		done, err = c.z.transact(c.id, ops...)
		return err
	})
	return done, err
}

// errNotReached is what ZooKeeper says of the operations after a refused one.
var errNotReached = errors.New("zk: unknown error: -2")

// transaction names what a multi does.
func transaction(ops []any) string {
	what := "its transaction"
	for _, op := range ops {
		switch op := op.(type) {
		case *zk.CreateRequest:
			if path.Dir(op.Path) == turnsNode {
				_, n, _ := strings.Cut(path.Base(op.Path)[35:], "-")
				what = "committing turn " + n
			}
		case *zk.CheckVersionRequest:
			if len(ops) == 1 {
				what = "asking a quorum"
			}
		case *zk.SetDataRequest:
			if len(ops) == 1 {
				what = "its entry"
			}
		}
	}
	return what
}
