package verify

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// The operators that damage the file itself.

func pick(r *rand.Rand, turns []written) written { return turns[r.IntN(len(turns))] }

// plain reports whether no record of w is a header line. In a damaged turn such a
// record may be the header that it is not, and more than one explanation fits.
func (w written) plain() bool {
	return !slices.ContainsFunc(w.records, func(r []byte) bool { return bytes.HasPrefix(r, []byte("#turn ")) })
}

// flipped changes the byte at i, which is w's, to another value.
func flipped(r *rand.Rand, h *history, w written, i int) (damage, bool) {
	data := slices.Clone(h.data)
	data[i] ^= byte(1 + r.IntN(255))
	return toldAt(w.start, Corrupt, w.Turn, data), true
}

func recordFlipped(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	return flipped(r, h, w, w.body+r.IntN(w.end-w.body))
}

func headerFlipped(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	return flipped(r, h, w, w.start+r.IntN(w.body-w.start))
}

func recordsSwapped(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	records := slices.Clone(w.records)
	i, j := r.IntN(len(records)), r.IntN(len(records))
	records[i], records[j] = records[j], records[i]
	body := append(bytes.Join(records, newline), '\n')
	return toldAt(w.start, Corrupt, w.Turn, spliced(h.data, w.body, w.end, body...)), !bytes.Equal(records[i], records[j])
}

func endZeroed(r *rand.Rand, h *history) (damage, bool) {
	w := h.turns[len(h.turns)-1]
	n := 1 + r.IntN(w.Bytes)
	return toldAt(w.start, Corrupt, w.Turn, spliced(h.data, w.end-n, w.end, make([]byte, n)...)), true
}

func turnsGone(r *rand.Rand, h *history) (damage, bool) {
	i := r.IntN(len(h.turns))
	a, b := h.turns[i], h.turns[i+r.IntN(len(h.turns)-i)]
	if int(b.Turn) == len(h.turns) || a.incarnation != b.incarnation {
		return damage{}, false // without its last turns a file is whole, only shorter
	}
	d := toldAt(a.start, Missing, a.Turn, spliced(h.data, a.start, b.end))
	d.to = h.turns[b.Turn].start - (b.end - a.start) // there may be an incarnation line between
	return d, true
}

func headerGone(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	return toldAt(w.start, Missing, w.Turn, spliced(h.data, w.start, w.body)), w.plain()
}

func turnAgain(r *rand.Rand, h *history) (damage, bool) {
	i := r.IntN(len(h.turns))
	w, at := h.turns[i], h.turns[i+r.IntN(len(h.turns)-i)].end
	return toldAt(at, Duplicated, w.Turn, spliced(h.data, at, at, w.bytes(h)...)), true
}

func recordAgain(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	n, last := r.IntN(len(w.records)), len(w.records)-1
	first := n // of the same records in a row: which of them is the new one cannot be told
	for first > 0 && bytes.Equal(w.records[first-1], w.records[n]) {
		first--
	}
	ends := w.lineEnds()
	d := toldAt(ends[n], Duplicated, w.Turn, spliced(h.data, ends[n], ends[n], h.data[ends[n]:ends[n+1]]...))
	d.from, d.to = ends[first], ends[n+1]
	// One like the last may as well be a line behind the turn.
	return d, w.plain() && !bytes.Equal(w.records[n], w.records[last])
}

func headerAgain(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	return toldAt(w.start, Duplicated, w.Turn, spliced(h.data, w.start, w.start, h.data[w.start:w.body]...)), w.plain()
}

func turnsSwapped(r *rand.Rand, h *history) (damage, bool) {
	a, b := pick(r, h.turns), pick(r, h.turns)
	if a.Turn >= b.Turn || a.incarnation != b.incarnation {
		return damage{}, false
	}
	data := slices.Concat(h.data[:a.start], b.bytes(h), h.data[a.end:b.start], a.bytes(h), h.data[b.end:])
	late := a.Turn
	if b.Turn > a.Turn+1 {
		late++ // it is the first to stand after a later one
	}
	return toldAt(a.start, Reordered, late, data), true
}

