// Package elect is leader election over ZooKeeper: of all who stand for an election one
// leads, and when it ends, the one that has waited longest is next.
//
// An election is a line (package queue) in which a place is a candidacy and the first
// place is the lead. So a candidate watches only who is just before it, and the end of
// one wakes one.
//
// # What is promised
//
// Leadership is a context. It ends when the leader resigns, when its candidacy is removed
// by others, and when its session ends, which by the session's own deadline (package
// session) is before ZooKeeper could give the lead away: as long as a process runs, two
// leaders never have a live context at once.
//
// # What is not
//
// A process may be stopped between a look at its context and what it does then. What must
// not be done by a leader that was deposed meanwhile needs a guard of its own: in
// ZooKeeper Leadership.Check, as a part of the same transaction; elsewhere Token, which
// rises from leader to leader.
package elect

import (
	"context"
	"fmt"
	"path"
	"sync"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// Election is an election, seen through one session. Sess, Dir and Who are required.
type Election struct {
	Sess queue.Session
	Dir  string // its node, which is made if it is missing, and must never be deleted
	Who  queue.Member
	Log  *zap.Logger
	Died func(queue.Member) <-chan struct{} // see queue.Line
}

// Campaign waits until we lead, ctx ends or the session is over. When it fails, no
// candidacy is left behind, or the session is discarded and takes it along.
//
// The errors: queue.ErrLost when somebody removed our candidacy, so that another may be
// begun; the session's end; ctx's cause.
func (e *Election) Campaign(ctx context.Context) (*Leadership, error) {
	log := e.Log
	if log == nil {
		log = zap.NewNop()
	}
	if err := queue.EnsurePath(ctx, e.Sess, e.Dir); err != nil {
		return nil, fmt.Errorf("make the election's node: %w", err)
	}
	line := &queue.Line{Sess: e.Sess, Dir: e.Dir, Who: e.Who, Log: log, Died: e.Died}
	place, err := line.Join(ctx)
	if err != nil {
		return nil, fmt.Errorf("stand for election: %w", err)
	}
	if err := place.Wait(ctx); err != nil {
		return nil, fmt.Errorf("wait to be elected: %w", err)
	}
	l := &Leadership{sess: e.Sess, dir: e.Dir, place: place}
	l.ctx, l.end = place.Guard()
	return l, nil
}

// Leadership is what a leader has until Close.
type Leadership struct {
	sess  queue.Session
	dir   string
	place *queue.Place
	ctx   context.Context
	end   context.CancelCauseFunc
	close sync.Once
}

// Context is done when we lead no more. context.Cause tells why: queue.ErrLost when our
// candidacy was removed by others, the session's end, context.Canceled after Close.
func (l *Leadership) Context() context.Context { return l.ctx }

// Token is the fencing token: it is higher than every earlier leader's.
func (l *Leadership) Token() uint64 { return l.place.Token() }

// Err is nil while we lead, then the context's cause. It looks at the clock itself, so it
// is right even just after this process was stopped.
func (l *Leadership) Err() error {
	if l.ctx.Err() == nil {
		return l.sess.Err()
	}
	return context.Cause(l.ctx)
}

// Check is an operation for a transaction, which fails as a whole with zk.ErrNoNode when
// we lead no more.
func (l *Leadership) Check() *zk.CheckVersionRequest {
	return &zk.CheckVersionRequest{Path: path.Join(l.dir, l.place.Name()), Version: -1}
}

// Session is the one through which we lead.
func (l *Leadership) Session() queue.Session { return l.sess }

// Close resigns: the context ends first, then the next candidate leads. What was done
// under the context should have ended before. It works though the caller's own context
// has ended, takes less than a second, and may be called again.
func (l *Leadership) Close() {
	l.close.Do(func() {
		l.end(context.Canceled)
		l.place.Leave()
	})
}

// Look lists an election's candidates, the leader first. Whoever is Foreign is none, and
// comes last.
func Look(ctx context.Context, sess queue.Session, dir string) ([]queue.Entry, error) {
	return queue.Look(ctx, sess, dir)
}
