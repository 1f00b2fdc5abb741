package verify

import (
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// mostGaps bounds how many open gaps are remembered.
const mostGaps = 1024

// link is where the chain stands after a turn. A damaged frame leaves two sums
// that the next one may go on from: the one it carries, if its records were
// damaged, and the one it should carry, if its header was.
type link struct {
	turn  uint64
	sums  [3]frame.Sum
	n     int
	known bool // the next turn's sum must fit one of them
}

func (l *link) add(s frame.Sum) {
	if l.n < len(l.sums) && !slices.Contains(l.sums[:l.n], s) {
		l.sums[l.n] = s
		l.n++
	}
}

func (l *link) has(s frame.Sum) bool { return slices.Contains(l.sums[:l.n], s) }

func (l *link) seals(p *piece) bool {
	return slices.ContainsFunc(l.sums[:l.n], p.sealedBy)
}

// gap is a range of turns that were skipped and may still come: whether they are
// missing or only out of order is known when the file has ended.
type gap struct {
	from, to uint64
	before   link // of the turn before from
	skip     *skip
}

// skip is what opened a gap, shared by the parts it falls into.
type skip struct {
	Finding
	told   int  // where the finding stands
	filled bool // a skipped turn came later: then it is reordered
}

// order keeps the turn numbers. Everything up to max was seen, the gaps excepted.
type order struct {
	last link // the frame before this one, as they lie in the file
	max  link // the highest turn
	gaps []gap
}

// restart begins anew after the place l.
func (o *order) restart(l link) { o.last, o.max = l, l }

func (o *order) gapOf(turn uint64) int {
	return slices.IndexFunc(o.gaps, func(g gap) bool { return g.from <= turn && turn <= g.to })
}

// before gives the places of the chain that turn may stand at.
func (o *order) before(turn uint64) (places [3]*link, n int) {
	if o.last.turn+1 == turn {
		places[n] = &o.last
		n++
	}
	if o.max.turn != o.last.turn && o.max.turn+1 == turn {
		places[n] = &o.max
		n++
	}
	for i := range o.gaps {
		if o.gaps[i].from == turn {
			places[n] = &o.gaps[i].before
			n++
			break
		}
	}
	return places, n
}

// sealed reports whether p's sum fits a place that its turn may stand at, and
// whether it has to.
func (o *order) sealed(p *piece) (fits, must bool) {
	if o.last.turn == o.max.turn && o.last.turn+1 == p.Turn && o.last.seals(p) {
		return true, true
	}
	places, n := o.before(p.Turn)
	for _, l := range places[:n] {
		if l.seals(p) {
			return true, true
		}
		must = must || l.known && l.turn+1 == p.Turn
	}
	// A writer that skipped a number may still have gone on with the chain.
	return o.last.seals(p), must
}

// sums gives what the frame after p may go on from: p's own sum, and those that p
// should carry if its header was damaged.
func (o *order) sums(p *piece, fits bool) link {
	l := link{turn: p.Turn, known: true}
	l.add(p.Sum)
	if fits {
		return l
	}
	places, n := o.before(p.Turn)
	for _, from := range places[:n] {
		for _, s := range from.sums[:from.n] {
			l.add(p.Seal(s, p.payload))
		}
	}
	return l
}

// step is how a turn's number follows the ones before it.
type step int

const (
	inOrder step = iota
	again        // seen before
	skipped      // leaves a gap
	late         // fills a gap
)

// place records that turn l.turn stands next in the file.
func (o *order) place(l link, open func(from, to uint64) *skip) (step, *skip) {
	defer func() { o.last = l }()
	switch turn := l.turn; {
	case turn == o.max.turn+1:
		o.max = l
		return inOrder, nil
	case turn > o.max.turn:
		s := open(o.max.turn+1, turn-1)
		if len(o.gaps) < mostGaps {
			o.gaps = append(o.gaps, gap{o.max.turn + 1, turn - 1, o.max, s})
		}
		o.max = l
		return skipped, s
	default:
		i := o.gapOf(turn)
		if i < 0 {
			return again, nil
		}
		s := o.gaps[i].skip
		o.fill(i, l)
		return late, s
	}
}

// fill takes one turn out of a gap.
func (o *order) fill(i int, l link) {
	g := o.gaps[i]
	rest := gap{l.turn + 1, g.to, l, g.skip}
	g.to = l.turn - 1
	switch left, right := g.from <= g.to, rest.from <= rest.to; {
	case left && right && len(o.gaps) < mostGaps:
		o.gaps[i] = g
		o.gaps = slices.Insert(o.gaps, i+1, rest)
	case right:
		o.gaps[i] = rest
	case left:
		o.gaps[i] = g
	default:
		o.gaps = slices.Delete(o.gaps, i, i+1)
	}
}

// assume takes the turns up to last as seen, in whatever state.
func (o *order) assume(l link) {
	if l.turn > o.max.turn {
		o.max = l
	}
	o.last = l
}
