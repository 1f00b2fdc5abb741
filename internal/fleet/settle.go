package fleet

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// doubt is a commit that was sent and not answered.
type doubt struct {
	hold *filelock.Hold
	turn frame.Turn
}

// settle finds out what became of a commit in doubt. If it happened, the turn is the
// scribe's; if not, its records are the source's again.
func (a *Agent) settle(ctx context.Context, queue *filelock.Queue) error {
	if a.doubt == nil {
		return nil
	}
	connection := a.scribe.sess().Connections()
	head, err := queue.Settle(ctx, a.doubt.hold)
	if errors.Is(err, filelock.ErrNoHead) || errors.Is(err, filelock.ErrHead) {
		return refusedHead(err)
	}
	if err != nil {
		return err
	}
	turn := a.doubt.turn
	var happened bool
	err = a.scribe.do(ctx, func(ctx context.Context) (err error) {
		happened, err = a.scribe.stands(ctx, head, turn)
		if mayPass(err) {
			a.scribe.File.Detach()
			if err = a.scribe.look(ctx); err == nil {
				happened, err = a.scribe.stands(ctx, head, turn)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	a.doubt = nil
	if !happened {
		a.Log.Warn("fenced: our turn was not committed, its records are for another turn", zap.Uint64("turn", turn.Number))
		a.Source.Back()
		return nil
	}
	a.Log.Info("settled: our turn was committed", zap.Uint64("turn", turn.Number))
	a.committed(turn, connection)
	return nil
}

// stands tells whether a turn is among those that head, read behind a quorum, says are
// committed. Before our number, or our number under another's token: it never happened.
// Else head, the turn's node, or a header in the file where the turn begins says so. When
// nothing does, it is refused.
func (s *scribe) stands(ctx context.Context, head frame.Head, t frame.Turn) (bool, error) {
	switch {
	case head.Incarnation != t.Incarnation: // adopted, with all that was committed before
		if err := s.look(ctx); err != nil {
			return false, err
		}
		header, err := s.headerAt(t.Offset)
		return err == nil && header.Sum == t.Sum(), err
	case head.Turn+1 < t.Number:
		return false, &writer.RefusedError{
			Why:  fmt.Sprintf("ZooKeeper says that turn %d is the last, and we were in turn %d: it went back in time", head.Turn, t.Number),
			Next: writer.NextAdopt,
		}
	case head.Turn <= t.Number:
		return head.Sum == t.Sum(), nil
	}
	node, err := filelock.ReadTurn(ctx, s.sess(), s.Root, filelock.TurnName{Incarnation: t.Incarnation, Number: t.Number})
	if err == nil {
		return node.Sum() == t.Sum(), nil
	}
	if !errors.Is(err, filelock.ErrNoTurn) {
		return false, s.believe(err)
	}
	// It had a node, which is gone: the turn is in the file.
	if err := s.attached(ctx); err != nil {
		return false, err
	}
	header, err := s.headerAt(t.Offset)
	if err != nil {
		return false, err
	}
	if header.Turn != t.Number {
		return false, &writer.RefusedError{
			Why:  fmt.Sprintf("turn %d was committed, and neither ZooKeeper nor %s has it", t.Number, s.File.Path),
			Next: writer.NextAdopt, Late: true, // the path may name another file than the one that is open
		}
	}
	return header.Sum == t.Sum(), nil
}

// headerAt reads the header of the turn that begins at an offset; a zero one when none does.
func (s *scribe) headerAt(offset int64) (frame.Header, error) {
	var line []byte
	err := s.volume("read", func() (err error) { line, err = s.File.Line(offset); return err })
	if err != nil {
		return frame.Header{}, err
	}
	header, err := frame.ParseHeader(line)
	if err != nil {
		return frame.Header{}, nil
	}
	return header, nil
}
