package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// lastTurn is how long a turn that is under way may take to end well after the
// agent was told to stop.
const lastTurn = 600 * time.Millisecond

// turn writes, commits and acknowledges.
func (a *Agent) turn(stop context.Context, hold *filelock.Hold) (*filelock.Place, error) {
	// Told to stop, a turn still has a moment to end well.
	ctx, cancel := lingering(stop, lastTurn)
	defer cancel()
	token := frame.Token(hold.Token())
	writing, done := both(hold.Context(), ctx)
	defer done()
	head, err := a.head(writing, hold, token)
	if err != nil {
		return nil, a.abandon(hold, err)
	}
	records := a.Source.Take(head.Turn + 1)
	out, err := a.file.Append(writing, token, head, records)
	if err != nil {
		return nil, a.abandon(hold, err)
	}
	next, err := hold.Commit(ctx, out.Head.Encode(), stop.Err() == nil && a.Source.More(), a.Source.With()...)
	if errors.Is(err, filelock.ErrUnknown) {
		a.doubt = &doubt{hold: hold, out: out, records: records}
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
		return parseHead(hold.Head())
	}
	head, err := a.file.Begin(ctx, token)
	if err != nil {
		return head, err
	}
	a.Log.Info("beginning a new file", zap.Stringer("incarnation", head.Incarnation))
	return head, hold.Publish(ctx, head.Encode())
}

// parseHead reads head. One that is gone or damaged explains nothing: refused.
func parseHead(data []byte) (frame.Head, error) {
	if data == nil {
		return frame.Head{}, &writer.RefusedError{Why: "ZooKeeper has no head any more: it was wiped or restored", Next: nextAdopt}
	}
	head, err := frame.ParseHead(data)
	if err != nil {
		return head, &writer.RefusedError{Why: err.Error(), Next: nextAdopt}
	}
	return head, nil
}

const nextAdopt = "nothing was changed; find out what happened, then `agent adopt` verifies the file and goes on from what it holds"

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
			Next: nextAdopt,
		}
	case errors.Is(err, writer.ErrFenced) || hold.Err() != nil:
		err = fmt.Errorf("%w: %w", filelock.ErrLost, err)
	}
	hold.Release()
	return err
}

// acknowledge tells the source, when all that an acknowledgement promises is true.
func (a *Agent) acknowledge(ctx context.Context, out writer.Appended, records [][]byte) error {
	if err := a.receipt(ctx, out); err != nil {
		return fmt.Errorf("%w: turn %d: %w", ErrUnacknowledged, out.Head.Turn, err)
	}
	if a.Acks != nil {
		run := frame.AckRun{Agent: a.name, Incarnation: out.Head.Incarnation}
		if err := a.Acks.Write(run, out.Head.Turn, records); err != nil {
			return fmt.Errorf("%w: turn %d: %w", ErrUnacknowledged, out.Head.Turn, err)
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
func (a *Agent) receipt(ctx context.Context, out writer.Appended) error {
	for {
		err := a.file.Receipt(ctx, out)
		if !errors.Is(err, writer.ErrBusy) {
			return err
		}
		a.Log.Warn("committed, and waiting to note it on the volume", zap.Error(err))
	}
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
