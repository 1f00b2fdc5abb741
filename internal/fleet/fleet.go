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
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// ErrUnsettled says that the agent had to stop while the outcome of its last
// commit was unknown: its records may be in the file.
var ErrUnsettled = errors.New("stopped before the outcome of the last commit was known")

// lastTurn is how long a turn that is under way may take to end well after the
// agent was told to stop.
const lastTurn = 600 * time.Millisecond

// Options for an agent. All but Name, Acks and Log are required.
type Options struct {
	Dial   func(context.Context) (*session.Session, error)
	Root   filelock.Root
	Name   string // empty: the lowest free agent-N
	Host   string
	BootID string
	Open   func(agent string) (*writer.File, error)
	Source Source
	Acks   *AckLog
	Log    *zap.Logger
}

// Agent is one member of the fleet.
type Agent struct {
	Options
	run   string
	name  string       // the one it has or had last
	file  *writer.File // opened under that name
	doubt *doubt       // a commit whose outcome is unknown
	turns int          // acknowledged
	count int          // records acknowledged
}

// doubt is a commit that was sent and not answered.
type doubt struct {
	hold    *filelock.Hold
	start   int64 // where its frame begins in the file
	out     writer.Appended
	records [][]byte
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
		case ctx.Err() != nil && a.doubt != nil:
			return fmt.Errorf("%w: %d records, turn %d", ErrUnsettled, len(a.doubt.records), a.doubt.out.Head.Turn)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, session.ErrExpired) || !first && errors.Is(err, session.ErrUnavailable):
			a.Log.Warn("not writing: no ZooKeeper session, asking for a new one", zap.Error(err))
		default:
			return err
		}
		select { // jitter, for the whole fleet loses its sessions together
		case <-time.After(rand.N(250 * time.Millisecond)):
		case <-ctx.Done():
		}
	}
}

