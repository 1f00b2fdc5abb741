package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// checkHead compares what was read with head, which judges how far the file is
// committed. That there is none, when it was asked for, is a finding if there are
// turns that it should know.
func (s *scan) checkHead(ctx context.Context, opt Options) error {
	before := s.FaultCount
	switch d := s.head; {
	case d == nil:
	case s.size < d.Offset:
		s.lostToHead(d)
	case s.pos != d.Offset:
		s.find(Finding{Kind: Mismatch, Offset: d.Offset, Turn: d.Turn},
			"head says that turn %d ends at byte %d, and no turn of the file ends there.", d.Turn, d.Offset)
	default:
		s.compareHead(d)
	}
	if !s.asked {
		return nil
	}
	alike := s.FaultCount == before
	final, err := s.finalHead(ctx, opt)
	if err != nil {
		return err
	}
	s.checkFinal(final, opt.Known, alike)
	return nil
}

// finalHead is head after the file was read, if it matters.
func (s *scan) finalHead(ctx context.Context, opt Options) (*frame.Head, error) {
	matters := !s.OK() || s.head == nil && s.Size > 0 || s.head != nil && s.Size > s.head.Offset
	if opt.Final == nil || !matters {
		return s.head, nil
	}
	final, err := opt.Final(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read head again: %w", err)
	case s.head == nil && final != nil, s.head != nil && final != nil && s.head.Incarnation != final.Incarnation:
		return nil, ErrMoved
	}
	return final, nil
}

// checkFinal judges what lies behind the last head. alike says that head is this file's.
func (s *scan) checkFinal(final, known *frame.Head, alike bool) {
	switch {
	case final == nil && (s.Turns > 0 || s.head != nil):
		s.find(Finding{Kind: Mismatch, Offset: s.Size},
			"ZooKeeper has no head for this fleet: it was wiped, or the file is another fleet's.")
	case final == nil:
	case behind(final, s.head):
		s.wentBack(final, s.head)
	case behind(final, known):
		s.wentBack(final, known)
	case alike && s.Size > final.Offset:
		s.uncommitted(final)
	}
}

// behind reports whether head has fallen behind one that was seen before.
func behind(head, seen *frame.Head) bool {
	return seen != nil && seen.Incarnation == head.Incarnation && head.Turn < seen.Turn
}

func (s *scan) lostToHead(d *frame.Head) {
	f := Finding{Kind: Lost, Offset: s.size, Turn: d.Turn}
	short := count(d.Offset-s.size, "byte")
	switch last := s.order.max.turn; {
	case s.order.max.has(d.Sum):
		s.find(f, "the file is %s shorter than head says: its last turn is there, but not all before it.", short)
	case last < d.Turn:
		s.find(f, "the file is %s shorter than head says: turn %d was committed, and the file ends with turn %d.", short, d.Turn, last)
	default:
		s.find(f, "the file is %s shorter than head says.", short)
	}
}

// compareHead compares head with the frame that ends where head says.
func (s *scan) compareHead(d *frame.Head) {
	last := s.order.last
	if !last.known && !last.has(d.Sum) {
		return // what stands there is broken, and told
	}
	var differs []string
	differ := func(what string, head, file any) {
		differs = append(differs, fmt.Sprintf("%s %v, the file %v", what, head, file))
	}
	if id, ok := s.currentIncarnation(); ok && id != d.Incarnation {
		differ("incarnation", d.Incarnation, id)
	}
	if !last.has(d.Sum) {
		differ("sum", d.Sum, last.sums[0])
	}
	if last.turn != d.Turn {
		differ("turn", d.Turn, last.turn)
	}
	// An incarnation that has no turn yet has no token in the file.
	if s.clean && s.fresh == nil && s.token != d.Token {
		differ("token", d.Token, s.token)
	}
	if s.OK() && s.start != d.Start {
		differ("start", d.Start, s.start)
	}
	if s.OK() && s.begun != d.Line {
		differ("line", d.Line, s.begun)
	}
	if len(differs) == 0 {
		return
	}
	s.find(Finding{Kind: Mismatch, Offset: d.Offset, Line: s.line, Turn: d.Turn},
		"head is not this file's: it has %s.", strings.Join(differs, "; "))
}

func (s *scan) wentBack(head, seen *frame.Head) {
	s.find(Finding{Kind: Mismatch, Offset: head.Offset, Turn: seen.Turn},
		"head says turn %d, but turn %d was committed before: ZooKeeper went back in time.", head.Turn, seen.Turn)
}

// uncommitted tells what lies behind head, where the fleet writes nothing.
func (s *scan) uncommitted(head *frame.Head) {
	f := Finding{Kind: Uncommitted, Offset: head.Offset}
	what := "nobody of the fleet wrote them"
	if p, ok, err := s.peek.piece(head.Offset); err == nil && ok && p.inc == nil {
		f.Turn = p.Turn
		what = fmt.Sprintf("turn %d of %s, which was never committed", p.Turn, p.Agent)
	}
	s.find(f, "%s behind the last committed turn: %s.", count(s.Size-head.Offset, "byte"), what)
}
