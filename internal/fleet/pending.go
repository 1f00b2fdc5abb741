package fleet

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// settlePending acknowledges the turns that the run before this one had to leave, once
// they are on disk.
func (s *scribe) settlePending(ctx context.Context) error {
	if s.Acks == nil {
		return nil
	}
	return s.do(ctx, func(ctx context.Context) error {
		if s.syncing && len(s.Acks.pending) > 0 { // of two syncs of one descriptor only one is told that it failed
			select {
			case outcome := <-s.syncs:
				if err := s.endSync(ctx, outcome); mayPass(err) {
					s.parted(err) // settling looks again, with patience
				} else if err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for len(s.Acks.pending) > 0 {
			err := s.settlePendingTurn(ctx, s.Acks.pending[0])
			if mayPass(err) {
				s.parted(err)
				if err = s.look(ctx); err == nil { // which has the patience
					err = s.settlePendingTurn(ctx, s.Acks.pending[0])
				}
			}
			if err != nil {
				return err
			}
			s.Acks.pending = s.Acks.pending[1:] // or another try would acknowledge it twice
		}
		return nil
	})
}

// settlePendingTurn writes the turn once more, so that it is known to be on disk, and
// notes its acknowledgement.
func (s *scribe) settlePendingTurn(ctx context.Context, p Left) error {
	t, err := s.pendingTurn(ctx, p)
	if err != nil || t == nil {
		return err
	}
	if err := s.attached(ctx); err != nil {
		return err
	}
	if err := s.fill(ctx, *t); err != nil {
		return err
	}
	if err := s.put(*t); err != nil {
		return err
	}
	if err := s.volume("sync", s.File.Syncer()); err != nil {
		return err
	}
	if err := s.volume("look", s.File.Same); err != nil {
		return err
	}
	s.giveDrops([]string{s.Root.Turn(t.Incarnation, t.Number)}) // which may have gone already
	s.Log.Info("settled: a turn that the last run left is on disk", zap.Uint64("turn", p.Turn))
	run := frame.AckRun{Agent: s.called(), Incarnation: p.Run.Incarnation}
	return s.Acks.Write(run, p.Turn, t.Records())
}

// pendingTurn finds a turn in ZooKeeper or in the file; nil when neither has it as it was.
func (s *scribe) pendingTurn(ctx context.Context, p Left) (*frame.Turn, error) {
	i := p.Run.Incarnation
	t, err := filelock.ReadTurn(ctx, s.sess(), s.Root, filelock.TurnName{Incarnation: i, Number: p.Turn})
	if err == nil && t.Sum() == p.Sum {
		return &t, nil
	}
	if err != nil && !errors.Is(err, filelock.ErrNoTurn) {
		return nil, s.believe(err)
	}
	if err := s.attached(ctx); err != nil {
		return nil, err
	}
	err = s.volume("read", func() error { t, err = s.turnInFile(i, p.Pending); return err })
	if err != nil || t.Number == 0 {
		s.Log.Warn("a turn that the last run left is not in the file as it was committed", zap.Uint64("turn", p.Turn))
		return nil, err
	}
	return &t, nil
}

// turnInFile reads a turn from the file; a zero one when the file does not have it.
func (s *scribe) turnInFile(i uuid.UUID, p frame.Pending) (frame.Turn, error) {
	line, err := s.File.Line(p.Offset)
	if err != nil {
		return frame.Turn{}, err
	}
	h, err := frame.ParseHeader(line)
	if err != nil || h.Sum != p.Sum || h.Turn != p.Turn {
		return frame.Turn{}, nil
	}
	b := make([]byte, len(line)+1+h.Bytes)
	if err := s.File.Read(b, p.Offset); err != nil {
		return frame.Turn{}, err
	}
	return frame.Turn{Incarnation: i, Number: h.Turn, Offset: p.Offset, Bytes: b, Header: h}, nil
}