// attend is the agent's life within one session.
func (a *Agent) attend(ctx context.Context) error {
	sess, err := a.Dial(ctx)
	if err != nil {
		return err
	}
	defer sess.Close()
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
			if err := a.Source.Wait(ctx); err != nil {
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

// enter registers the agent, under the same name as before if that is still free.
func (a *Agent) enter(ctx context.Context, sess *session.Session) (*filelock.Queue, error) {
	me := filelock.Member{Host: a.Host, BootID: a.BootID, Since: time.Now().UTC()}
	if err := filelock.Ensure(ctx, sess, a.Root); err != nil {
		return nil, err
	}
	name, err := register(ctx, sess, a.Root, a.Name, a.name, member{Member: me, Run: a.run})
	if err != nil {
		return nil, err
	}
	if err := oneMachine(ctx, sess, a.Root, a.BootID); err != nil {
		return nil, err
	}
	if a.file != nil && name != a.name { // somebody took our name meanwhile
		a.file.Close()
		a.file = nil
	}
	if a.file == nil {
		if a.file, err = a.Open(name); err != nil {
			return nil, err
		}
	}
	a.name, me.Agent = name, name
	a.Log.Info("in the fleet", zap.String("agent", name), zap.String("fleet", string(a.Root)),
		zap.Duration("session_timeout", sess.Timeout()))
	return filelock.New(sess, a.Root, me, a.Log), nil
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

// turn writes, commits and acknowledges.
func (a *Agent) turn(stop context.Context, hold *filelock.Hold) (*filelock.Place, error) {
	// Told to stop, a turn still has a moment to end well.
	ctx, cancel := lingering(stop, lastTurn)
	defer cancel()
	token := frame.Token(hold.Token())
	head, err := a.head(ctx, hold, token)
	if err != nil {
		return nil, a.abandon(hold, err)
	}
	records := a.Source.Take(head.Turn + 1)
	writing, done := both(hold.Context(), ctx)
	out, err := a.file.Append(writing, token, head, records)
	done()
	if err != nil {
		return nil, a.abandon(hold, err)
	}
	next, err := hold.Commit(ctx, out.Head.Encode(), stop.Err() == nil && a.Source.More())
	if errors.Is(err, filelock.ErrUnknown) {
		a.doubt = &doubt{hold: hold, start: head.Offset, out: out, records: records}
		a.Log.Warn("the connection broke during a commit, finding out what became of it", zap.Uint64("turn", out.Head.Turn))
	}
	if err != nil {
		return nil, err
	}
	return next, a.acknowledge(ctx, out, records)
}

// head is where the file is committed to, after beginning it if this is the first
// turn of all.
func (a *Agent) head(ctx context.Context, hold *filelock.Hold, token frame.Token) (frame.Head, error) {
	if hold.Head() != nil {
		return frame.ParseHead(hold.Head())
	}
	head, err := a.file.Begin(ctx, token)
	if err != nil {
		return head, err
	}
	a.Log.Info("beginning a new file", zap.Stringer("incarnation", head.Incarnation))
	return head, hold.Publish(ctx, head.Encode())
}

// abandon gives up a turn that could not be written, and makes of err what it
// means for the agent.
func (a *Agent) abandon(hold *filelock.Hold, err error) error {
	switch {
	case errors.Is(err, writer.ErrSync):
		return errors.Join(err, hold.Halt(err.Error()))
	case errors.Is(err, writer.ErrFenced) && hold.Confirm() == nil:
		// A higher token than that of the turn that ZooKeeper says is on.
		err = &writer.RefusedError{
			Why:  fmt.Sprintf("it is our turn by ZooKeeper, yet %v: ZooKeeper went back in time", err),
			Next: "nothing was changed; find out what happened, then `agent adopt` verifies the file and goes on from what it holds",
		}
	case errors.Is(err, writer.ErrFenced) || hold.Err() != nil:
		err = fmt.Errorf("%w: %w", filelock.ErrLost, err)
	}
	hold.Release()
	return err
}

// acknowledge tells the source, when all that an acknowledgement promises is true.
func (a *Agent) acknowledge(ctx context.Context, out writer.Appended, records [][]byte) error {
	if err := a.receipt(ctx, out.Head); err != nil {
		return err
	}
	if a.Acks != nil {
		run := frame.AckRun{Agent: a.name, Incarnation: out.Head.Incarnation}
		if err := a.Acks.Write(run, out.Head.Turn, records); err != nil {
			return err
		}
	}
	a.Source.Ack()
	a.turns++
	a.count += len(records)
	a.Log.Info("turn committed", zap.Uint64("turn", out.Head.Turn), zap.Int("records", len(records)),
		zap.Stringer("token", out.Head.Token))
	return nil
}

// receipt notes the commit on the volume, however long another process is inside.
func (a *Agent) receipt(ctx context.Context, head frame.Head) error {
	for {
		err := a.file.Receipt(ctx, head.Token, head)
		if !errors.Is(err, writer.ErrBusy) {
			return err
		}
		a.Log.Warn("committed, and waiting to note it on the volume", zap.Error(err))
	}
}

// settle finds out what became of a commit in doubt, and acknowledges it if it
// happened.
func (a *Agent) settle(ctx context.Context, queue *filelock.Queue) error {
	if a.doubt == nil {
		return nil
	}
	data, err := queue.Settle(ctx, a.doubt.hold)
	if err != nil {
		return err
	}
	d := a.doubt
	happened, err := a.committed(data, d)
	if err != nil {
		return err
	}
	a.doubt = nil
	a.Log.Info("settled", zap.Uint64("turn", d.out.Head.Turn), zap.Bool("committed", happened))
	if !happened {
		return nil
	}
	return a.acknowledge(ctx, d.out, d.records)
}

// committed tells whether d's frame is in the part of the file that head covers.
// Our turn's number there may be another agent's; the token is ours alone.
func (a *Agent) committed(data []byte, d *doubt) (bool, error) {
	head, err := frame.ParseHead(data)
	if err != nil {
		return false, err
	}
	if head.Incarnation != d.out.Head.Incarnation {
		return false, &writer.RefusedError{
			Why:  fmt.Sprintf("the file was adopted (incarnation %s) while the outcome of our turn %d was unknown", head.Incarnation, d.out.Head.Turn),
			Next: "look for its records in the file before writing them again",
		}
	}
	if head.Turn < d.out.Head.Turn {
		return false, nil
	}
	there, err := a.file.HeaderAt(d.start)
	return there.Token == d.out.Head.Token, err
}

// lingering is done a while after stop is.
func lingering(stop context.Context, while time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	unhook := context.AfterFunc(stop, func() {
		select {
		case <-time.After(while):
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { unhook(); cancel() }
}

// both is done, with its cause, when either a or b is.
func both(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(a)
	unhook := context.AfterFunc(b, func() { cancel(context.Cause(b)) })
	return ctx, func() { unhook(); cancel(context.Canceled) }
}
