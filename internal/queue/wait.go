package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
)

// Wait blocks until nobody is in our way, ctx ends, or the session is over. When it
// fails, the place was given up.
//
// The errors: ErrLost when somebody removed our place; the session's end; ctx's cause.
func (p *Place) Wait(ctx context.Context) error {
	for {
		after, err := p.Next(ctx)
		switch {
		case err == nil && after == 0:
			return nil
		case err != nil:
			p.GiveUp(err)
			return err
		}
	}
}

// GiveUp leaves after err, unless the place is gone anyhow.
func (p *Place) GiveUp(err error) {
	if !errors.Is(err, ErrLost) && p.line.Sess.Err() == nil {
		p.Leave()
	}
}

// Try is Wait, but does not wait: false when somebody is in our way.
func (p *Place) Try(ctx context.Context) (first bool, err error) {
	ahead, err := p.ahead(ctx)
	if err == nil {
		err = p.look(ctx)
	}
	if err != nil {
		p.GiveUp(err)
	}
	return err == nil && ahead == "", err
}

// Next blocks until it may be our turn. after is 0 when a list showed nobody in our way:
// whatever is read from then on, on whichever server, is no older than that list. Else
// the place just before ours, with the token after, has gone: that was the last one only
// if it had its turn, so look for what it did, or call Next again.
func (p *Place) Next(ctx context.Context) (after uint64, err error) {
	for {
		ahead, err := p.ahead(ctx)
		if err != nil {
			return 0, err
		}
		if err := p.look(ctx); err != nil {
			return 0, err
		}
		if ahead == "" {
			return 0, nil
		}
		token, gone, err := p.watch(ctx, ahead)
		if err != nil || gone {
			return token, err
		}
	}
}

// steady is ctx for a request.
func (l *Line) steady(ctx context.Context) context.Context {
	if l.Unwatched {
		return Steady(ctx)
	}
	return ctx
}

// look makes sure that our place is there and ours, and watches it. Of a place that is
// not watched it only learns the token.
func (p *Place) look(ctx context.Context) error {
	sess := p.line.Sess
	see := sess.Watch
	if p.line.Unwatched {
		if p.token != 0 {
			return nil
		}
		see = sess.Get
	}
	p.seen = sess.Connections()
	own, err := see(p.line.steady(ctx), p.Path())
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

// Recheck makes sure, after every wait, that our place is still there. As long as the
// connection is the same, its watch tells; else look again.
func (p *Place) Recheck(ctx context.Context) error {
	if p.line.Sess.Connections() == p.seen {
		select {
		case <-p.own:
		default:
			return nil
		}
	}
	return p.look(ctx)
}

// ahead finds the nearest place in our way, "" when there is none.
func (p *Place) ahead(ctx context.Context) (nearest string, err error) {
	names, err := p.line.Sess.Children(p.line.steady(ctx), p.line.Dir)
	if err != nil {
		return "", fmt.Errorf("list the queue: %w", err)
	}
	_, mine, _, _ := parseName(p.name)
	var best int32
	present := false
	for _, name := range names {
		present = present || name == p.name
		_, seq, shared, ok := parseName(name)
		switch {
		case !ok:
			p.line.Log.Warn("ignoring a foreign node in the queue", zap.String("node", name))
		case shared && p.shared: // beside each other
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
	sess := p.line.Sess
	node, err := sess.Watch(p.line.steady(ctx), path.Join(p.line.Dir, ahead))
	if errors.Is(err, zk.ErrNoNode) {
		return 0, false, nil // since the list; so make another
	}
	if err != nil {
		return 0, false, fmt.Errorf("watch the place ahead: %w", err)
	}
	if node.Stat.EphemeralOwner == 0 {
		p.line.Log.Warn("the place ahead belongs to no session and will not go by itself: agent evict removes it",
			zap.String("place", ahead))
	}
	who, died := p.line.diedAhead(node)
	for {
		select {
		case event := <-node.Watch:
			return uint64(node.Stat.Czxid), event.Type == zk.EventNodeDeleted, nil
		case <-p.own:
			return 0, false, nil // the next look says what it was
		case <-died:
			err := p.line.bury(ctx, ahead, node, who)
			if err == nil || Over(ctx, sess) {
				return 0, false, err // others may be before us: look again
			}
			p.line.Log.Warn("its place cannot be removed and goes with its session", zap.Error(err))
			died = nil
		case <-sess.Done():
			return 0, false, sess.Err()
		case <-ctx.Done():
			return 0, false, context.Cause(ctx)
		}
	}
}

// diedAhead is closed when the member whose place node is has died, as far as that can
// be known: it must be of our own machine, and have said by what its death is noticed.
// Otherwise it is nil.
func (l *Line) diedAhead(node session.Node) (m Member, died <-chan struct{}) {
	if l.Died == nil {
		return m, nil
	}
	if m, ok := l.readCard(node.Data); ok && m.Life != "" && m.BootID != "" && m.BootID == l.Who.BootID {
		return m, l.Died(m)
	}
	return m, nil
}

// readCard reads a place's card. When turns go round it is the same one again and again.
func (l *Line) readCard(data []byte) (m Member, ok bool) {
	if l.Unwatched && bytes.Equal(data, l.lastCard) {
		return l.lastMember, true
	}
	if json.Unmarshal(data, &m) != nil {
		return Member{}, false
	}
	if l.Unwatched { // then one goroutine has the line
		l.lastCard, l.lastMember = data, m
	}
	return m, true
}

// bury removes the place of a member that has died. On a nil error it is gone. It is
// always safe, see Evict, so that it does not matter whether the member has died.
func (l *Line) bury(ctx context.Context, place string, node session.Node, m Member) error {
	// Information only: it may have left well, and its process ended before we were told.
	l.Log.Info("who is before us has died: removing its place, without waiting for its session to expire",
		zap.String("agent", m.Agent), zap.String("host", m.Host), zap.String("place", place))
	if l.Bury != nil {
		return l.Bury(ctx, place, node, m)
	}
	return Evict(ctx, l.Sess, l.Dir, place)
}

// Guard gives a context that ends with ErrLost when the place is removed by others, with
// the session's cause when that is over, and with its own function. It is for when the
// turn has come; what it watches with is let go when it ends.
func (p *Place) Guard() (context.Context, context.CancelCauseFunc) {
	ctx, end := context.WithCancelCause(p.line.Sess.Context())
	go p.guard(ctx, end, p.own) // ends with ctx
	return ctx, end
}

func (p *Place) guard(ctx context.Context, end context.CancelCauseFunc, own <-chan zk.Event) {
	for {
		select {
		case <-own:
		case <-ctx.Done():
			return
		}
		if p.leaving.Load() {
			return
		}
		node, err := p.line.Sess.Watch(ctx, p.Path())
		if errors.Is(err, zk.ErrNoNode) {
			end(fmt.Errorf("%w: our place %s was removed", ErrLost, p.name))
		}
		if err != nil {
			return
		}
		own = node.Watch // somebody wrote into our place, which changes nothing
	}
}
