package sim

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
)

// client is a session as its agent has it: what session.Session is in life.
type client struct {
	p   *proc
	z   *zookeeper
	id  int64
	ctx context.Context
	end context.CancelCauseFunc

	gone      bool      // ended in ZooKeeper
	left      time.Time // since when its agent does not use it any more
	doomed    bool      // its deadline has passed, and nobody has looked yet
	connected bool
	conns     uint64
	server    *server
	seen      int // the newest part of the history that an answer told of

	watches []*watch
	rewatch bool // connected anew, and the watches are not set again yet
	pending []event
}

type watch struct {
	path  string
	ch    chan zk.Event
	there bool // the node was there when the watch was set
}

type event struct {
	*watch
	kind zk.EventType
}

func newClient(p *proc, id int64) *client {
	c := &client{p: p, z: p.w.zk, id: id}
	c.ctx, c.end = context.WithCancelCause(context.Background())
	return c
}

func (c *client) attach(s *server) {
	c.server, c.connected = s, true
	c.conns++
	c.rewatch = len(c.watches) > 0
}

func (c *client) over() bool { return c.ctx.Err() != nil }

// disconnect breaks the connection. Events that were on their way are lost with it, but
// the client knows which watches it had.
func (c *client) disconnect() {
	if !c.connected {
		return
	}
	c.connected = false
	for _, e := range c.pending {
		c.watches = append(c.watches, e.watch)
	}
	c.pending = nil
	c.p.w.tell("%s loses its connection", c.p.name)
}

// reconnect finds a server that is not behind what the client has seen. It returns false
// when the session is over.
func (c *client) reconnect() bool {
	if c.gone {
		c.expire("ZooKeeper says that the session is gone")
		return false
	}
	s := c.z.servers[c.p.w.tape.pick(2)]
	if s.applied < c.seen {
		s = c.z.leader()
	}
	c.attach(s)
	c.p.w.tell("%s is connected again, to %s", c.p.name, s.name)
	return true
}

// setWatches sets the watches again, and learns of what was missed.
func (c *client) setWatches() {
	c.rewatch = false
	since := int64(0)
	if c.seen > 0 {
		since = c.z.history[c.seen-1].zxid
	}
	for _, w := range slices.Clone(c.watches) {
		switch node := c.server.nodes[w.path]; {
		case node == nil && w.there:
			c.fire(w.path, zk.EventNodeDeleted)
		case node != nil && !w.there:
			c.fire(w.path, zk.EventNodeCreated)
		case node != nil && node.mzxid > since:
			c.fire(w.path, zk.EventNodeDataChanged)
		}
	}
}

// fire puts an event on its way to every watch of the path.
func (c *client) fire(node string, kind zk.EventType) {
	c.watches = slices.DeleteFunc(c.watches, func(w *watch) bool {
		if w.path == node {
			c.pending = append(c.pending, event{w, kind})
		}
		return w.path == node
	})
}

// deliver delivers one event.
func (c *client) deliver() {
	e := c.pending[0]
	c.pending = c.pending[1:]
	c.p.w.tell("%s hears that %s: %v", c.p.name, path.Base(e.path), e.kind)
	e.ch <- zk.Event{Type: e.kind, Path: e.path}
	close(e.ch)
}

// expire ends the session for its agent.
func (c *client) expire(why string) {
	if c.over() {
		return
	}
	c.p.w.tell("%s knows that its session is over: %s", c.p.name, why)
	c.end(fmt.Errorf("%w: %s", session.ErrExpired, why))
	c.cut()
	for _, w := range c.watches {
		c.pending = append(c.pending, event{w, zk.EventNotWatching})
	}
	c.watches = nil
}

// cut is the end of the agent's side, for whatever reason.
func (c *client) cut() {
	c.left = time.Now()
	c.disconnect()
	c.end(session.ErrExpired)
}

// request is one request and its answer. A read is repeated until it is answered, as
// session's are; a write is sent once.
func (c *client) request(ctx context.Context, what string, write bool, do func() error) error {
	for {
		c.p.step(what)
		if err := c.ready(ctx); err != nil {
			return err
		}
		if !c.connected && !c.reconnect() {
			return c.err()
		}
		if c.gone && (write || c.server.knowsEnd(c.id)) {
			c.expire("ZooKeeper says that the session is gone")
			return c.err()
		}
		wear := c.p.w.wear
		if strings.HasPrefix(what, "committing") { // what depends on the others is dull beside it
			wear = max(2, wear/6)
		}
		if c.p.w.breaksOnce(network, wear) {
			if write {
				return c.lose(what, do)
			}
			c.disconnect()
			continue
		}
		err := do()
		if write {
			c.server.applyTo(len(c.z.history))
		}
		c.seen = max(c.seen, c.server.applied)
		if c.p.w.story != nil {
			c.p.w.tell("%s: %s: %v", c.p.name, what, answer{err})
		}
		c.hear()
		c.p.step("going on with an answer") // for it may be paused there, or overtaken
		return err
	}
}

// answer is an error as a story tells it.
type answer struct{ err error }

func (a answer) String() string {
	if a.err == nil {
		return "done"
	}
	return a.err.Error()
}

func (c *client) ready(ctx context.Context) error {
	if err := c.err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// hear delivers what came before an answer: a server's events come first.
func (c *client) hear() {
	if len(c.pending) == 0 || c.rewatch {
		return
	}
	c.p.w.pass() // whom an event wakes must not run at the same time as we do
	for len(c.pending) > 0 && !c.over() {
		c.deliver()
	}
	c.p.yield("going on with an answer")
}

// lose lets a write and its answer meet a connection that breaks.
func (c *client) lose(what string, write func() error) error {
	w := c.p.w
	switch w.tape.pick(5) {
	case 0:
		w.tell("%s: %s: lost on its way", c.p.name, what)
	case 1:
		err := write()
		w.tell("%s: %s: %v; the answer is lost", c.p.name, what, answer{err})
	case 2:
		w.tell("%s: %s: no answer; it is still under way", c.p.name, what)
		c.z.flights = append(c.z.flights, flight{c, c.conns, what, write})
	case 3:
		w.tell("%s: %s: no answer until the session is over; it is still under way", c.p.name, what)
		c.z.flights = append(c.z.flights, flight{c, c.conns, what, write})
		c.expire("no answer from ZooKeeper before the session's deadline")
		return c.err()
	case 4:
		w.tell("%s: %s: lost on its way, and with it the session, as will be seen next", c.p.name, what)
		c.doomed = true
	}
	c.disconnect()
	return session.ErrBroken
}