func tokenFalls(r *rand.Rand, h *history) (damage, bool) {
	last := h.head.Token
	if last < 4 {
		return damage{}, false
	}
	h.head.Token = frame.Token(r.Uint64N(uint64(last) - 2)) // turn adds three: at most the same again
	at := len(h.data)
	h.turn("agent-1", "a record")
	return toldAt(at, Reordered, h.head.Turn, h.data), true
}

func cutInTurn(r *rand.Rand, h *history) (damage, bool) {
	w := h.turns[len(h.turns)-1]
	n := w.start + 1 + r.IntN(w.end-w.start-1)
	d := toldAt(w.start, Torn, w.Turn, h.data[:n])
	if n < w.body {
		d.turn = 0 // its number may be cut too
	}
	return d, true
}

// without takes bytes out of a turn that ends in data's middle.
func without(h *history, w written, from, to int) (damage, bool) {
	data := spliced(h.data, from, to)
	// What is gone may be exactly as long as an incarnation line that follows: then
	// the turn has its lines and ends where a header begins.
	line := int(w.Turn) < len(h.turns) && h.turns[w.Turn].start > w.end
	byChance := line && w.end < len(data) && bytes.HasPrefix(data[w.end:], []byte("#turn"))
	return toldAt(w.start, Torn, w.Turn, data), w.plain() && !byChance
}

func endGone(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	return without(h, w, w.lineEnds()[r.IntN(len(w.records))], w.end)
}

func recordGone(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	n, ends := r.IntN(len(w.records)), w.lineEnds()
	return without(h, w, ends[n], ends[n+1])
}

func zerosBehind(r *rand.Rand, h *history) (damage, bool) {
	n := len(h.data)
	return toldAt(n, Torn, 0, append(h.data, make([]byte, 1+r.IntN(5000))...)), true
}

func foreignRecord(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	at := w.lineEnds()[r.IntN(len(w.records))]
	line := fmt.Appendf(nil, "%d: another agent's line\n", r.Uint64())
	d := toldAt(at, Interleaved, w.Turn, spliced(h.data, at, at, line...))
	d.from = w.start // it need not be told which line
	return d, w.plain()
}

func turnsMixed(r *rand.Rand, h *history) (damage, bool) {
	if len(h.turns) < 2 {
		return damage{}, false
	}
	i := r.IntN(len(h.turns) - 1)
	a, b := h.turns[i], h.turns[i+1]
	var mixed []byte
	turns := 0 // how often it is the other's turn
	for x, y := a.lines(h), b.lines(h); len(x)+len(y) > 0; {
		if len(x) == 0 || len(y) > 0 && r.IntN(2) == 0 {
			x, y = y, x
			turns++
		}
		mixed = append(mixed, x[0]...)
		x = x[1:]
	}
	d := toldAt(a.start, Interleaved, 0, spliced(h.data, a.start, b.end, mixed...))
	d.to = b.end
	mixedUp := !bytes.HasPrefix(mixed, a.bytes(h)) && !bytes.HasPrefix(mixed, b.bytes(h))
	return d, turns > 0 && mixedUp && a.incarnation == b.incarnation && a.plain() && b.plain()
}

// lines are the turn's, its header first.
func (w written) lines(h *history) (lines [][]byte) {
	from := w.start
	for _, to := range w.lineEnds() {
		lines = append(lines, h.data[from:to])
		from = to
	}
	return lines
}

func recordMoved(r *rand.Rand, h *history) (damage, bool) {
	a, b := pick(r, h.turns), pick(r, h.turns)
	n := r.IntN(len(a.records))
	from, to := a.lineEnds()[n], a.lineEnds()[n+1]
	at := b.lineEnds()[r.IntN(len(b.records))]
	same := func(record []byte) bool { return bytes.Equal(record, a.records[n]) }
	if a.Turn == b.Turn || !b.plain() || slices.ContainsFunc(b.records, same) {
		return damage{}, false // one that is there already would be one of b's again
	}
	if at < from {
		data := slices.Concat(h.data[:at], h.data[from:to], h.data[at:from], h.data[to:])
		d := toldAt(at, Interleaved, b.Turn, data)
		d.from = b.start
		return d, a.plain()
	}
	d, ok := without(h, a, from, to)
	d.data = slices.Concat(h.data[:from], h.data[to:at], h.data[from:to], h.data[at:])
	d.kind = Interleaved // not torn: what is gone here is found there
	return d, ok
}
