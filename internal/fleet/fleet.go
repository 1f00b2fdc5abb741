// Package fleet is the agent's life: it enters the fleet, takes its turns, and
// carries records from a Source through the commit and the file to their
// acknowledgement.
//
//	Source → filelock.Place → filelock.Hold → Hold.Commit → scribe (the file) → Source.Ack
//
// What it promises: a record is acknowledged only when it is committed and on the
// volume's disk, and is never committed again before it is known that an earlier commit
// of it did not count. A session that is lost, a turn that is lost, a place that was
// evicted and a volume that fails for a while are everyday events here: the agent begins
// again, or waits. Only what needs a person ends it: a refusal.
//
// An agent is two goroutines. One takes turns and talks to ZooKeeper. The other, the
// scribe, does what touches the volume, so that a volume that hangs holds up nothing but
// its own agent. Not the scribe's are the agent's marker at its beginning and end, and a look
// at the FIFO of the agent before it, which waits for a moment at most.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/intake"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

// ErrUnsettled says that the agent had to stop while the outcome of its last
// commit was unknown: its records may be in the file.
var ErrUnsettled = errors.New("stopped before the outcome of the last commit was known")

// ErrUnacknowledged says that turns are committed, so that their records are or will be in
// the file, and were not acknowledged.
var ErrUnacknowledged = errors.New("committed, but not acknowledged")

// Session is what an agent needs of a ZooKeeper session: a *session.Session, or a
// simulated one.
type Session interface {
	filelock.Session
	Connected() bool
	Timeout() time.Duration
	Close()
}

// Lives are how agents notice each other's death, and how they see that they share a
// volume: a lifeline.Dir, or simulated ones.
type Lives interface {
	queue.Lifelines
	// Stands tells whether the name of a life is there.
	Stands(life string) (bool, error)
	// SweepMarkers forgets the lives of which only a name is left, when that is old, but for
	// those that keep lists: all there may be.
	SweepMarkers(keep func() ([]string, error)) error
}

// Options for an agent. All but Name, Lives, Acks, Under, Named, Now, Jitter and Log are required.
type Options struct {
	Dial   func(context.Context) (Session, error)
	Root   filelock.Root
	Name   string // empty: the lowest free agent-N
	Host   string
	BootID string // empty: not known, so that deaths are noticed by the session's end
	File   *writer.File
	Lives  Lives // nil: deaths are noticed by the session's end, and no marker is looked for
	Source Source
	Acks   *AckLog
	Under  int // the most turns committed and not acknowledged; 0 means 8
	// MaxBytes is the most bytes of a turn's records, as the source gives them; 0 means
	// one record of the longest.
	MaxBytes int
	Named    func(name string) // told the agent's name whenever it enters the fleet
	Now      func() time.Time  // the wall clock, for people to read; nil means time.Now
	// Jitter gives a duration at random, shorter than most; nil means math/rand's.
	Jitter func(most time.Duration) time.Duration
	Log    *zap.Logger
}

// Agent is one member of the fleet.
type Agent struct {
	Options
	run    uuid.UUID
	life   *queue.Life   // while Run runs
	name   string        // the one it has or had last
	told   string        // what the fleet was told that holds it up
	bound  time.Duration // mostBound, but in tests that need time while a volume hangs
	scribe *scribe
	doubt  *doubt // a commit whose outcome is unknown
	fillTo int64  // where the file must end before we commit once more; 0: no place was given up to fill it
}

// New makes an agent that is not yet in any fleet.
func New(opts Options) *Agent {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Jitter == nil {
		opts.Jitter = rand.N[time.Duration]
	}
	if opts.Under == 0 {
		opts.Under = 8
	}
	if opts.MaxBytes == 0 {
		opts.MaxBytes = frame.MaxRecord + 1
	}
	a := &Agent{Options: opts, run: uuid.New(), bound: mostBound}
	a.scribe = newScribe(a)
	return a
}

// Called is the agent's name in the fleet, empty before it has one.
func (a *Agent) Called() string { return a.name }

// InDoubt tells whether Run ended with a commit whose outcome is not known: what its source
// handed out last may be in the file.
func (a *Agent) InDoubt() bool { return a.doubt != nil }

// Acknowledged is how many turns and records were acknowledged so far.
func (a *Agent) Acknowledged() (turns, records int) { return a.scribe.acknowledged() }

// lastTurn is how long a turn that is under way may take to end well after the agent was
// told to stop; lastWrites is how long its committed turns may take to reach the disk.
const (
	lastTurn   = 600 * time.Millisecond
	lastWrites = 2 * time.Second
)

// Run takes turns until the source ends (nil), ctx is done (nil; what is pending
// the caller asks the source), or something needs a person. What is committed when ctx
// ends is brought to the disk within lastWrites, or told as ErrUnacknowledged.
func (a *Agent) Run(ctx context.Context) error {
	a.life = queue.BeginLife(a.lifelines(), a.run.String(), a.Log)
	if a.Lives != nil && a.BootID == "" {
		a.Log.Warn("this machine's boot id cannot be had, so who else runs on it is not known: should an agent crash, this one waits until its session expires, and so do others for this one")
	}
	defer a.endLife()
	working, rest := context.WithCancelCause(ctx)
	defer rest(context.Canceled)
	stop := sync.OnceFunc(a.scribe.begin(rest))
	defer stop()
	err := a.live(ctx, working)
	stop() // before what is left is counted
	return a.unfinished(err)
}

