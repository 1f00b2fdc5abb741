package verify

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

func sha(data []byte) [sha256.Size]byte { return sha256.Sum256(data) }

// adopted is a small file with everything in it: a preamble, two incarnations.
func adopted() *history {
	h := newHistory("before the fleet\n#turn of events\n")
	h.turnsOf(3)
	h.incarnate(testIDs[1])
	h.head.Token = 0 // the new incarnation's tokens begin anew
	h.turnsOf(4)
	return h
}

func smallFiles() map[string]*history {
	return map[string]*history{"plain": ordinary(5), "one turn": ordinary(1), "adopted": adopted()}
}

func TestValidFilesPass(t *testing.T) {
	for seed := range uint64(300) {
		h := random(rand.New(rand.NewPCG(seed, 1)), int(seed%40))
		r := verifying(t, h.data, nil)
		wantFine(t, r)
		wantFine(t, verifying(t, h.data, &h.head))
		if int(r.Turns) != len(h.turns) || r.Last != h.head.Turn {
			t.Errorf("seed %d: %d turns up to %d, want %d up to %d", seed, r.Turns, r.Last, len(h.turns), h.head.Turn)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestEverySingleByteFlipIsCorruption(t *testing.T) {
	for name, h := range smallFiles() {
		for i := range h.data {
			for _, mask := range []byte{0x01, 0x02, 0x10, 0x80, h.data[i] ^ '\n', h.data[i] ^ '9', h.data[i] ^ '#', h.data[i] ^ ' '} {
				if mask == 0 {
					continue
				}
				data := slices.Clone(h.data)
				data[i] ^= mask
				t.Run(fmt.Sprintf("%s byte %d %q to %q", name, i, h.data[i], data[i]), func(t *testing.T) {
					r := verifying(t, data, nil)
					wantFirst(t, r, Corrupt)
					// Half of an incarnation line can pass for one; then the rest is told too.
					if split := i < h.turns[0].start && data[i] == '\n'; r.Faults() > 1 && !split {
						t.Errorf("one flip, %d findings%s", r.Faults(), told(r))
					}
					wantFirst(t, verifying(t, data, &h.head), Corrupt)
				})
				if t.Failed() {
					t.FailNow()
				}
			}
		}
	}
}

func TestEveryCut(t *testing.T) {
	for name, h := range smallFiles() {
		for n := range h.data {
			cut := h.data[:n]
			r, headed := verifying(t, cut, nil), verifying(t, cut, &h.head)
			switch {
			case name == "adopted" && n < h.turns[0].start:
				// Without its incarnation line a preamble is just some file.
			case h.endsAt(n):
				wantKinds(t, r)
				wantKinds(t, headed, Lost)
			default:
				wantKinds(t, r, Torn)
				wantKinds(t, headed, Torn, Lost)
			}
			if t.Failed() {
				t.Fatalf("%s cut at %d of %d", name, n, len(h.data))
			}
		}
	}
}

// endsAt reports whether a frame or an incarnation line ends at n.
func (h *history) endsAt(n int) bool {
	if n == 0 {
		return true
	}
	for _, w := range h.turns {
		if n == w.start || n == w.end {
			return true
		}
	}
	// An incarnation line between two turns: their ends do not meet.
	for i := 1; i < len(h.turns); i++ {
		if h.turns[i-1].end <= n && n <= h.turns[i].start {
			return n == h.turns[i-1].end || n == h.turns[i].start
		}
	}
	return false
}

func TestOneDeletedLine(t *testing.T) {
	h := ordinary(6)
	for i, w := range h.turns {
		from := w.start
		for line, to := range w.lineEnds() {
			want := Torn
			if line == 0 {
				want = Missing
			}
			r := verifying(t, spliced(h.data, from, to), nil)
			t.Run(fmt.Sprintf("line %d of turn %d", line, i+1), func(t *testing.T) { wantKinds(t, r, want) })
			from = to
		}
	}
	wantKinds(t, verifying(t, h.data[h.turns[0].start:], nil), Missing)
}

func TestOneDoubledLine(t *testing.T) {
	h := ordinary(6)
	for i, w := range h.turns {
		from := w.start
		ends := w.lineEnds()
		for line, to := range ends {
			want := Duplicated
			if line == len(ends)-1 {
				// At the end of a turn it is not inside: the turn's sum fits.
				want = Interleaved
				if i == len(h.turns)-1 {
					want = Missing
				}
			}
			r := verifying(t, spliced(h.data, from, from, h.data[from:to]...), nil)
			t.Run(fmt.Sprintf("line %d of turn %d", line, i+1), func(t *testing.T) { wantKinds(t, r, want) })
			from = to
		}
	}
	wantKinds(t, verifying(t, spliced(h.data, 0, 0, h.data[:h.turns[0].start]...), nil), Duplicated)
}

func TestWholeTurns(t *testing.T) {
	h := ordinary(9)
	for i, w := range h.turns[:8] {
		t.Run(fmt.Sprintf("turn %d deleted", i+1), func(t *testing.T) {
			wantKinds(t, verifying(t, spliced(h.data, w.start, w.end), nil), Missing)
		})
		for j, x := range h.turns[i:] {
			t.Run(fmt.Sprintf("turn %d again after %d", i+1, i+j+1), func(t *testing.T) {
				wantKinds(t, verifying(t, spliced(h.data, x.end, x.end, w.bytes(h)...), nil), Duplicated)
			})
		}
	}
	t.Run("three turns again are one finding", func(t *testing.T) {
		again := h.data[h.turns[2].start:h.turns[4].end]
		wantKinds(t, verifying(t, spliced(h.data, h.turns[6].end, h.turns[6].end, again...), nil), Duplicated)
	})
}

func TestSwappedTurns(t *testing.T) {
	h := ordinary(9)
	for i := range h.turns {
		for j := i + 1; j < len(h.turns); j++ {
			a, b := h.turns[i], h.turns[j]
			data := slices.Concat(h.data[:a.start], b.bytes(h), h.data[a.end:b.start], a.bytes(h), h.data[b.end:])
			r := verifying(t, data, nil)
			for _, k := range kinds(r) {
				if k != Reordered {
					t.Errorf("turns %d and %d swapped: %v%s", i+1, j+1, kinds(r), told(r))
				}
			}
			if n := r.Faults(); n < 1 || n > 2 {
				t.Errorf("turns %d and %d swapped: %d findings%s", i+1, j+1, n, told(r))
			}
		}
	}
}

func TestMovedTurn(t *testing.T) {
	h := ordinary(9)
	a, b := h.turns[2], h.turns[6]
	later := slices.Concat(h.data[:a.start], h.data[a.end:b.end], a.bytes(h), h.data[b.end:])
	wantKinds(t, verifying(t, later, nil), Reordered)
	earlier := slices.Concat(h.data[:a.start], b.bytes(h), h.data[a.start:b.start], h.data[b.end:])
	wantKinds(t, verifying(t, earlier, nil), Reordered)
}

func TestTokensRise(t *testing.T) {
	for _, step := range []int{-4, -3} { // below the last, and the same again
		h := ordinary(4)
		h.head.Token = tokenPlus(h, step)
		h.turnsOf(3)
		wantKinds(t, verifying(t, h.data, nil), Reordered)
	}
}

func TestForeignLines(t *testing.T) {
	h := ordinary(6)
	line := []byte("somebody else wrote this\n")
	for i, w := range h.turns {
		for n, at := range w.lineEnds() {
			want := Interleaved
			if i == len(h.turns)-1 && n == len(w.records) {
				want = Missing // lines at the end that no header covers
			}
			r := verifying(t, spliced(h.data, at, at, line...), nil)
			t.Run(fmt.Sprintf("after line %d of turn %d", n, i+1), func(t *testing.T) { wantKinds(t, r, want) })
		}
	}
}

func TestMovedRecord(t *testing.T) {
	h := ordinary(6)
	for i, from := range h.turns {
		cut := h.data[from.body : from.body+len(from.records[0])+1]
		for j, to := range h.turns {
			if i == j {
				continue
			}
			var data []byte
			if at := to.lineEnds()[1]; at > from.start {
				data = slices.Concat(h.data[:from.body], h.data[from.body+len(cut):at], cut, h.data[at:])
			} else {
				data = slices.Concat(h.data[:at], cut, h.data[at:from.body], h.data[from.body+len(cut):])
			}
			r := verifying(t, data, nil)
			t.Run(fmt.Sprintf("from turn %d to turn %d", i+1, j+1), func(t *testing.T) { wantFirst(t, r, Interleaved) })
		}
	}
}

func TestTurnsWrittenThroughEachOther(t *testing.T) {
	h := ordinary(7)
	for i := range h.turns[:6] {
		a, b := h.turns[i], h.turns[i+1]
		var mixed []byte
		aFrom, bFrom := a.start, b.start
		for n := range a.lineEnds() {
			aTo, bTo := a.lineEnds()[n], b.lineEnds()[n]
			mixed = slices.Concat(mixed, h.data[aFrom:aTo], h.data[bFrom:bTo])
			aFrom, bFrom = aTo, bTo
		}
		wantKinds(t, verifying(t, spliced(h.data, a.start, b.end, mixed...), nil), Interleaved)

		// All of b after a's first record.
		at := a.lineEnds()[1]
		inside := slices.Concat(h.data[a.start:at], b.bytes(h), h.data[at:a.end])
		wantKinds(t, verifying(t, spliced(h.data, a.start, b.end, inside...), nil), Interleaved)
	}
}

func TestTwoDefectsAreBothFound(t *testing.T) {
	h := ordinary(9)
	data := slices.Clone(h.data)
	data[h.turns[7].body+3] ^= 4
	data = spliced(data, h.turns[2].start, h.turns[2].end)
	wantKinds(t, verifying(t, data, nil), Missing, Corrupt)
}

// A writer that miscounts seals its mistake: the sum fits, and the turn is not what
// its header says.
func TestSealedTurnsThatAreNotWhatTheySay(t *testing.T) {
	for name, c := range map[string]struct {
		lines   int
		records string
	}{
		"too few lines":            {1, "one\ntwo\n"},
		"too many lines":           {3, "one\ntwo\n"},
		"no newline at the end":    {2, "one\ntwo"},
		"one line without newline": {1, "one"},
	} {
		t.Run(name, func(t *testing.T) {
			h := ordinary(2)
			lie := frame.Header{Turn: 3, Agent: "agent-1", Lines: c.lines, Bytes: len(c.records), Token: h.head.Token + 1, At: h.at}
			lie.Sum = lie.Seal(h.head.Sum, sha([]byte(c.records)))
			data := slices.Concat(h.data, []byte(lie.Line()+"\n"+c.records))
			wantKinds(t, verifying(t, data, nil), Corrupt)
			next, _ := frame.Append(data, lie.Sum, frame.Header{Turn: 4, Agent: "agent-2", Token: lie.Token + 1, At: h.at}, [][]byte{[]byte("goes on")})
			wantKinds(t, verifying(t, next, nil), Corrupt)
		})
	}
}

// What is gone of a turn may be exactly as long as the turn behind it, so that it ends,
// by its length, where a turn begins, and even has as many lines.
func TestTornTurnThatEndsWhereAnotherDoes(t *testing.T) {
	write := func(gone ...string) *history {
		h := newHistory("")
		return h.turn("agent-1", "first").turn("agent-2", append([]string{"stays"}, gone...)...).turn("agent-3", "third").turn("agent-1", "last")
	}
	third := write("x").turns[2]
	long := strings.Repeat("x", third.end-third.start-1)
	for name, h := range map[string]*history{"a line more": write(long), "as many lines": write(long[:7], long[8:])} {
		t.Run(name, func(t *testing.T) {
			w := h.turns[1]
			r := verifying(t, spliced(h.data, w.lineEnds()[1], w.end), nil)
			if wantKinds(t, r, Torn); r.Turns != 3 {
				t.Errorf("%d turns are whole, want 3%s", r.Turns, told(r))
			}
		})
	}
}
