package follow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

var (
	// ErrMissing says that what is committed is neither in the file nor in ZooKeeper, or
	// is not what was committed.
	ErrMissing = errors.New("the file and head do not agree; run `agent verify` for all that is wrong")
	// ErrAdopted says that the file was adopted at a place before what was given out.
	ErrAdopted = errors.New("the file was adopted, and no longer begins with what was read of it; begin anew")
)

// errNotYet says that a look was stale: what is committed is not to be seen.
var errNotYet = errors.New("not to be seen yet")

// Source is the shared file, opened to be read.
type Source interface {
	io.ReaderAt
	End() (int64, error) // how long it is now
	Close() error
}

// Piece is a part of the file. Its bytes are good until the next one.
type Piece struct {
	Bytes  []byte
	Header frame.Header // of a turn; zero for an incarnation's line and what precedes the fleet
}

// Records are the piece's records, each with its newline: none when it is no turn.
func (p Piece) Records() []byte {
	if p.Header.Turn == 0 {
		return nil
	}
	return p.Bytes[len(p.Bytes)-p.Header.Bytes:]
}

// Stream gives what is committed from the file's beginning on, in order, each byte once.
type Stream struct {
	// Look is [Watch] for a session.
	Look func(ctx context.Context, from uint64) (Sight, error)
	// Open opens the file.
	Open func() (Source, error)
	// Patience is for how long it looks again before something is missing.
	Patience time.Duration
	// Turnwise says that every turn is a piece of its own, those of earlier incarnations
	// too, and that what precedes the fleet is left out. Otherwise what lies before the
	// present incarnation is given as it is.
	Turnwise bool
	// CaughtUp, when set, is called when all that is committed was given out.
	CaughtUp func() error

	seen        Sight
	file        Source
	incarnation uuid.UUID // the one that is read; zero before the first byte
	pos         int64     // what comes next
	turn        uint64    // the last that was given out
	sum         frame.Sum // the chain's link there,
	known       bool      // if it is known
	buf         []byte    // what was read of the file
	at          int64     // where that begins
}

