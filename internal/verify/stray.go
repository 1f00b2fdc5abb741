package verify

import (
	"bytes"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// stray explains lines at pos that no header covers: a header was damaged, or it
// is gone, or something that takes no turns wrote here.
func (s *scan) stray() error {
	text, err := s.tape.view(s.pos, frame.MaxLine)
	if err != nil {
		return err
	}
	text = slices.Clone(beforeHeader(text))
	sums := slices.Clone(s.order.last.sums[:s.order.last.n])
	if sum, ok := sumIn(text); ok {
		sums = append(sums, sum)
	}
	next, err := s.look(s.pos, nil, sums)
	if err != nil {
		return err
	}
	damaged, err := s.damagedBefore(text, next.at)
	if err != nil {
		return err
	}
	last, err := s.peek.view(next.at-1, 1)
	if err != nil {
		return err
	}
	s.clean = false
	due := s.order.max.turn + 1
	f := Finding{Offset: s.pos, Line: s.line}
	switch {
	case !next.found && (len(last) == 0 || last[0] != '\n'):
		f.Kind = Torn
		s.find(f, "the last line has no newline: what was written last is cut off.")
		s.lose(due, sums)
	case damaged:
		if holds(text, incarnationMarks) > 1 {
			s.suspect, s.token = true, 0 // with an incarnation tokens begin anew
		}
		s.damaged(f, due, next, sums)
	case s.pos == 0:
		f.Kind = Missing
		s.find(f, "no incarnation line begins this file: it was not written by a fleet, or its beginning is gone.")
		if next.found {
			s.order.restart(link{turn: next.turn - 1})
		}
	case !next.found || next.turn > due:
		f.Kind, f.Turn = Missing, due
		s.find(f, "%s and no header: turn %d's header is not here, or something that takes no turns wrote here.",
			count(max(next.lines, 1), "line"), due)
		s.lose(max(due, next.turn-1), sums)
	default:
		f.Kind = Interleaved
		s.find(f, "%s that no turn covers: others' records, or something that takes no turns wrote here.", count(next.lines, "line"))
		s.turnedUp(next.at-s.pos, next.turn)
	}
	s.pass(next.at, next.lines)
	return nil
}

// beforeHeader is what stands at the beginning of view before a whole header line,
// as much of it as a damaged one can be.
func beforeHeader(view []byte) []byte {
	view = view[:min(len(view), frame.MaxLine)]
	for off := 0; ; {
		n := bytes.IndexByte(view[off:], '\n') + 1
		if n == 0 {
			return view
		}
		if off += n; bytes.HasPrefix(view[off:], []byte("#turn ")) {
			return view[:off]
		}
	}
}

// damaged tells of a header or an incarnation line that cannot be read.
func (s *scan) damaged(f Finding, due uint64, next place, sums []frame.Sum) {
	f.Kind = Corrupt
	switch {
	case s.pos == 0:
		s.suspect = true
		s.find(f, "the incarnation line that begins the file cannot be read: bytes of it were changed.")
		if next.found {
			s.order.restart(link{turn: next.turn - 1})
		}
	case next.found && next.turn <= due:
		// No turn is lacking, so it was an incarnation line, where tokens begin anew.
		s.suspect, s.token = true, 0
		s.order.last.known = false
		s.find(f, "a line like a header's or an incarnation's cannot be read: bytes of it were changed.")
	default:
		f.Turn = due
		s.find(f, "the header of turn %d cannot be read: bytes of it were changed.", due)
		s.lose(due, sums)
	}
}

// lose takes the turns up to one as having stood here, unreadable. The next may go
// on from one of sums, or from a sum that is gone with them.
func (s *scan) lose(turn uint64, sums []frame.Sum) {
	l := link{turn: turn}
	for i := len(sums); i > 0; i-- {
		l.add(sums[i-1])
	}
	s.order.assume(l)
}

// damagedBefore reports whether the lines from pos to end, of which text is the
// beginning, hold what is left of a header: at their beginning, or, when the
// chain has not begun, at their end.
func (s *scan) damagedBefore(text []byte, end int64) (bool, error) {
	if resembles(text[:min(int64(len(text)), end-s.pos)]) {
		return true, nil
	}
	if s.pos != 0 {
		return false, nil
	}
	from := max(s.pos, end-frame.MaxLine)
	tail, err := s.peek.view(from, int(end-from))
	return resembles(tail[:min(int64(len(tail)), end-from)]), err
}
