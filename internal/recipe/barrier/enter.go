package barrier

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// errLate says that the round began without us.
var errLate = errors.New("the round began without us")

// arrive makes our node in the round that is open. When it fails, there is none, or the
// session is discarded.
func (b *Barrier) arrive(ctx context.Context) (*round, error) {
	id := queue.NewID()
	for {
		r, s, exists, err := b.current(ctx)
		if err != nil {
			return nil, err
		}
		r.id = id
		member := &zk.CreateRequest{
			Path: r.node(id) + "-", Data: b.card(), Acl: b.Sess.ACL(), Flags: zk.FlagEphemeral | zk.FlagSequence,
		}
		var ops []any
		switch {
		case !exists:
			first := encode(state{State: open, Size: b.Size, By: label(b.Who)})
			ops = []any{
				&zk.CheckVersionRequest{Path: b.Dir, Version: r.number},
				&zk.CreateRequest{Path: r.path(), Data: first, Acl: b.Sess.ACL()}, member,
			}
		case s.State != open || s.Size != b.Size:
			if err := r.moveOn(ctx, s); err != nil {
				return nil, err
			}
			continue
		default:
			ops = []any{&zk.CheckVersionRequest{Path: r.path(), Version: s.version}, member}
		}
		results, err := b.Sess.Multi(ctx, ops...)
		switch {
		case err == nil:
			r.name = path.Base(results[len(results)-1].String)
		case errors.Is(err, session.ErrBroken) && !queue.Over(ctx, b.Sess):
			// The answer was lost with the connection; the node may be there.
			if r.name, err = r.find(ctx); err == nil && r.name == "" {
				continue
			}
		case errors.Is(err, zk.ErrBadVersion), errors.Is(err, zk.ErrNodeExists), errors.Is(err, zk.ErrNoNode):
			continue // another was quicker
		}
		if err != nil {
			if !session.Definite(err) {
				r.tidy()
			}
			return nil, b.cause(ctx, err)
		}
		if !exists {
			r.sweepBefore(ctx)
		}
		return r, nil
	}
}

// cause is why there was no time to ask again after the connection broke.
func (b *Barrier) cause(ctx context.Context, err error) error {
	switch {
	case !errors.Is(err, session.ErrBroken):
	case b.Sess.Err() != nil:
		return b.Sess.Err()
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// current finds the round that the directory tells of.
func (b *Barrier) current(ctx context.Context) (r *round, s state, exists bool, err error) {
	dir, err := b.Sess.Get(ctx, b.Dir)
	if errors.Is(err, zk.ErrNoNode) {
		if err = queue.EnsurePath(ctx, b.Sess, b.Dir); err == nil {
			dir, err = b.Sess.Get(ctx, b.Dir)
		}
	}
	if err != nil {
		return nil, state{}, false, err
	}
	r = &round{Barrier: b, number: dir.Stat.Version}
	node, err := b.Sess.Get(ctx, r.path())
	switch {
	case errors.Is(err, zk.ErrNoNode):
		return r, state{}, false, nil
	case err != nil:
		return nil, state{}, false, err
	}
	return r, parse(node), true, nil
}

// moveOn moves the directory past a round that cannot be entered. One that is open for
// another number is left alone while anybody waits in it: that is ErrSize.
func (r *round) moveOn(ctx context.Context, s state) error {
	ops := []any{&zk.SetDataRequest{Path: r.Dir, Version: r.number}}
	if s.State == open {
		// What was read may be old: make sure.
		_, err := r.Sess.Multi(ctx, &zk.CheckVersionRequest{Path: r.path(), Version: s.version})
		if settled(err) && err != nil || errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		var names []string
		if err == nil {
			names, err = r.Sess.Children(ctx, r.path())
		}
		if err != nil && !errors.Is(err, zk.ErrNoNode) {
			return err
		}
		if len(members(names)) > 0 {
			return fmt.Errorf("%w: %s waits here for %d, %s for %d; give all the same number", ErrSize, s.By, s.Size, label(r.Who), r.Size)
		}
		ops = append(ops, &zk.SetDataRequest{ // so that nobody can enter it any more
			Path: r.path(), Version: s.version, Data: encode(state{State: broken, Size: s.Size, By: s.By, Why: "all its members are gone"}),
		})
	}
	_, err := r.Sess.Multi(ctx, ops...)
	if settled(err) || errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}

// find looks for our node by its GUID; "" when there is none. Our create may have gone
// through another server than the read will.
func (r *round) find(ctx context.Context) (string, error) {
	err := queue.Barrier(ctx, r.Sess, r.path())
	if err == nil {
		var names []string
		names, err = r.Sess.Children(ctx, r.path())
		for _, name := range names {
			if strings.HasPrefix(name, r.id) && memberName.MatchString(name) {
				return name, nil
			}
		}
	}
	if errors.Is(err, zk.ErrNoNode) {
		err = nil
	}
	return "", err
}

// tidy is depart for when it is not known whether we have a node.
func (r *round) tidy() {
	ctx, cancel := context.WithTimeout(r.Sess.Context(), queue.Cleanup)
	name, err := r.find(ctx)
	cancel()
	switch {
	case err == nil && name != "":
		r.name = name
		r.depart(label(r.Who)+" gave up", false)
	case err != nil && r.Sess.Err() == nil:
		r.Sess.Discard(fmt.Sprintf("a node may be left at the barrier: %v", err))
	}
}
