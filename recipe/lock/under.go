package lock

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Kind is how a lock is had.
type Kind string

const (
	Exclusive Kind = "exclusive"
	Shared    Kind = "shared"
	Slots     Kind = "slots"
)

// where recognises Held.Where's, whoever hands it in: nothing else may become a path.
var where = regexp.MustCompile(`^(?:line/[0-9a-f]{32}(-shared)?-\d{10}|slots/taken/([1-9]\d{0,3}))$`)

// Under gives what whoever started us holds already, as its Where and Token tell, so that
// it need not be waited for, which would be for ever. Nothing is taken, and Close gives
// nothing up. Context ends with queue.ErrLost when the node goes.
//
// The errors: queue.ErrLost when it is not held any more; ErrUpgrade, ErrMixed when it is
// held in a manner that is not what is wanted; the session's end; ctx's cause.
func (l *Lock) Under(ctx context.Context, at string, token uint64, want Kind) (*Held, error) {
	m := where.FindStringSubmatch(at)
	if m == nil {
		return nil, fmt.Errorf("%q is no place of a lock", at)
	}
	have := Exclusive
	switch {
	case m[2] != "":
		have = Slots
	case m[1] != "":
		have = Shared
	}
	switch {
	case (have == Slots) != (want == Slots):
		return nil, fmt.Errorf("%w: who started us has it (%s), and %s is wanted", ErrMixed, have, want)
	case have == Shared && want == Exclusive:
		return nil, fmt.Errorf("%w: who started us has it shared, and we would wait for each other for ever", ErrUpgrade)
	}
	// It may have been taken through another server than this look goes to.
	if err := queue.Barrier(ctx, l.Sess, l.Dir); err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, err
	}
	u := &under{sess: l.Sess, node: path.Join(l.Dir, at), token: token}
	node, err := u.look(ctx)
	if err != nil {
		return nil, err
	}
	held := &Held{token: token, where: at, leave: func() {}}
	held.slot, _ = strconv.Atoi(m[2])
	held.ctx, held.end = context.WithCancelCause(l.Sess.Context())
	go u.guard(held.ctx, held.end, node.Watch) // ends with held.ctx
	return held, nil
}

// under is another's hold that we work under.
type under struct {
	sess  *session.Session
	node  string
	token uint64
}

func (u *under) look(ctx context.Context) (session.Node, error) {
	node, err := u.sess.Watch(ctx, u.node)
	if errors.Is(err, zk.ErrNoNode) || err == nil && uint64(node.Stat.Czxid) != u.token {
		return node, fmt.Errorf("%w: who started us does not hold it any more", queue.ErrLost)
	}
	return node, err
}

func (u *under) guard(ctx context.Context, end context.CancelCauseFunc, changed <-chan zk.Event) {
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		node, err := u.look(ctx)
		if errors.Is(err, queue.ErrLost) {
			end(err)
		}
		if err != nil {
			return
		}
		changed = node.Watch // somebody wrote into the node, which changes nothing
	}
}
