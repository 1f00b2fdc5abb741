// Package fleet is the agent's life: it enters the fleet, takes its turns, and
// carries records from a Source through the lock and the writer to their
// acknowledgement.
//
//	Source → filelock.Place → filelock.Hold → writer.Append → Hold.Commit → Source.Ack
//
// What it promises: a record is acknowledged only when it is on disk and committed,
// and is never written again before it is known that an earlier writing of it did
// not count. A session that is lost, a turn that is lost and a place that was
// evicted are everyday events here: the agent begins again. Only what needs a
// person ends it: a refusal, a halt, a disk that fails.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// ErrUnsettled says that the agent had to stop while the outcome of its last
// commit was unknown: its records may be in the file.
var ErrUnsettled = errors.New("stopped before the outcome of the last commit was known")

// ErrUnacknowledged says that a turn is committed, so that its records are in the file,
// and that its acknowledgement failed.
var ErrUnacknowledged = errors.New("committed, but not acknowledged")

// Session is what an agent needs of a ZooKeeper session: a *session.Session, or a
// simulated one.
type Session interface {
	filelock.Session
	Timeout() time.Duration
	Close()
}

// Options for an agent. All but Name, Lives, Acks and Log are required.
type Options struct {
	Dial   func(context.Context) (Session, error)
	Root   filelock.Root
	Name   string // empty: the lowest free agent-N
	Host   string
	BootID string
	Open   func(agent string) (*writer.File, error)
	Lives  queue.Lifelines // nil: a death is noticed when the session expires
	Source Source
	Acks   *AckLog
	Log    *zap.Logger
}

// Agent is one member of the fleet.
type Agent struct {
	Options
	run   string
	life  *queue.Life  // while Run runs
	name  string       // the one it has or had last
	file  *writer.File // opened under that name
	doubt *doubt       // a commit whose outcome is unknown
	turns int          // acknowledged
	count int          // records acknowledged
}

// New makes an agent that is not yet in any fleet.
func New(opts Options) *Agent {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	return &Agent{Options: opts, run: uuid.NewString()}
}

// Called is the agent's name in the fleet, empty before it has one.
func (a *Agent) Called() string { return a.name }

// Acknowledged is how many turns and records were acknowledged so far.
func (a *Agent) Acknowledged() (turns, records int) { return a.turns, a.count }

// Run takes turns until the source ends (nil), ctx is done (nil; what is pending
// the caller asks the source), or something needs a person. A turn that is under
// way when ctx ends is brought to its end, within a second.
func (a *Agent) Run(ctx context.Context) error {
	a.life = queue.BeginLife(a.Lives, a.run, a.Log)
	defer a.life.End()
	defer func() {
		if a.file != nil {
			a.file.Close()
		}
	}()
	for first := true; ; first = false {
		err := a.attend(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, ErrUnacknowledged):
			return err
		case ctx.Err() != nil && a.doubt != nil:
			return fmt.Errorf("%w: %d records, turn %d", ErrUnsettled, len(a.doubt.records), a.doubt.out.Head.Turn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, session.ErrExpired) || !first && errors.Is(err, session.ErrUnavailable):
			a.Log.Warn("not writing: fenced off without a ZooKeeper session, asking for a new one", zap.Error(err))
		default:
			return err
		}
		select { // jitter, for the whole fleet loses its sessions together
		case <-time.After(rand.N(250 * time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

// attend is the agent's life within one session. An error that came with the session's
// end is, among others, the session's.
func (a *Agent) attend(ctx context.Context) error {
	sess, err := a.Dial(ctx)
	if err != nil {
		return err
	}
	defer sess.Close()
	err = a.serve(ctx, sess)
	if ended := sess.Err(); errors.Is(err, session.ErrBroken) && ended != nil {
		err = fmt.Errorf("%w: %w", ended, err) // the connection broke first, and that was told
	}
	return err
}

func (a *Agent) serve(ctx context.Context, sess Session) error {
	queue, err := a.enter(ctx, sess)
	if err != nil {
		return err
	}
	if err := a.settle(ctx, queue); err != nil {
		return err
	}
	var place *filelock.Place
	for {
		if place == nil {
			if err := a.await(ctx, sess); err != nil {
				return err
			}
			if place, err = queue.Join(ctx); err != nil {
				return err
			}
		}
		place, err = a.next(ctx, queue, place)
		if err != nil {
			return err
		}
	}
}

// await waits for the source, and no longer than the session lasts: an agent that has
// nothing to write, or is paused, is in the fleet all the same.
func (a *Agent) await(ctx context.Context, sess Session) error {
	waiting, done := both(sess.Context(), ctx)
	defer done()
	err := a.Source.Wait(waiting)
	var record *RecordError
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &record) || ctx.Err() != nil || sess.Err() == nil {
		return err
	}
	return sess.Err()
}

// enter registers the agent, under the same name as before if that is still free.
func (a *Agent) enter(ctx context.Context, sess Session) (*filelock.Queue, error) {
	me := filelock.Member{Host: a.Host, BootID: a.BootID, Since: time.Now().UTC(), Life: a.life.Name()}
	if err := filelock.Ensure(ctx, sess, a.Root); err != nil {
		return nil, err
	}
	name, err := a.register(ctx, sess, member{Member: me, Run: a.run})
	if err != nil {
		return nil, err
	}
	if err := oneMachine(ctx, sess, a.Root, a.BootID); err != nil {
		return nil, err
	}
	a.life.Sweep(func() ([]string, error) { return lives(ctx, sess, a.Root) })
	if a.file == nil {
		a.file, err = a.Open(name)
	} else if name != a.name { // somebody took our name meanwhile
		err = a.file.Rename(name)
	}
	if err != nil {
		return nil, err
	}
	a.name, me.Agent = name, name
	a.Log.Info("in the fleet", zap.String("agent", name), zap.String("fleet", string(a.Root)),
		zap.Duration("session_timeout", sess.Timeout()))
	return filelock.New(sess, a.Root, me, a.life.Watch, a.Log), nil
}

// next waits for the turn and takes it. A turn that was lost is no error: the
// place is gone, and the same records are written in another turn.
func (a *Agent) next(ctx context.Context, queue *filelock.Queue, place *filelock.Place) (*filelock.Place, error) {
	hold, err := place.Wait(ctx)
	if errors.Is(err, filelock.ErrLost) {
		a.Log.Warn("our place in the queue was removed, queueing again", zap.Error(err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	next, err := a.turn(ctx, hold)
	switch {
	case errors.Is(err, filelock.ErrUnknown):
		return nil, a.settle(ctx, queue)
	case errors.Is(err, writer.ErrBusy):
		a.Log.Warn("not writing: queueing again", zap.Error(err))
		return nil, nil
	case errors.Is(err, filelock.ErrLost):
		a.Log.Warn("fenced: the turn was lost before its commit, queueing again", zap.Error(err))
		return nil, nil
	}
	return next, err
}
