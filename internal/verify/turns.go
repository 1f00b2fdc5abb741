package verify

import "fmt"

// repeat is a run of turns that appear again, told as one finding while it goes on.
type repeat struct {
	finding  int
	from, to uint64
	end      int64
}

// open tells that turns are skipped before p. If they come later, late retells it.
func (s *scan) open(p *piece, from, to uint64) *skip {
	f := s.here(Missing, p)
	f.Turn = from
	k := &skip{Finding: f}
	k.told = s.find(f, "%s not here: turn %d of %s follows turn %d.", areTurns(from, to), p.Turn, p.Agent, from-1)
	return k
}

// late tells that p fills a gap, standing after turn before: what was taken as
// missing is out of order.
func (s *scan) late(p *piece, k *skip, before uint64) {
	switch {
	case !k.filled:
		k.filled = true
		s.retell(k.told, Reordered, "turn %d stands after a later one: it is at byte %d, and should be here.", p.Turn, p.at)
		if k.told >= 0 {
			s.Findings[k.told].Turn = p.Turn
		}
	case p.Turn != before+1:
		s.find(s.here(Reordered, p), "turn %d stands after turn %d.", p.Turn, before)
	}
}

// again tells that p's number was seen before.
func (s *scan) again(p *piece) {
	r := &s.repeat
	if r.end == p.at && r.to+1 == p.Turn && r.end != 0 {
		r.to, r.end = p.Turn, p.end
		s.retell(r.finding, Duplicated, "turns %d to %d stand in the file before and appear here again.", r.from, r.to)
		return
	}
	i := s.find(s.here(Duplicated, p), "turn %d stands in the file before and appears here again, written by %s.", p.Turn, p.Agent)
	s.repeat = repeat{i, p.Turn, p.Turn, p.end}
}

// checkOrder tells, when all is read, what did not come after all.
func (s *scan) checkOrder() {
	for _, g := range s.order.gaps {
		if g.skip.filled {
			f := g.skip.Finding
			f.Turn = g.from
			s.find(f, "%s not in the file, and those around are out of order.", areTurns(g.from, g.to))
		}
	}
	if next := s.order.max.turn + 1; s.fresh != nil && s.inc != nil && s.inc.From != next {
		f := Finding{Kind: Missing, Offset: s.fresh.at, Line: s.fresh.line, Turn: next}
		if s.inc.From < next {
			f.Kind = Duplicated
		}
		s.find(f, "the incarnation line says that turn %d comes next, but the file is at turn %d.", s.inc.From, next)
	}
}

func areTurns(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("turn %d is", from)
	}
	return fmt.Sprintf("turns %d to %d are", from, to)
}

// count gives a number with its noun.
func count[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