// live is Run, but for what is left when it ends.
func (a *Agent) live(ctx, working context.Context) error {
	for first := true; ; first = false {
		err := a.attend(working)
		switch fatal := a.scribe.fatal(); {
		case fatal != nil:
			return fatal
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil && a.doubt != nil:
			return fmt.Errorf("%w: %d records, turn %d", ErrUnsettled, a.doubt.turn.Header.Lines, a.doubt.turn.Number)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, session.ErrExpired) || !first && errors.Is(err, session.ErrUnavailable):
			a.Log.Warn("not committing: fenced off without a ZooKeeper session, asking for a new one", zap.Error(err))
		default:
			return err
		}
		select { // jitter, for the whole fleet loses its sessions together
		case <-time.After(a.Jitter(250 * time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

func (a *Agent) lifelines() queue.Lifelines {
	if a.Lives == nil {
		return nil
	}
	return markers{a.Lives}
}

// unfinished adds to err what is committed and not acknowledged.
func (a *Agent) unfinished(err error) error {
	turns, records := a.scribe.leave()
	if turns == 0 {
		return err
	}
	return errors.Join(err, fmt.Errorf("%w: %d records in %d turns; they are in ZooKeeper, and this or another agent of the fleet writes them to the file", ErrUnacknowledged, records, turns))
}

// attend is the agent's life within one session. An error that came with the session's
// end is, among others, the session's.
func (a *Agent) attend(ctx context.Context) error {
	sess, err := a.Dial(ctx)
	if err != nil {
		return err
	}
	defer sess.Close()
	late, cancel := lingering(ctx, lastTurn)
	// A request that nobody answers must not outlast the agent's last turn.
	unhook := context.AfterFunc(late, func() { sess.Discard("told to stop, and ZooKeeper does not answer") })
	a.scribe.use(sess)
	err = a.serve(ctx, late, sess)
	unhook()
	cancel()
	if hasEnded(err) || ctx.Err() != nil {
		err = a.finish(ctx, sess, err)
	}
	if ended := sess.Err(); errors.Is(err, session.ErrBroken) && ended != nil {
		err = fmt.Errorf("%w: %w", ended, err) // the connection broke first, and that was told
	}
	return err
}

// finish waits until all that is committed is acknowledged: for as long as it takes when
// the source has ended, until the agent is told to stop. If the session ends meanwhile,
// the error is the session's: the next one goes on.
func (a *Agent) finish(ctx context.Context, sess Session, err error) error {
	if hasEnded(err) {
		idle := func() bool {
			a.publish(ctx, sess) // others need not wait for us when we are held up
			return a.scribe.idle()
		}
		if lost := a.scribe.wait(ctx, sess, idle); lost != nil && ctx.Err() == nil {
			return lost
		}
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
	defer cancel()
	a.scribe.wait(late, sess, a.scribe.idle)
	late, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastTurn)
	defer cancel()
	// What stays is dropped by others, who write it again.
	_ = a.scribe.dropAll(late, sess)
	return err
}

// hasEnded tells whether err says that nothing more comes from the source.
func hasEnded(err error) bool {
	var record *intake.RecordError
	return errors.Is(err, io.EOF) || errors.As(err, &record)
}

// serve takes turns. ctx ends when the agent is told to stop, late a moment after.
func (a *Agent) serve(ctx, late context.Context, sess Session) error {
	queue, err := a.enter(ctx, sess)
	if err != nil {
		return err
	}
	if err := a.settle(ctx, queue); err != nil {
		return err
	}
	if err := a.scribe.settlePending(ctx); err != nil {
		return err
	}
	var place *filelock.Place
	defer a.scribe.lineUp(false)
	for {
		if place == nil {
			a.scribe.lineUp(false)
			if err := a.ready(ctx, sess); err != nil {
				return err
			}
			if place, err = queue.Join(ctx); err != nil {
				return err
			}
		}
		a.scribe.lineUp(true)
		place, err = a.next(ctx, late, queue, place)
		if err != nil {
			return a.scribe.believe(err) // somebody may have made our turn's node
		}
	}
}

// ready waits until there is a reason to queue: the volume takes our writes, there is
// room for another turn, and the source has records.
func (a *Agent) ready(ctx context.Context, sess Session) error {
	for {
		if err := a.scribe.wait(ctx, sess, a.mayQueue(ctx, sess)); err != nil {
			return err
		}
		if err := a.await(ctx, sess); err != nil {
			return err
		}
		if a.scribe.ready() {
			return nil
		}
	}
}

// mayQueue tells whether a turn may be taken, and keeps our entry in the fleet up to date
// with what holds us up.
func (a *Agent) mayQueue(ctx context.Context, sess Session) func() bool {
	return func() bool {
		a.publish(ctx, sess)
		return a.scribe.ready()
	}
}
