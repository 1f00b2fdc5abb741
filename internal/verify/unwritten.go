package verify

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Sight is what ZooKeeper says of the file.
type Sight struct {
	// Head is how far the file is committed, nil when ZooKeeper has none.
	Head *frame.Head
	// Turns are the committed turns that have a node: they may not be in the file yet.
	Turns []frame.Turn
	// Doubts are the nodes that cannot be believed, each with its name.
	Doubts []error
}

// overlay is the file with what it lacks filled in: the turns of [Sight] of which the file
// does not have all bytes, because it ends before them or holds NULs, which no record can
// hold. What it has whole is left as it is, for the scan to judge.
type overlay struct {
	r     io.ReaderAt
	size  int64        // the file's own
	end   int64        // with what the turns add to its end
	turns []frame.Turn // those that are believed, by their place
	lacks []bool       // which of them the file lacks, wholly or in part
	met   []bool       // which of them begin where a turn of the file begins
	gap   int64        // where the first of those begins
	bytes int64        // how many bytes of theirs the file lacks
	unfit []Finding    // turns that are not believed, and bytes that are none of theirs
}

// lay makes the overlay of a file of that size.
func lay(r io.ReaderAt, size int64, seen Sight) (*overlay, error) {
	o := &overlay{r: r, size: size, end: size, gap: math.MaxInt64}
	for _, doubt := range seen.Doubts {
		o.unfit = append(o.unfit, Finding{Kind: Mismatch, Text: doubt.Error() + "."})
	}
	if seen.Head == nil {
		return o, nil
	}
	o.believe(*seen.Head, seen.Turns)
	for _, t := range o.turns {
		if t.Offset <= o.end {
			o.end = max(o.end, t.End())
		}
	}
	for _, t := range o.turns {
		n, foreign, err := o.lacking(t)
		if err != nil {
			return nil, err
		}
		if n > 0 && foreign >= 0 {
			o.unfit = append(o.unfit, Finding{
				Kind: Uncommitted, Offset: foreign, Turn: t.Number,
				Text: fmt.Sprintf("other bytes stand where turn %d is still to be written: nobody of the fleet wrote them.", t.Number),
			})
		}
		o.lacks, o.met = append(o.lacks, n > 0), append(o.met, t.Number == 0)
		if o.bytes += n; n > 0 && o.gap == math.MaxInt64 {
			o.gap = t.Offset
		}
	}
	return o, nil
}

// believe takes the turns that lead up to head, from the last to the first: each must
// end where the next begins, and have the sum that the next goes on from. Where a turn
// between two has no node, the file's chain joins them, which the scan checks.
func (o *overlay) believe(head frame.Head, turns []frame.Turn) {
	turns = slices.Clone(turns)
	slices.SortFunc(turns, func(a, b frame.Turn) int {
		if a.Number > b.Number {
			return -1
		}
		return 1
	})
	next := frame.Turn{Number: head.Turn + 1, Before: head.Start, Offset: head.Offset, Prev: head.Sum}
	whose := "head"
	for _, t := range turns {
		switch follows := t.Number+1 == next.Number; {
		case t.Incarnation != head.Incarnation || t.Number >= next.Number:
			// An older incarnation's, or committed since head was read.
		case follows && (t.End() != next.Offset || t.Sum() != next.Prev), !follows && t.End() > next.Before:
			o.unfit = append(o.unfit, Finding{
				Kind: Mismatch, Offset: t.Offset, Turn: t.Number,
				Text: fmt.Sprintf("the node of turn %d in ZooKeeper does not lead up to %s: it was altered, and is not believed.", t.Number, whose),
			})
		default:
			o.turns = append(o.turns, t)
			next, whose = t, fmt.Sprintf("that of turn %d", t.Number)
		}
	}
	slices.Reverse(o.turns)
}

