package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// mostBehind is how far head may be beyond the file's end, in bytes, before the file is
// filled first: the rest is in ZooKeeper's memory.
const mostBehind = 8 << 20

// next waits for the turn and takes it. A turn that was lost is no error: the
// place is gone, and the same records are committed in another turn.
func (a *Agent) next(ctx, late context.Context, queue *filelock.Queue, place *filelock.Place) (*filelock.Place, error) {
	hold, err := place.Wait(ctx)
	if errors.Is(err, filelock.ErrLost) {
		a.Log.Warn("our place in the queue was removed, queueing again", zap.Error(err))
		return nil, nil
	}
	if errors.Is(err, filelock.ErrNoHead) || errors.Is(err, filelock.ErrHead) {
		return nil, refusedHead(err)
	}
	if err != nil {
		return nil, err
	}
	next, err := a.turn(ctx, late, hold)
	switch {
	case errors.Is(err, filelock.ErrUnknown):
		a.Log.Warn("the connection broke during a commit, finding out what became of it", zap.Uint64("turn", a.doubt.turn.Number))
		return nil, a.settle(ctx, queue)
	case errors.Is(err, errAgain):
		return nil, nil
	case errors.Is(err, filelock.ErrLost):
		a.Log.Warn("fenced: the turn was lost before its commit, queueing again", zap.Error(err))
		return nil, nil
	}
	return next, err
}

// turn commits.
func (a *Agent) turn(stop, late context.Context, hold *filelock.Hold) (*filelock.Place, error) {
	head, begun := hold.Head()
	if !begun {
		if _, seen := a.scribe.seen(); seen.Turn > 0 {
			hold.Release()
			return nil, refusedHead(filelock.ErrNoHead)
		}
		return nil, a.begin(late, hold)
	}
	if err := a.mayCommit(late, hold, head); err != nil {
		return nil, err
	}
	if !a.scribe.ready() { // the volume failed while we waited
		hold.Release()
		return nil, nil
	}
	for {
		records := a.Source.Take(head.Turn + 1)
		if len(records) == 0 { // a turn of nothing would be no turn
			a.Source.Back()
			hold.Release()
			return nil, nil
		}
		turn := a.compose(hold, head, records)
		drops := a.scribe.takeDrops()
		connection := hold.Connection()
		next, err := hold.Commit(late, filelock.Commit{
			Turn: turn, With: a.Source.With(), Drop: drops,
			Again: stop.Err() == nil && a.Source.More() && a.scribe.room(len(turn.Bytes)),
		})
		var refused *filelock.RefusedError
		switch {
		case err == nil:
			a.scribe.giveDrops(hold.Kept())
			a.committed(turn, connection)
			return next, nil
		case errors.Is(err, filelock.ErrUnknown):
			a.doubt = &doubt{hold: hold, turn: turn}
			a.scribe.giveDrops(drops) // a node that went with the commit may be dropped again
			return nil, err
		}
		a.scribe.giveDrops(drops)
		a.Source.Back()
		if !errors.As(err, &refused) {
			return nil, err
		}
		if !a.Source.Gone(refused.At) { // nothing is left for this turn
			hold.Release()
			return nil, nil
		}
	}
}

// compose makes the turn that follows head.
func (a *Agent) compose(hold *filelock.Hold, head frame.Head, records [][]byte) frame.Turn {
	header := frame.Header{Agent: a.name, Token: hold.Token(), At: a.Now().UTC().Truncate(time.Millisecond)}
	return head.Next(header, a.run, records)
}

// committed hands a turn over to the scribe.
func (a *Agent) committed(turn frame.Turn, connection uint64) {
	a.Source.Committed()
	a.scribe.add(turn, connection)
	if ce := a.Log.Check(zap.DebugLevel, "turn committed"); ce != nil {
		ce.Write(zap.Uint64("turn", turn.Number), zap.Int("records", turn.Header.Lines), zap.Stringer("token", turn.Header.Token))
	}
}

