package elect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Session is what a Runner needs of a session: a *session.Session, or a simulated one.
type Session interface {
	queue.Session
	Close()
}

// Runner stands for an election again and again, across sessions. Dial, Dir and Who are
// required.
type Runner struct {
	// Dial gets a session that tells notify of its states.
	Dial func(ctx context.Context, notify func(session.State)) (Session, error)
	Dir  string
	Who  queue.Member
	Log  *zap.Logger

	// Lives, when set, tell of the death of candidates on this machine at once.
	Lives queue.Lifelines
	// Shared says that Lives are others' too, who sweep them.
	Shared bool
	// Events, when set, is told of each event in order, from one goroutine.
	Events func(Event)
}

// Run stands for election until lead says that it is enough, or ctx ends (nil then).
//
// lead is called whenever we are elected. Its context ends with the leadership or with
// ctx, and it must return then: we resign only when it has returned. When it returns
// while we lead, Run resigns and ends with lead's error. When the leadership ended under
// it, its error does not matter, and Run stands again.
//
// A session that is lost is followed by another, after a moment's jitter. That no server
// answers is an error for the first session only.
func (r *Runner) Run(ctx context.Context, lead func(context.Context, *Leadership) error) error {
	if r.Log == nil {
		r.Log = zap.NewNop()
	}
	events := newMailbox(r.Events)
	defer events.close()
	life := queue.BeginLife(r.Lives, uuid.NewString(), r.Log)
	defer life.End()
	for first := true; ; first = false {
		t := &term{Runner: r, life: life, events: events, lead: lead}
		err := t.attend(ctx)
		switch {
		case t.over:
			return t.result
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, session.ErrExpired) || !first && errors.Is(err, session.ErrUnavailable):
			r.Log.Warn("without a ZooKeeper session, asking for a new one", zap.Error(err))
		default:
			return err
		}
		select { // jitter, for all candidates lose their sessions together
		case <-time.After(rand.N(250 * time.Millisecond)):
		case <-ctx.Done():
			return nil
		}
	}
}

// term is a runner within one session.
type term struct {
	*Runner
	life   *queue.Life
	events *mailbox
	lead   func(context.Context, *Leadership) error
	lost   sync.Once

	over   bool // lead said that it is enough
	result error
}

// attend stands for election until the session is over or lead says that it is enough.
func (t *term) attend(ctx context.Context) error {
	sess, err := t.Dial(ctx, t.notify)
	if err != nil {
		return err
	}
	defer sess.Close()
	if !t.Shared {
		t.life.Sweep(func() ([]string, error) { return lives(ctx, sess, t.Dir) })
	}
	for {
		err = t.campaign(ctx, sess)
		if t.over {
			return nil
		}
		if ended := sess.Err(); ended != nil {
			return fmt.Errorf("%w: %w", ended, err) // whatever broke first
		}
		if !errors.Is(err, queue.ErrLost) {
			return err
		}
		t.Log.Warn("our candidacy was removed, standing again", zap.Error(err))
	}
}

// campaign stands once, and leads when elected. Its error says why we lead no more.
func (t *term) campaign(ctx context.Context, sess Session) error {
	who := t.Who
	who.Life = t.life.Name()
	election := Election{Sess: sess, Dir: t.Dir, Who: who, Log: t.Log, Died: t.life.Watch}
	l, err := election.Campaign(ctx)
	if err != nil {
		return err
	}
	t.events.put(Event{Kind: Elected, Token: l.Token()})
	leading, done := both(l.Context(), ctx)
	result := t.lead(leading, l)
	done()
	ended := l.Err()
	l.Close()
	why := ended
	switch {
	case errors.Is(ended, session.ErrExpired):
		t.notify(session.Lost) // it may not have told of it yet
	case ended == nil && ctx.Err() != nil:
		why = context.Cause(ctx)
	case ended == nil:
		t.over, t.result = true, result
		why = result
	}
	t.events.put(Event{Kind: Resigned, Token: l.Token(), Why: why})
	return why
}

// notify is told of the session's states, Lost once.
func (t *term) notify(s session.State) {
	if s == session.Lost {
		t.lost.Do(func() { t.events.put(Event{Kind: Lost}) })
		return
	}
	t.events.put(Event{Kind: Kind(s.String())})
}

// lives lists by what the deaths of an election's candidates are noticed.
func lives(ctx context.Context, sess queue.Session, dir string) (names []string, err error) {
	entries, err := queue.Look(ctx, sess, dir)
	for _, e := range entries {
		names = append(names, e.Life)
	}
	return names, err
}

// both is done, with its cause, when either a or b is.
func both(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(a)
	unhook := context.AfterFunc(b, func() { cancel(context.Cause(b)) })
	return ctx, func() { unhook(); cancel(context.Canceled) }
}
