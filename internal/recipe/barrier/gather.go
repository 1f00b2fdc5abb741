package barrier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// gathering is a wait for the round to be full.
type gathering struct {
	*round
	state state
	own   <-chan zk.Event
	first bool                    // to arrive
	near  <-chan zk.Event         // the list, when we are the first; else the member before us
	died  <-chan struct{}         // that member's process has, or the last one's
	dying string                  // its node
	seen  map[string]queue.Member // by node
}

// gather waits until the round is ready, and we are in it; errLate when we are not.
func (r *round) gather(ctx context.Context) (*Inside, error) {
	g := &gathering{round: r, seen: map[string]queue.Member{}}
	for {
		again, err := false, g.arm(ctx)
		switch {
		case err != nil:
		case g.state.State != open:
			return g.outcome(ctx)
		case g.near == nil:
			again, err = g.count(ctx)
		}
		if err != nil {
			return nil, g.explain(ctx, err)
		}
		if again {
			continue
		}
		select {
		case <-g.state.watch:
			g.state.watch = nil
		case <-g.own:
			g.own = nil
		case <-g.near:
			g.near = nil
		case <-g.died:
			if err := queue.Remove(ctx, r.Sess, r.node(g.dying)); err != nil {
				return nil, err
			}
			g.died, g.near = nil, nil
		case <-r.Sess.Done():
			return nil, r.Sess.Err()
		case <-ctx.Done():
			return nil, g.explain(ctx, context.Cause(ctx))
		}
	}
}

// explain says how far it came when ctx has ended.
func (g *gathering) explain(ctx context.Context, err error) error {
	err = g.cause(ctx, err)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("%d of %d were there: %w", max(1, len(g.seen)), g.Size, err)
	}
	return err
}

// arm looks at what has changed, and watches it again.
func (g *gathering) arm(ctx context.Context) (err error) {
	if g.own == nil {
		g.own, err = g.watchOwn(ctx)
	}
	if err == nil && g.state.watch == nil {
		g.state, err = g.look(ctx)
	}
	return err
}

// watchOwn makes sure that our node is there.
func (r *round) watchOwn(ctx context.Context) (<-chan zk.Event, error) {
	node, err := r.Sess.Watch(ctx, r.own())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, fmt.Errorf("%w: our node %s was removed", queue.ErrLost, r.own())
	}
	if err == nil && node.Stat.EphemeralOwner != r.Sess.ID() {
		err = fmt.Errorf("%w: our node %s belongs to another session", queue.ErrLost, r.own())
	}
	return node.Watch, err
}

// outcome is how the wait ended.
func (g *gathering) outcome(ctx context.Context) (*Inside, error) {
	s := g.state
	switch {
	case s.Members != nil && !slices.Contains(s.Members, g.name):
		return nil, errLate
	case s.State == ready:
		g.tell(g.Size)
		return g.inside(s, g.own), nil
	}
	if _, err := g.watchOwn(ctx); err != nil {
		return nil, err // that is why
	}
	return nil, fmt.Errorf("%w: %s", ErrBroken, s.Why)
}

// count lists who is there, and does what follows from it; unless again, it leaves a
// watch for what comes next.
func (g *gathering) count(ctx context.Context) (again bool, err error) {
	there, err := g.list(ctx)
	if err != nil {
		return false, err
	}
	at := slices.Index(there, g.name)
	if at < 0 {
		g.own = nil
		return true, nil
	}
	for node, who := range g.seen {
		if !slices.Contains(there, node) {
			return true, g.breakUp(ctx, label(who)+" died before all were there")
		}
	}
	for _, node := range there {
		if _, known := g.seen[node]; !known {
			g.seen[node] = queue.Member{Agent: "member " + node}
			if err := g.meet(ctx, node); err != nil {
				return false, err
			}
		}
	}
	if len(there) >= g.Size {
		return true, g.begin(ctx, there[:g.Size])
	}
	if g.first {
		g.listen(there[len(there)-1])
	} else {
		before, err := g.Sess.Watch(ctx, g.node(there[at-1]))
		if err != nil {
			return errors.Is(err, zk.ErrNoNode), unlessNoNode(err)
		}
		g.seen[there[at-1]], g.near = whose(before), before.Watch
		g.listen(there[at-1])
	}
	g.tell(len(there))
	return false, nil
}

func (g *gathering) tell(there int) {
	if g.Progress != nil {
		g.Progress(there)
	}
}

// list lists the members; the first one watches the list.
func (g *gathering) list(ctx context.Context) (there []string, err error) {
	var names []string
	if !g.first {
		names, err = g.Sess.Children(ctx, g.path())
		there = members(names)
		g.first = len(there) > 0 && there[0] == g.name
	}
	if g.first && err == nil {
		var node session.Node
		names, node, err = g.Sess.WatchChildren(ctx, g.path())
		there, g.near = members(names), node.Watch
	}
	if errors.Is(err, zk.ErrNoNode) {
		err = fmt.Errorf("%w: the round's node %s was removed", queue.ErrLost, g.path())
	}
	return there, err
}

// meet learns who a member is, if we are the first, who will have to name the dead.
func (g *gathering) meet(ctx context.Context, name string) error {
	if !g.first || name == g.name {
		return nil
	}
	node, err := g.Sess.Get(ctx, g.node(name))
	if err == nil {
		g.seen[name] = whose(node)
	}
	return unlessNoNode(err) // the next list will show it
}

// breakUp breaks the round. It must be looked at again.
func (g *gathering) breakUp(ctx context.Context, why string) error {
	return g.turn(ctx, state{State: broken, Why: why})
}

// begin makes the round ready, if all are there. It must be looked at again, and they too.
func (g *gathering) begin(ctx context.Context, all []string) error {
	ops := make([]any, 0, len(all)+2)
	for _, name := range all {
		ops = append(ops, &zk.CheckVersionRequest{Path: g.node(name), Version: -1})
	}
	return g.turn(ctx, state{State: ready, Members: all}, ops...)
}

func (g *gathering) turn(ctx context.Context, to state, ops ...any) error {
	err := g.change(ctx, g.state, to, ops...)
	g.state.watch, g.near = nil, nil
	if errors.Is(err, zk.ErrNoNode) || settled(err) && err != nil {
		queue.Pause(ctx, g.Sess)
		return nil
	}
	return err
}

// listen listens for the death of a member, where that can be heard.
func (g *gathering) listen(name string) {
	g.died, g.dying = g.diedOf(g.seen[name]), name
}

// diedOf is closed when a member of this machine has died, nil when that can't be known.
func (b *Barrier) diedOf(who queue.Member) <-chan struct{} {
	if b.Died == nil || who.Life == "" || who.Life == b.Who.Life || who.BootID == "" || who.BootID != b.Who.BootID {
		return nil
	}
	return b.Died(who)
}

// whose reads a member's card.
func whose(node session.Node) (who queue.Member) {
	_ = json.Unmarshal(node.Data, &who) // one that cannot be read is a member all the same
	return who
}
