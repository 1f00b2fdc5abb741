package verify

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// The operators that set the file against what others know of it: head, the turns'
// nodes and the acknowledgement logs.

func cutBetweenTurns(r *rand.Rand, h *history) (damage, bool) {
	n := pick(r, h.turns).start
	d := toldAt(n, Lost, h.head.Turn, h.data[:n])
	d.head = &h.head
	return d, true
}

func acknowledgedCutOff(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	d := toldAt(w.start, Lost, w.Turn, h.data[:w.start])
	d.acks = acksOf(w.Agent, h.turns)
	return d, true
}

func otherAcknowledged(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	turns := slices.Clone(h.turns)
	records := slices.Clone(w.records)
	n := r.IntN(len(records))
	records[n] = append(slices.Clone(records[n]), 'x')
	turns[w.Turn-1].records = records
	d := toldAt(w.start, Lost, w.Turn, h.data)
	d.acks = acksOf(w.Agent, turns)
	return d, true
}

func acknowledgedTwice(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	twice := frame.AppendAck(nil, frame.Ack{Turn: w.Turn, Line: 1, Hash: sha(w.records[0])})
	d := toldAt(0, Duplicated, w.Turn, h.data) // what is wrong is in the log, not in the file
	d.acks = acksOf(w.Agent, h.turns)
	at := bytes.Index(d.acks, append([]byte("\n"), twice...)) + 1
	d.acks = spliced(d.acks, at, at, twice...)
	return d, true
}

func wiped(_ *rand.Rand, h *history) (damage, bool) {
	d := toldAt(len(h.data), Mismatch, 0, h.data)
	d.wiped = true
	return d, true
}

func headRestored(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	d := toldAt(w.end, Mismatch, h.head.Turn, h.data)
	head := w.head()
	d.head, d.known = &head, &h.head
	return d, w.Turn < h.head.Turn && w.incarnation == h.head.Incarnation
}

func foreignHead(r *rand.Rand, h *history) (damage, bool) {
	head, w := h.head, pick(r, h.turns)
	switch r.IntN(6) {
	case 0:
		head.Sum[r.IntN(16)] ^= byte(1 + r.IntN(255))
	case 1:
		head.Token += 1 + frame.Token(r.IntN(9))
	case 2:
		head.Turn += 1 + r.Uint64N(9)
	case 3:
		head.Incarnation[15] ^= byte(1 + r.IntN(255))
	case 4: // in the middle of a turn
		head.Offset -= 1 + r.Int64N(int64(h.turns[len(h.turns)-1].Bytes))
	case 5: // where another turn ends
		head.Offset = int64(w.end)
	}
	d := toldAt(int(head.Offset), Mismatch, head.Turn, h.data)
	d.head = &head
	return d, head != h.head
}

func foreignLog(r *rand.Rand, h *history) (damage, bool) {
	turns := slices.Clone(h.turns)
	for i := range turns {
		turns[i].incarnation = testIDs[1]
	}
	agent := pick(r, h.turns).Agent
	first := h.turns[slices.IndexFunc(h.turns, func(w written) bool { return w.Agent == agent })]
	d := toldAt(first.start, Mismatch, first.Turn, h.data)
	d.acks = acksOf(agent, turns)
	return d, true
}

func tailBehindHead(r *rand.Rand, h *history) (damage, bool) {
	w := pick(r, h.turns)
	tail := h.data[w.end:]
	switch r.IntN(3) {
	case 0:
		tail = make([]byte, 1+r.IntN(5000))
	case 1:
		tail = []byte("#turn of events, which is none")
	case 2:
		if len(tail) > 0 {
			tail = tail[:1+r.IntN(len(tail))]
		}
	}
	d := toldAt(w.end, Uncommitted, 0, slices.Concat(h.data[:w.end], tail))
	head := w.head()
	d.head = &head
	return d, len(tail) > 0
}

// nodeAltered has ZooKeeper hold a turn that does not lead up to head, or that cannot be
// read, though the file has what was committed.
func nodeAltered(r *rand.Rand, h *history) (damage, bool) {
	w := h.turns[len(h.turns)-1]
	node := w.node()
	d := toldAt(w.start, Mismatch, w.Turn, h.data)
	d.head = &h.head
	switch r.IntN(4) {
	case 0:
		node.Before--
	case 1:
		node.Offset++
		d.to++
	case 2: // another turn at the same place
		other := w.Header
		other.Token++
		node = w.before.Next(other, testRun, w.records)
	case 3:
		d.doubts = []error{errors.New("turns/x cannot be believed")}
		d.turn, d.from, d.to = 0, 0, 0
		return d, true
	}
	d.nodes = []frame.Turn{node}
	return d, w.incarnation == h.head.Incarnation && h.head.Turn == w.Turn
}

// acknowledgedTooEarly cuts off what ZooKeeper still has, and agents were told of.
func acknowledgedTooEarly(r *rand.Rand, h *history) (damage, bool) {
	from := r.IntN(len(h.turns))
	w := h.turns[from]
	n := w.start + r.IntN(w.end-w.start)
	d := toldAt(int(h.head.Offset), Lost, 0, h.data[:n])
	for _, w := range h.turns[from:] {
		if w.incarnation != h.head.Incarnation {
			return d, false
		}
		d.nodes = append(d.nodes, w.node())
	}
	d.from, d.head, d.acks = w.start, &h.head, acksOf(w.Agent, h.turns)
	return d, true
}

// otherBytesThanCommitted puts bytes that are no NULs where a turn is to be written.
func otherBytesThanCommitted(r *rand.Rand, h *history) (damage, bool) {
	w := h.turns[len(h.turns)-1]
	d, _ := flipped(r, h, w, w.start+r.IntN(w.end-w.start))
	d.head, d.nodes = &h.head, []frame.Turn{w.node()}
	return d, w.incarnation == h.head.Incarnation && bytes.IndexByte(d.data[w.start:w.end], 0) < 0
}