// lacking is how many bytes of t the file does not have, and where it has the first that
// is another, -1 for nowhere.
func (o *overlay) lacking(t frame.Turn) (n, foreign int64, err error) {
	there := min(max(o.size-t.Offset, 0), int64(len(t.Bytes)))
	buf := make([]byte, there)
	got, err := o.r.ReadAt(buf, t.Offset)
	if err != nil && err != io.EOF {
		return 0, 0, err
	}
	foreign = -1
	for i, c := range buf[:got] {
		switch {
		case c == 0:
			n++
		case c != t.Bytes[i] && foreign < 0:
			foreign = t.Offset + int64(i)
		}
	}
	return n + int64(len(t.Bytes)-got), foreign, nil
}

// ReadAt reads the file as it is with what it lacks.
func (o *overlay) ReadAt(p []byte, off int64) (n int, err error) {
	want := int(min(int64(len(p)), max(o.end-off, 0)))
	own := int(min(int64(want), max(o.size-off, 0)))
	if n, err = o.r.ReadAt(p[:own], off); n < own {
		return n, err
	}
	for i := o.first(off); i < len(o.turns) && o.turns[i].Offset < off+int64(want); i++ {
		if t := o.turns[i]; o.lacks[i] {
			from := max(t.Offset, off)
			copy(p[from-off:want], t.Bytes[from-t.Offset:])
		}
	}
	if want < len(p) {
		return want, io.EOF
	}
	return want, nil
}

// first is the first turn that ends behind off.
func (o *overlay) first(off int64) int {
	i, _ := slices.BinarySearchFunc(o.turns, off, func(t frame.Turn, off int64) int {
		if t.End() <= off {
			return -1
		}
		return 1
	})
	return i
}

// misses reports whether the file lacks bytes of what lies between two places.
func (o *overlay) misses(from, to int64) bool {
	for i := o.first(from); i < len(o.turns) && o.turns[i].Offset < to; i++ {
		if o.lacks[i] {
			return true
		}
	}
	return false
}

// checkNode compares the node of the turn at pos, if it has one, with what the file has.
func (s *scan) checkNode(p *piece) {
	i := s.lay.first(p.at)
	if i == len(s.lay.turns) || s.lay.turns[i].Offset != p.at || !s.OK() {
		return
	}
	s.lay.met[i] = true
	if t := s.lay.turns[i]; t.Number != p.Turn || t.Header.Sum != p.Sum || t.Before != s.start {
		s.find(s.here(Mismatch, p), "the node of turn %d in ZooKeeper is not the turn %d that the file has here: it was altered.", t.Number, p.Turn)
	}
}

// checkTurns tells which nodes are not believed and what is in the way of a turn, and notes
// which turns are committed and not in the file yet.
func (s *scan) checkTurns() {
	for i, t := range s.lay.turns {
		if !s.lay.met[i] && t.Offset >= s.from && s.OK() {
			s.find(Finding{Kind: Mismatch, Offset: t.Offset, Turn: t.Number},
				"the node of turn %d in ZooKeeper says that it begins at byte %d, where no turn of the file begins: it was altered.", t.Number, t.Offset)
		}
	}
	for _, f := range s.lay.unfit {
		s.find(f, "%s", f.Text)
	}
	var first, last uint64
	begun := true // its own line is in the file
	for i, t := range s.lay.turns {
		switch {
		case !s.lay.lacks[i]:
		case t.Number == 0:
			begun = false
		default:
			if s.Unwritten++; first == 0 {
				first = t.Number
			}
			last = t.Number
		}
	}
	if begun && s.Unwritten == 0 {
		return
	}
	n := Finding{Kind: Unwritten, Offset: s.lay.gap, Turn: first}
	what := "the line that begins the file is"
	switch {
	case first == last && first > 0:
		what = fmt.Sprintf("turn %d is", first)
	case first > 0:
		what = fmt.Sprintf("%s (%d to %d) are", count(s.Unwritten, "turn"), first, last)
	}
	n.Text = fmt.Sprintf("%s committed and not in the file yet, but in ZooKeeper: %s to be written.", what, count(s.lay.bytes, "byte"))
	s.Notes = append(s.Notes, n)
}
