package verify

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// The operators that set the file against what others know of it: head, the fence's
// receipt and the acknowledgement logs.

// headAt is what head was when w was committed.
func headAt(w written) *frame.Head {
	return &frame.Head{Incarnation: w.incarnation, Turn: w.Turn, Offset: int64(w.end), Sum: w.Sum, Token: w.Token, Agent: w.Agent, At: w.At}
}

func cutBetweenTurns(r *rand.Rand, h *history) (damage, bool) {
	n := pick(r, h.turns).start
	d := toldAt(n, Lost, h.head.Turn, h.data[:n])
	d.head = &h.head
	return d, true
}

func volumeRestored(r *rand.Rand, h *history) (damage, bool) {
	n := pick(r, h.turns).start
	d := toldAt(n, Lost, h.head.Turn, h.data[:n])
	d.receipt = &Receipt{h.head.Turn, h.head.Offset}
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
	d.head, d.receipt = headAt(w), &Receipt{h.head.Turn, h.head.Offset}
	return d, w.Turn < h.head.Turn
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
	d.head = headAt(w)
	return d, len(tail) > 0
}
