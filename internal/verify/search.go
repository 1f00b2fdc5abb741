package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// place is where the reading can go on after a bad place.
type place struct {
	at    int64 // the end of the judged part when nothing was found
	lines int64 // newlines up to there
	found bool
	turn  uint64    // the turn that begins there, or that the incarnation line says is next
	sum   frame.Sum // that it carries

	fits    bool // the frame before ends exactly here: its length was damaged and nothing else
	chained bool // the sum there goes on from one that we know,
	onward  bool // which is that of the broken frame

	inner      int   // headers on the way whose frames lead nowhere,
	innerBytes int64 // and what they promise, themselves included
}

// search is a look for such a place.
type search struct {
	*scan
	broken *piece      // the frame with the bad place, nil when its header is damaged
	sums   []frame.Sum // what the next frame may go on from
	walk   lines
	from   int64
	reach  int64 // how far to look for a chained place once another is found
	best   place

	inner      int
	innerBytes int64
}

// extraReach covers a record that was put in.
const extraReach = frame.MaxRecord + frame.MaxLine

// look searches from a line on, for a place that fits; failing that, for the first
// that is chained; failing that, for the first whose frame ends where another line
// of ours begins, since a payload may hold text that looks like a header.
func (s *scan) look(from int64, broken *piece, sums []frame.Sum) (place, error) {
	f := search{scan: s, broken: broken, sums: sums, from: from, reach: from + 1<<20}
	f.walk = lines{tape: s.far, off: from, to: s.stop}
	if broken != nil {
		f.walk.hash = sha256.New()
		// A damaged digit makes a length at most ten times too small.
		f.reach = from + min(10*int64(broken.Bytes)+extraReach, frame.MaxBytes)
	}
	defer func() { s.budget -= f.walk.off - from }()
	for {
		if f.walk.hash != nil && f.walk.off-from > frame.MaxBytes {
			f.walk.hash = nil
		}
		done, err := f.here()
		if done || err != nil {
			return f.best, err
		}
		if f.best.found && (f.walk.off > f.reach || s.budget < f.walk.off-from) {
			return f.best, nil
		}
		if f.walk.off >= s.stop {
			break
		}
		if err := f.walk.next(); err != nil {
			return f.best, err
		}
	}
	if !f.best.found {
		f.best = place{at: s.stop, lines: f.walk.seen, inner: f.inner, innerBytes: f.innerBytes}
	}
	return f.best, nil
}

// here looks at the line where the walk stands; true ends the search.
func (f *search) here() (bool, error) {
	p, ok, err := f.walk.tape.piece(f.walk.off)
	if err != nil {
		return false, err
	}
	at := place{at: f.walk.off, lines: f.walk.seen, inner: f.inner, innerBytes: f.innerBytes}
	if ok && p.at < f.stop {
		at.found, at.turn, at.sum = true, p.Turn, p.Sum
		if p.inc != nil {
			at.turn = p.inc.From
		}
	}
	if (at.found || f.walk.off == f.stop) && f.endsFrame() {
		at.fits = true
		f.best = at
		return true, nil
	}
	if !at.found {
		return false, nil
	}
	if !f.stands(&p) {
		f.inner++
		f.innerBytes += p.end - p.at
		if len(f.sums) < 16 {
			f.sums = append(f.sums, p.Sum)
		}
		return false, nil
	}
	at.chained, err = f.goesOn(&p)
	at.onward = at.chained && f.broken != nil && p.inc == nil && p.sealedBy(f.broken.Sum)
	if !f.best.found || at.chained && !f.best.chained {
		f.best = at
	}
	// Text can imitate a frame that goes on from the sum before the broken one, but
	// not from the broken one's own, which depends on that text.
	return at.onward || at.chained && f.broken == nil, err
}

// endsFrame reports whether the broken frame's sum fits when it ends where the
// walk stands.
func (f *search) endsFrame() bool {
	if f.broken == nil || f.walk.hash == nil || f.walk.off == f.from {
		return false
	}
	p := *f.broken
	p.follows = false
	p.Bytes = int(f.walk.off - f.from)
	f.walk.hash.Sum(p.payload[:0])
	fits, _ := f.order.sealed(&p)
	return fits
}

// stands reports whether p ends where something of ours begins.
func (f *search) stands(p *piece) bool {
	if p.inc != nil {
		return f.boundary(p.end)
	}
	if p.end > f.size {
		return false
	}
	last, err := f.peek.view(p.end-1, 1+frame.MaxLine)
	return err == nil && len(last) > 0 && last[0] == '\n' && f.boundary(p.end)
}

// goesOn reports whether p's sum goes on from one that is known.
func (f *search) goesOn(p *piece) (bool, error) {
	if p.inc != nil {
		return f.confirmed(p)
	}
	if f.budget -= int64(p.Bytes) + frame.MaxLine; f.budget < 0 {
		return false, nil
	}
	if err := f.side.measure(p); err != nil {
		return false, err
	}
	for _, sum := range f.sums {
		if p.sealedBy(sum) {
			return true, nil
		}
	}
	return false, nil
}

// confirmed reports whether the incarnation line p is one, and not a record's text:
// the frame behind it goes on from it, or it tells its own place.
func (f *search) confirmed(p *piece) (bool, error) {
	if p.inc.Preamble != 0 {
		return p.inc.Preamble == p.at, nil
	}
	first, ok, err := f.side.piece(p.end)
	if err != nil || !ok || first.inc != nil || first.end > f.size {
		return false, err
	}
	if f.broken == nil { // the sum before it is gone with the header
		next := f.order.max.turn + 1
		return first.Turn == p.inc.From && (first.Turn == next || first.Turn == next+1), nil
	}
	if f.budget -= int64(first.Bytes) + frame.MaxLine; f.budget < 0 {
		return false, nil
	}
	if err := f.side.measure(&first); err != nil {
		return false, err
	}
	return slices.ContainsFunc(f.sums, func(sum frame.Sum) bool { return first.sealedBy(p.inc.Seal(&sum)) }), nil
}

// sumIn finds the sum in what is left of a header.
func sumIn(text []byte) (sum frame.Sum, ok bool) {
	_, after, ok := bytes.Cut(text, []byte(" sum="))
	if !ok || len(after) < hex.EncodedLen(len(sum)) {
		return sum, false
	}
	return sum, sum.UnmarshalText(after[:hex.EncodedLen(len(sum))]) == nil
}
