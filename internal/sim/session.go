package sim

import (
	"context"
	"path"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/session"
)

// Here a client promises what session.Session does: it is a fleet.Session.

func (c *client) ID() int64                { return c.id }
func (c *client) ACL() []zk.ACL            { return nil }
func (c *client) Connections() uint64      { return c.conns }
func (c *client) Context() context.Context { return c.ctx }
func (c *client) Done() <-chan struct{}    { return c.ctx.Done() }
func (c *client) Timeout() time.Duration   { return 10 * time.Second }
func (c *client) Discard(why string)       { c.p.stopIfDead(); c.expire(why) }

func (c *client) Err() error {
	c.p.stopIfDead()
	if c.doomed {
		c.expire("no answer from ZooKeeper before the session's deadline")
	}
	return context.Cause(c.ctx)
}

func (c *client) Close() {
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
	if there == nil {
		return session.Node{}, zk.ErrNoNode
	}
	return session.Node{Data: there.data, Stat: there.stat()}, nil
}

// Watch is what a hold's guard begins with, beside its holder.
func (c *client) Watch(ctx context.Context, node string) (n session.Node, err error) {
	if err := c.ready(ctx); err != nil {
		return session.Node{}, err
	}
	c.p.queueUp("watching "+path.Base(node), nil)
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
	done, err := c.write(ctx, "its transaction", ops...)
	if err != nil {
		return nil, err
	}
	var results []zk.MultiResponse
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
	if err != nil {
		return nil, err
	}
	return done, nil
}
