package fleet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// round writes what is to be written, has it made durable, and acknowledges what is.
func (s *scribe) round(ctx context.Context) error {
	if len(s.unsynced) > 0 && !s.File.Attached() { // a look has closed it
		s.trouble = true
	}
	if s.trouble || s.next() != nil {
		if err := s.writeAll(ctx); err != nil {
			return err
		}
	}
	if len(s.unsynced) == 0 {
		s.recovered()
		return s.acknowledge(ctx)
	}
	if s.isDurable() {
		return s.syncNow(ctx)
	}
	s.startSync(ctx)
	return nil
}

// writeAll writes our turns, and after trouble, before them, what may not be on disk.
func (s *scribe) writeAll(ctx context.Context) error {
	if len(s.unsynced) == 0 && s.next() == nil { // there may be no file yet
		if err := s.look(ctx); err != nil {
			return err
		}
		s.trouble = false
		return nil
	}
	if err := s.attached(ctx); err != nil {
		return err
	}
	if s.trouble {
		if err := s.rewrite(ctx); err != nil {
			return err
		}
		s.trouble = false
	}
	for e := s.next(); e != nil; e = s.next() {
		if err := s.write(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes again what was written since the last good sync, each after what the file
// lacks before it: it may be another file than before, or have lost what we saw of others'.
func (s *scribe) rewrite(ctx context.Context) error {
	again := s.unsynced
	s.unsynced = nil
	for i, t := range again {
		err := s.fill(ctx, t)
		if err == nil {
			err = s.put(t)
		}
		if err != nil {
			s.unsynced = append(s.unsynced, again[i:]...)
			return err
		}
		s.unsynced = append(s.unsynced, t)
	}
	return nil
}

// write writes one of our turns, after what the file lacks before it.
func (s *scribe) write(ctx context.Context, e *entry) error {
	if err := s.confirm(ctx, e); err != nil {
		return err
	}
	if err := s.fill(ctx, e.Turn); err != nil {
		return err
	}
	if err := s.fits(e.Turn); err != nil {
		return err
	}
	if err := s.confirm(ctx, e); err != nil { // that may have taken a while
		return err
	}
	if err := s.volume("write", func() error { return s.File.WriteAt(e.Bytes, e.Offset) }); err != nil {
		return err
	}
	s.unsynced = append(s.unsynced, e.Turn)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.written = true
	return nil
}

// durable notes that the first of what was written is on disk: our turns can be
// acknowledged, and the nodes of all of them deleted. It tells whether others' are among
// them.
func (s *scribe) durable(turns int) (others bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := map[filelock.TurnName]bool{} // an adoption may begin with a number that was used before
	for _, t := range s.unsynced[:turns] {
		if len(s.drops) == 0 {
			s.dropped = time.Now()
		}
		s.drops = append(s.drops, s.Root.Turn(t.Incarnation, t.Number))
		s.dropBytes += len(t.Bytes)
		on[nameOf(t)] = true
		others = others || !s.isOurs(t.Run)
	}
	s.unsynced = slices.Clone(s.unsynced[turns:])
	for _, e := range s.under {
		e.durable = e.durable || on[nameOf(e.Turn)]
	}
	return others
}

// nameOf tells a turn from all others: of another incarnation one may have its number.
func nameOf(t frame.Turn) filelock.TurnName {
	return filelock.TurnName{Incarnation: t.Incarnation, Number: t.Number}
}

// put writes a turn where it belongs.
func (s *scribe) put(t frame.Turn) error {
	if err := s.fits(t); err != nil {
		return err
	}
	return s.volume("write", func() error { return s.File.WriteAt(t.Bytes, t.Offset) })
}

// fits makes sure that bytes that are where a turn belongs are the turn's own, or zeros.
func (s *scribe) fits(t frame.Turn) error {
	end, err := s.measure()
	if err != nil || end <= t.Offset {
		return err
	}
	return s.volume("read", func() error { return s.File.Fits(t.Bytes, t.Offset) })
}

// acknowledge acknowledges our turns that are on disk, in order.
func (s *scribe) acknowledge(ctx context.Context) error {
	for e := s.first(); e != nil; e = s.first() {
		if err := s.confirm(ctx, e); err != nil {
			return err
		}
		if err := s.acknowledgeOne(e); err != nil {
			return err
		}
		signal(s.moved)
	}
	return nil
}

// acknowledgeOne acknowledges a turn, in the log and to the source, unless it was counted
// as left behind. Between the two nobody counts what is left, see leave.
func (s *scribe) acknowledgeOne(e *entry) error {
	s.acking <- struct{}{}
	defer func() { <-s.acking }()
	if s.first() != e {
		return nil
	}
	if err := s.log(e.Turn); err != nil {
		return err
	}
	if s.first() != e { // the log took so long that it was given up
		return nil
	}
	s.Source.Ack()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns, s.records = s.turns+1, s.records+e.Header.Lines
	s.bytes -= len(e.Bytes)
	s.under = s.under[1:]
	return nil
}

// first is the turn to acknowledge next, nil while it is not on disk.
func (s *scribe) first() *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.under) == 0 || !s.under[0].durable || s.left {
		return nil
	}
	return s.under[0]
}

// log writes the acknowledgement log.
func (s *scribe) log(t frame.Turn) error {
	if s.Acks == nil {
		return nil
	}
	run := frame.AckRun{Agent: s.called(), Incarnation: t.Incarnation}
	if err := s.Acks.Write(run, t.Number, t.Records()); err != nil {
		return fmt.Errorf("%w: turn %d: %w", ErrUnacknowledged, t.Number, err)
	}
	return nil
}
