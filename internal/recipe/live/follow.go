package live

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Session is what following and changing need of a session: a *session.Session.
type Session interface {
	queue.Session
	Close()
}

// Renewed gives a channel for Watch, and what sends to it: for session.Options.Notify.
func Renewed() (connected chan struct{}, notify func(session.State)) {
	connected = make(chan struct{}, 1)
	return connected, func(s session.State) {
		if s != session.Connected {
			return
		}
		select {
		case connected <- struct{}{}:
		default: // it will be looked after the one that waits
		}
	}
}

// Follower watches a node over as many sessions as it takes. All fields are required.
type Follower struct {
	// Dial gives a session that tells its states to notify.
	Dial func(ctx context.Context, notify func(session.State)) (Session, error)
	Node string
	// Apply is called with the node as it is and with every later state, one at a time;
	// see Watch.
	Apply func(Snapshot)
	// Trouble is told why there is no session, or no longer: meanwhile what was applied
	// last may be old. Follow ends with what it returns, and goes on when that is nil.
	Trouble func(error) error
}

// Follow goes on until ctx ends, whose cause it returns, until Trouble ends it, or until
// ZooKeeper or the settings say that it cannot be.
func (f Follower) Follow(ctx context.Context) error {
	f.Apply = changes(f.Apply)
	for {
		err := f.attend(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, session.ErrExpired) && !errors.Is(err, session.ErrUnavailable) {
			return err
		}
		if err := f.Trouble(err); err != nil {
			return err
		}
		select { // jitter, for all lose their sessions together
		case <-time.After(rand.N(250 * time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

// attend follows within one session.
func (f Follower) attend(ctx context.Context) error {
	connected, notify := Renewed()
	sess, err := f.Dial(ctx, notify)
	if err != nil {
		return err
	}
	defer sess.Close()
	select { // the connection it has now is looked at anyhow
	case <-connected:
	default:
	}
	err = Watch(ctx, sess, f.Node, connected, f.Apply)
	if over := sess.Err(); over != nil && ctx.Err() == nil {
		return over // the connection may have broken first
	}
	return err
}