// Copy gives all that is committed to emit. With follow it goes on as more is, until ctx
// ends. It may be called again after an error of Look's or of ctx, and goes on where it was.
func (s *Stream) Copy(ctx context.Context, follow bool, emit func(Piece) error) error {
	defer s.close()
	for {
		if err := s.look(ctx); err != nil {
			return err
		}
		if err := s.catchUp(ctx, emit); err != nil {
			return err
		}
		if s.CaughtUp != nil {
			if err := s.CaughtUp(); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-s.seen.Changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Stream) look(ctx context.Context) (err error) {
	from := uint64(0)
	if s.turn > 0 {
		from = s.turn + 1
	}
	s.seen, err = s.Look(ctx, from)
	if head := s.seen.Head; err == nil && head != nil && head.Incarnation != s.incarnation && from > 0 {
		s.seen, err = s.Look(ctx, 0) // another incarnation may number anew
	}
	if err == nil && s.seen.Head != nil {
		s.seen.Turns = leadingTo(*s.seen.Head, s.seen.Turns)
	}
	return err
}

// leadingTo are the turns, by number, that lead up to head, as far as none between them
// is gone. Those before it are held to the chain as they are given out.
func leadingTo(head frame.Head, turns []frame.Turn) []frame.Turn {
	next := frame.Turn{Number: head.Turn + 1, Before: head.Start, Offset: head.Offset, Prev: head.Sum}
	for i, t := range slices.Backward(turns) {
		if t.Number+1 != next.Number {
			break
		}
		if t.End() != next.Offset || t.Sum() != next.Prev || t.Offset != next.Before {
			return append(slices.Clone(turns[:i]), turns[i+1:]...)
		}
		next = t
	}
	return turns
}

// catchUp gives out all up to head.
func (s *Stream) catchUp(ctx context.Context, emit func(Piece) error) error {
	var since time.Time // of the first look that was stale, in a row
	pause := 5 * time.Millisecond
	for s.seen.Head != nil && (s.pos < s.seen.Head.Offset || s.parted()) {
		err := s.step(emit)
		switch {
		case err == nil:
			since, pause = time.Time{}, 5*time.Millisecond
			continue
		case !errors.Is(err, errNotYet):
			return err
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > s.Patience:
			return s.missing(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, time.Second)
		s.close()
		if err := s.look(ctx); err != nil {
			return err
		}
	}
	if h := s.seen.Head; h != nil && s.pos == h.Offset && s.known && s.sum != h.Sum {
		return fmt.Errorf("at byte %d: another turn is committed than the file has: %w", s.pos, ErrMissing)
	}
	return nil
}

// parted reports whether the present incarnation begins before what was given out of
// another.
func (s *Stream) parted() bool {
	head := s.seen.Head
	return head.Incarnation != s.incarnation && s.incarnation != uuid.Nil && head.Line < s.pos
}

func (s *Stream) missing(why error) error {
	err := fmt.Errorf("at byte %d: what is committed there is neither in the file nor in ZooKeeper, for %v now: %w", s.pos, s.Patience, ErrMissing)
	all := append([]error{err}, s.seen.Doubts...)
	if why != errNotYet {
		all = append(all, why)
	}
	return errors.Join(all...)
}

// step gives out the next piece.
func (s *Stream) step(emit func(Piece) error) error {
	head := s.seen.Head
	switch {
	case s.parted():
		return ErrAdopted
	case s.incarnation == uuid.Nil && head.Line > 0 && s.pos < head.Line:
		if done, err := s.before(emit); done || err != nil {
			return err
		}
	}
	p, inc, err := s.next()
	if err != nil {
		return err
	}
	if err := emit(p); err != nil {
		return err
	}
	s.take(p, inc)
	return nil
}

// take goes on behind a piece that was given out.
func (s *Stream) take(p Piece, inc *frame.Incarnation) {
	if inc == nil {
		s.turn, s.sum, s.known = p.Header.Turn, p.Header.Sum, true
	} else {
		switch {
		case s.pos == 0 && inc.Preamble == 0:
			s.sum, s.known = inc.Seal(nil), true
		case s.known && inc.Preamble == 0:
			s.sum = inc.Seal(&s.sum)
		default: // the sum of what stands before it is not known
			s.known = false
		}
		s.turn = inc.From - 1
		if s.incarnation = inc.ID; s.pos < s.seen.Head.Line {
			s.incarnation = uuid.Nil // an earlier one
		}
	}
	s.pos += int64(len(p.Bytes))
}

// next is what comes next: a turn from its node, or else what the file has.
func (s *Stream) next() (Piece, *frame.Incarnation, error) {
	for _, t := range s.seen.Turns {
		switch {
		case t.Offset != s.pos || t.End() > s.seen.Head.Offset || t.Number > 0 && s.known && t.Prev != s.sum:
		case t.Number == 0:
			inc, err := frame.ParseIncarnation(bytes.TrimSuffix(t.Bytes, newline))
			return Piece{Bytes: t.Bytes}, &inc, err
		default:
			return Piece{t.Bytes, t.Header}, nil, nil
		}
	}
	line, err := s.read(frame.MaxLine)
	if err != nil {
		return Piece{}, nil, err
	}
	n := bytes.IndexByte(line, '\n') + 1
	if n == 0 {
		return Piece{}, nil, errNotYet
	}
	if inc, err := frame.ParseIncarnation(line[:n-1]); err == nil {
		if s.pos == s.seen.Head.Line && inc.ID != s.seen.Head.Incarnation {
			return Piece{}, nil, errNotYet
		}
		return Piece{Bytes: line[:n]}, &inc, nil
	}
	h, err := frame.ParseHeader(line[:n-1])
	if err != nil {
		return Piece{}, nil, errNotYet
	}
	whole, err := s.read(n + h.Bytes)
	if err != nil || len(whole) < n+h.Bytes {
		return Piece{}, nil, errors.Join(err, errNotYet)
	}
	whole = whole[:n+h.Bytes]
	body := whole[n:]
	if s.known && h.Seal(s.sum, sha256.Sum256(body)) != h.Sum || bytes.IndexByte(body, 0) >= 0 {
		return Piece{}, nil, errNotYet
	}
	return Piece{whole, h}, nil, nil
}

var newline = []byte{'\n'}
