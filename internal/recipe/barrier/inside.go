package barrier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Inside is what a member has between entering and leaving. It must be ended by Leave or
// Close.
type Inside struct {
	round   *round
	members []string // in the order of their arrival

	ctx   context.Context
	end   context.CancelCauseFunc
	left  atomic.Bool   // our marker is there
	all   chan struct{} // closed when the round is done
	guard sync.WaitGroup
	once  sync.Once
}

func (r *round) inside(s state, own <-chan zk.Event) *Inside {
	in := &Inside{round: r, members: s.Members, all: make(chan struct{})}
	in.ctx, in.end = context.WithCancelCause(r.Sess.Context())
	w := &guarding{Inside: in, state: s, own: own, before: in.previous(r.name)}
	in.guard.Go(w.run) // ends with ctx, or when the round is done; Close waits for it
	return in
}

// Context ends when the round breaks (ErrBroken, with who and why), when somebody removes
// our node (queue.ErrLost), with the session, and after Leave and Close.
func (in *Inside) Context() context.Context { return in.ctx }

// Leave says that we leave, waits until all have, and ends the Inside. It says so even when
// ctx has ended, but then does not wait. A nil error promises that all members called Leave.
//
// The errors: ErrBroken, when another died or gave up before it left; queue.ErrLost; the
// session's end; ctx's cause, which breaks nothing for the others.
func (in *Inside) Leave(ctx context.Context) error {
	defer in.Close()
	err := in.mark(ctx)
	if err == nil {
		select {
		case <-in.all:
			return nil
		case <-in.ctx.Done():
			err = in.ctx.Err()
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	select {
	case <-in.all:
		return nil
	default:
	}
	if in.ctx.Err() != nil {
		err = context.Cause(in.ctx)
	}
	return fmt.Errorf("leave the barrier: %w", err)
}

// Close gives up, and so breaks the round for the others, unless we have left it or it is
// over. It works though the caller's context has ended, takes less than a second, and may
// be called again.
func (in *Inside) Close() {
	in.once.Do(func() {
		in.end(context.Canceled)
		in.guard.Wait()
		in.round.depart(label(in.round.Who)+" gave up inside", in.left.Load())
	})
}

// mark says that we leave, and counts; also when ctx has ended, but then in a hurry.
func (in *Inside) mark(ctx context.Context) error {
	err := in.tryMark(ctx)
	if err != nil && ctx.Err() != nil && in.ctx.Err() == nil {
		hurry, cancel := context.WithTimeout(context.WithoutCancel(ctx), queue.Cleanup)
		defer cancel()
		err = in.tryMark(hurry)
	}
	return err
}

func (in *Inside) tryMark(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(in.ctx, func() { cancel(context.Cause(in.ctx)) })()
	r := in.round
	for {
		_, err := r.Sess.Multi(ctx,
			&zk.CheckVersionRequest{Path: r.own(), Version: -1},
			&zk.CreateRequest{Path: r.marker(r.name), Data: r.card(), Acl: r.Sess.ACL()})
		switch {
		case err == nil, errors.Is(err, zk.ErrNodeExists): // our answer was lost
			in.left.Store(true)
			return in.count(ctx)
		case errors.Is(err, zk.ErrNoNode):
			return fmt.Errorf("%w: our node %s was removed", queue.ErrLost, r.own())
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, r.Sess):
			return err
		}
		queue.Pause(ctx, r.Sess)
	}
}

// count makes the round done if all have left.
func (in *Inside) count(ctx context.Context) error {
	r := in.round
	for {
		names, err := r.Sess.Children(ctx, r.path())
		if err != nil { // a round that is gone was over
			return unlessNoNode(err)
		}
		if slices.ContainsFunc(in.members, func(m string) bool { return !slices.Contains(names, leftPrefix+idOf(m)) }) {
			return nil
		}
		node, err := r.Sess.Get(ctx, r.path())
		if err != nil {
			return unlessNoNode(err)
		}
		s := parse(node)
		if s.State != ready {
			return nil // the guard will hear of it
		}
		if err := r.change(ctx, s, state{State: done}); !settled(err) {
			return unlessNoNode(err)
		}
	}
}

// previous is who arrived before the member; before the first, the last.
func (in *Inside) previous(name string) string {
	at := slices.Index(in.members, name)
	return in.members[(at+len(in.members)-1)%len(in.members)]
}

// guarding watches over a round from within.
type guarding struct {
	*Inside
	state  state
	own    <-chan zk.Event
	before string // the member whose death we look for; ourselves when there is none
	near   <-chan zk.Event
	who    queue.Member
	died   <-chan struct{}
}

func (g *guarding) run() {
	for {
		over, err := g.arm()
		if err != nil {
			g.end(err)
		}
		if over || err != nil {
			return
		}
		select {
		case <-g.state.watch:
			g.state.watch = nil
		case <-g.own:
			g.own = nil
		case <-g.near:
			g.near = nil
		case <-g.died:
			g.died = nil
			if err := queue.Remove(g.ctx, g.round.Sess, g.round.node(g.before)); err != nil {
				g.end(err)
				return
			}
		case <-g.ctx.Done():
			return
		}
	}
}

// arm looks at what has changed, and watches it again. An error ends us.
func (g *guarding) arm() (over bool, err error) {
	for {
		if g.state.watch == nil {
			if g.state, err = g.round.look(g.ctx); err != nil {
				return false, err
			}
		}
		switch g.state.State {
		case done:
			close(g.all)
			return true, nil
		case broken:
			if _, err := g.round.watchOwn(g.ctx); err != nil {
				return false, err // that is why
			}
			return false, fmt.Errorf("%w: %s", ErrBroken, g.state.Why)
		}
		if g.own == nil {
			if g.own, err = g.round.watchOwn(g.ctx); err != nil {
				return false, err
			}
		}
		if g.near != nil || g.before == g.round.name {
			return false, nil
		}
		node, err := g.round.Sess.Watch(g.ctx, g.round.node(g.before))
		switch {
		case err == nil:
			g.near, g.who = node.Watch, whose(node)
			g.died = g.round.diedOf(g.who)
		case !errors.Is(err, zk.ErrNoNode):
			return false, err
		default:
			if err := g.bury(); err != nil {
				return false, err
			}
		}
	}
}

// bury deals with a member whose node is gone: it died, which breaks the round, or it had
// left, and then there is one before it to look after.
func (g *guarding) bury() error {
	r := g.round
	if g.who.Agent == "" { // gone before we met it
		g.who.Agent = "member " + g.before
	}
	err := r.change(g.ctx, g.state, state{State: broken, Why: label(g.who) + " died inside"},
		&zk.CreateRequest{Path: r.marker(g.before), Acl: r.Sess.ACL()},
		&zk.DeleteRequest{Path: r.marker(g.before), Version: -1})
	switch {
	case errors.Is(err, zk.ErrNodeExists):
		g.before, g.who = g.previous(g.before), queue.Member{}
		return g.count(g.ctx)
	case settled(err), errors.Is(err, zk.ErrNoNode):
		g.state.watch = nil
		if err != nil {
			queue.Pause(g.ctx, r.Sess)
		}
		return nil
	}
	return err
}
