package verify

import (
	"crypto/sha256"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// shortfall is a torn turn, kept because its lines may turn up in another.
type shortfall struct {
	finding int
	turn    uint64
	bytes   int64
}

// mostShort bounds how many torn turns are kept in mind.
const mostShort = 64

// unsealed takes p, which lies whole between two boundaries, but whose sum does
// not fit. must says that it ought to: the sum before it is known.
func (s *scan) unsealed(p *piece, must bool) error {
	switch {
	case s.wrongTurn(p), s.wrongFrom(p):
	case must && s.cut(p):
		return s.broken(p)
	case must && s.fresh != nil:
		s.suspect = true
		s.find(s.here(Corrupt, p), "the sum of turn %d does not fit: bytes of the turn, or of the incarnation line before it, were changed.", p.Turn)
	case must:
		s.find(s.here(Corrupt, p), "the sum of turn %d of %s does not fit: bytes of its header or its records were changed.", p.Turn, p.Agent)
	}
	return s.accept(p, false)
}

// wrongTurn reports whether p's sum fits when its turn is the one that comes next.
// Then only the number was damaged, and it is put right.
func (s *scan) wrongTurn(p *piece) bool {
	for _, turn := range []uint64{s.order.max.turn + 1, s.order.last.turn + 1} {
		q := *p
		q.follows = false
		q.Turn = turn
		if fits, _ := s.order.sealed(&q); fits && turn != p.Turn {
			s.find(s.here(Corrupt, &q), "the header of turn %d says turn %d: the number was changed.", turn, p.Turn)
			p.Turn = turn
			return true
		}
	}
	return false
}

// wrongFrom does the same for the incarnation line before p.
func (s *scan) wrongFrom(p *piece) bool {
	if s.fresh == nil {
		return false
	}
	inc := *s.inc
	inc.From = p.Turn
	l := link{turn: p.Turn - 1, known: true}
	l.add(inc.Seal(s.fresh.prev))
	if inc.From == s.inc.From || !l.seals(p) {
		return false
	}
	s.find(Finding{Kind: Corrupt, Offset: s.fresh.at, Line: s.fresh.line},
		"the incarnation line says that turn %d comes next, and it is turn %d: the number was changed.", s.inc.From, p.Turn)
	s.inc = &inc
	s.order.restart(l)
	return true
}

// broken explains p, whose sum does not fit and whose length leads astray.
func (s *scan) broken(p *piece) error {
	contiguous := p.end <= s.size && s.boundary(p.end)
	if q := *p; contiguous {
		q.follows = false
		q.Lines = p.newlines
		if fits, _ := s.order.sealed(&q); fits {
			s.find(s.here(Corrupt, p), "the header of turn %d says lines=%d, and it is %d: the number was changed.", p.Turn, p.Lines, p.newlines)
			return s.accept(&q, false)
		}
	}
	next, err := s.behind(p)
	if err != nil {
		return err
	}
	switch {
	case next.fits:
		s.find(s.here(Corrupt, p), "the header of turn %d says bytes=%d, and it is %d: the number was changed.", p.Turn, p.Bytes, next.at-p.body)
		p.Bytes, p.end = int(next.at-p.body), next.at
		if err := s.tape.measure(p); err != nil {
			return err
		}
		return s.accept(p, false)
	case contiguous && !next.within(p):
		s.find(s.here(Corrupt, p), "turn %d of %s has %s and %s instead of %d: bytes of its records were changed.",
			p.Turn, p.Agent, count(p.newlines, "newline"), count(p.Bytes, "byte"), p.Lines)
		return s.accept(p, false)
	}
	return s.misfit(p, next)
}

// behind looks for the place behind p.
func (s *scan) behind(p *piece) (place, error) {
	return s.look(p.body, p, append(slices.Clone(s.order.last.sums[:s.order.last.n]), p.Sum))
}

// within reports whether the frame that goes on from p's sum begins before the end that
// p promises: then p was cut short, and that there is an end of ours is chance.
func (a place) within(p *piece) bool { return a.onward && a.at < p.end }

// cut reports whether p, which lies between two boundaries, was cut short.
func (s *scan) cut(p *piece) bool {
	next, err := s.behind(p)
	return err == nil && next.within(p)
}

// misfit tells of p, which has fewer or more bytes than it promises, and goes on
// at next.
func (s *scan) misfit(p *piece, next place) error {
	s.clean = false
	got, promised := next.at-p.body, int64(p.Bytes)
	l := link{turn: p.Turn, known: next.chained}
	l.add(p.Sum)
	retried := false // the turn's number is still to come
	switch {
	case got == 0 && next.found && next.sum == p.Sum:
		s.find(s.here(Duplicated, p), "the header of turn %d stands there twice.", p.Turn)
		retried = true
	case got < promised:
		i := s.find(s.here(Torn, p), "turn %d of %s ends early: it promises %d bytes and has %d.", p.Turn, p.Agent, promised, got)
		if len(s.short) < mostShort {
			s.short = append(s.short, shortfall{i, p.Turn, promised - got})
		}
		retried = next.found && next.turn == p.Turn
	default:
		if err := s.mixed(p, next); err != nil {
			return err
		}
	}
	if retried {
		// The chain goes on from before p, or from p's own sum.
		s.order.last.known = s.order.last.known && next.chained
	} else {
		s.order.place(l, func(from, to uint64) *skip { return s.open(p, from, to) })
		if most := s.order.max.turn + uint64(next.inner) + 1; next.turn > s.order.max.turn && next.turn <= most {
			s.order.assume(link{turn: next.turn - 1, sums: l.sums, n: l.n, known: l.known && next.inner == 0})
		}
	}
	s.pass(next.at, 1+next.lines)
	return nil
}

// mixed tells of p, which has more bytes than it promises.
func (s *scan) mixed(p *piece, next place) error {
	surplus := next.at - p.body - int64(p.Bytes)
	line, ok, err := s.foreign(p, next.at, surplus)
	switch {
	case err != nil:
		return err
	case ok && line.twin:
		s.find(Finding{Kind: Duplicated, Offset: line.at, Line: s.line + line.n, Turn: p.Turn},
			"this line of turn %d stands there twice: without it the sum fits.", p.Turn)
	case ok:
		s.find(Finding{Kind: Interleaved, Offset: line.at, Line: s.line + line.n, Turn: p.Turn},
			"this line does not belong to turn %d of %s, inside which it stands: without it the sum fits.", p.Turn, p.Agent)
	case next.inner > 0:
		s.find(s.here(Interleaved, p), "turn %d of %s is mixed with others: %s and %s stand between its header and the next whole turn.",
			p.Turn, p.Agent, count(next.inner, "other header"), count(next.lines-int64(next.inner), "record"))
	default:
		s.find(s.here(Interleaved, p), "turn %d of %s promises %s and %d stand there: others' lines are among them.",
			p.Turn, p.Agent, count(p.Lines, "line"), next.lines)
	}
	s.turnedUp(surplus-next.innerBytes, p.Turn)
	return nil
}

// turnedUp looks whether a surplus is what a turn before lacks: then that one was
// not cut off, its lines stand elsewhere.
func (s *scan) turnedUp(surplus int64, where uint64) {
	for i, short := range s.short {
		if short.bytes == surplus {
			s.retell(short.finding, Interleaved, "turn %d is not contiguous: %d bytes of it stand at turn %d.", short.turn, surplus, where)
			s.short = slices.Delete(s.short, i, i+1)
			return
		}
	}
}

// foreignLine is a line that does not belong where it stands.
type foreignLine struct {
	at, n int64
	twin  bool // the line before it or after it is the same
}

// mostTries bounds how many lines are tried as the foreign one.
const mostTries = 8

// foreign finds the one line without which p's sum fits.
func (s *scan) foreign(p *piece, end, surplus int64) (foreignLine, bool, error) {
	w := lines{tape: s.far, off: p.body, to: end}
	var before int64 // how long the line before is
	for tries := 0; w.off < end && tries < mostTries && end-p.body <= frame.MaxBytes+extraReach; {
		from := w.off
		if err := w.next(); err != nil {
			return foreignLine{}, false, err
		}
		if w.off-from == surplus {
			tries++
			if ok, err := s.fitsWithout(p, end, from, w.off); ok || err != nil {
				return foreignLine{from, w.seen, before == surplus && s.twins(from-surplus, from, surplus) ||
					s.twins(from, w.off, surplus)}, ok, err
			}
		}
		before = w.off - from
	}
	return foreignLine{}, false, nil
}

// twins reports whether the size bytes at two places are the same.
func (s *scan) twins(a, b, size int64) bool {
	one, err := s.side.hash(a, a+size)
	two, err2 := s.side.hash(b, min(b+size, s.size))
	return err == nil && err2 == nil && one == two
}

// fitsWithout reports whether p's sum fits without the bytes between two places.
func (s *scan) fitsWithout(p *piece, end, from, to int64) (bool, error) {
	if s.budget -= end - p.body; s.budget < 0 {
		return false, nil
	}
	h := sha256.New()
	write := func(chunk []byte) { h.Write(chunk) }
	if err := s.side.each(p.body, from, write); err != nil {
		return false, err
	}
	if err := s.side.each(to, end, write); err != nil {
		return false, err
	}
	q := *p
	q.follows = false
	h.Sum(q.payload[:0])
	fits, _ := s.order.sealed(&q)
	return fits, nil
}