// mayCommit compares where the file ended, when it was last measured, with head. The
// file never ends beyond head, which was read later: if it does, somebody else wrote to
// it, or ZooKeeper went back in time. But head may be old, if our place is gone.
func (a *Agent) mayCommit(ctx context.Context, hold *filelock.Hold, head frame.Head) error {
	end, seen := a.scribe.seen()
	var err error
	switch {
	case seen.Incarnation != head.Incarnation: // begun or adopted: is what is open the file?
		hold.Release()
		return a.again(ctx, a.scribe.look)
	case end > head.Offset:
		err = &writer.RefusedError{
			Why:  fmt.Sprintf("%s has %d bytes, and head says that %d are committed: something else writes to the file, or ZooKeeper went back in time", a.File.Path, end, head.Offset),
			Next: "stop what writes there, then `agent adopt` puts those bytes aside and goes on",
		}
	case head.Turn < seen.Turn:
		err = &writer.RefusedError{
			Why:  fmt.Sprintf("head says that turn %d is the last, and turn %d was committed: ZooKeeper went back in time", head.Turn, seen.Turn),
			Next: writer.NextAdopt,
		}
	case head.Offset-end > mostBehind && a.mustFill(ctx, head):
		hold.Release()
		return a.again(ctx, a.scribe.catchUp)
	default:
		return nil
	}
	lost := hold.Confirm()
	hold.Release() // also without an answer: we must not queue behind a place of our own
	if lost != nil {
		return fmt.Errorf("%w: %w", filelock.ErrLost, lost)
	}
	return err
}

// mustFill tells whether the file, which looked too far behind head, has to be filled before
// more is committed. It may have been measured a round of the fleet ago, and filled since:
// it is measured anew. Who has filled it up to the head for which it gave its place up may
// commit once, whatever was committed since, or it might never do. So the file is behind by
// mostBehind and one turn of each agent, at most.
func (a *Agent) mustFill(ctx context.Context, head frame.Head) bool {
	end, late := a.scribe.endNow(ctx)
	if head.Offset-end <= mostBehind {
		return false
	}
	if a.fillTo > 0 && end >= a.fillTo {
		a.fillTo = 0
		return false
	}
	a.fillTo = head.Offset
	a.Log.Info("the file is far behind what is committed: filling it before the next turn",
		zap.Int64("bytes", head.Offset-end), zap.NamedError("not_measured_anew", late))
	return true
}

// errAgain says that our place was given up for work that must not be done in a turn.
var errAgain = errors.New("queueing again")

// again has the scribe do something, after which we queue again.
func (a *Agent) again(ctx context.Context, what func(context.Context) error) error {
	if err := a.scribe.do(ctx, what); err != nil {
		return err
	}
	return errAgain
}

// begin publishes the head of a new file, while it is our turn. The scribe has made sure
// that there is none yet, or that it is empty.
func (a *Agent) begin(ctx context.Context, hold *filelock.Hold) error {
	i := frame.Incarnation{ID: uuid.New(), From: 1}
	head, first := frame.Begin(i, 0, nil, a.name, a.Now()), frame.First(i, a.run)
	err := hold.Begin(ctx, head, first)
	hold.Release()
	if errors.Is(err, filelock.ErrUnknown) {
		return fmt.Errorf("%w: %v", filelock.ErrLost, err) // no commit is in doubt; whoever comes next sees it, or begins
	}
	if err != nil {
		return err
	}
	a.Log.Info("beginning a new file", zap.Stringer("incarnation", head.Incarnation))
	return a.scribe.do(ctx, a.scribe.look)
}

// refusedHead explains a head that is gone or cannot be read.
func refusedHead(err error) error {
	next := writer.NextAdopt
	if errors.Is(err, frame.ErrFormat) {
		next = "nothing was changed; stop the agents of the other edition, then `agent adopt` carries the file over"
	}
	return &writer.RefusedError{Why: fmt.Sprintf("what ZooKeeper says of the file cannot be used: %v", err), Next: next}
}
