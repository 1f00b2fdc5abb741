package verify

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// tiny is the smallest file with everything in it: a preamble, two incarnations,
// several turns of several records, one empty, one that looks like a header.
func tiny() *history {
	h := newHistory("before\n#turn\n")
	h.turn("agent-1", "one", "").turn("agent-2", "zwei ü")
	h.incarnate(testIDs[1])
	h.head.Token = 0
	return h.turn("agent-1", "#turn 3").turn("agent-2", "")
}

// Every byte of a small file, changed to each of the 255 values that it does not have,
// is one fault: corrupt, at the turn or the incarnation line that it belongs to.
func TestEveryOtherValueOfEveryByte(t *testing.T) {
	h := tiny()
	begin := 0
	for i, w := range h.turns {
		if w.start > begin {
			t.Run(fmt.Sprintf("before turn %d", i+1), func(t *testing.T) { h.everyValue(t, begin, w.start, begin, w) })
		}
		t.Run(fmt.Sprintf("turn %d", i+1), func(t *testing.T) { h.everyValue(t, w.start, w.end, w.start, w) })
		begin = w.end
	}
}

// everyValue tries the bytes from a place to another, where the one finding must name
// w and be at its beginning, or at that of the incarnation line before it.
func (h *history) everyValue(t *testing.T, from, to, at int, w written) {
	t.Parallel()
	data := slices.Clone(h.data)
	for i := from; i < to; i++ {
		was := data[i]
		for step := range 255 {
			data[i] = was + byte(1+step)
			r := verifying(t, data, &h.head)
			// Of an incarnation line that became two the second half is told too.
			halves := at < w.start && data[i] == '\n' && len(r.Findings) == 2
			if len(r.Findings) != 1 && !halves {
				t.Fatalf("byte %d %q to %q: %d findings%s", i, was, data[i], len(r.Findings), told(r))
			}
			f := r.Findings[0]
			if f.Kind != Corrupt || f.Offset < int64(at) || f.Offset > int64(w.start) || f.Turn != w.Turn && (at == w.start || f.Turn != 0) {
				t.Fatalf("byte %d %q to %q: want corrupt at byte %d to %d%s", i, was, data[i], at, w.start, told(r))
			}
		}
		data[i] = was
	}
}

// A file cut anywhere lacks what head and the logs know, and is torn if it was cut
// within a turn.
func TestEveryCutIsKnownToHeadAndLogs(t *testing.T) {
	for name, h := range map[string]*history{"plain": ordinary(5), "one turn": ordinary(1), "adopted": adopted(), "tiny": tiny()} {
		dir := acksDir(t, h, nil)
		for n := range h.data {
			r := verifying(t, h.data[:n], &h.head, dir)
			want := append([]Kind{Lost}, h.lostToLogs(n)...)
			switch {
			case n < h.turns[0].start: // without its incarnation line a preamble is just some file
				want = append(slices.DeleteFunc(kinds(r), func(k Kind) bool { return k == Lost }), want...)
			case !h.endsAt(n):
				want = append([]Kind{Torn}, want...)
			}
			if wantKinds(t, r, want...); t.Failed() {
				t.Fatalf("%s cut at %d of %d", name, n, len(h.data))
			}
		}
	}
}

// lostToLogs is what the agents' logs tell of a file that is cut at n: the rest of
// each run is lost, or tells of an incarnation that the file knows nothing of.
func (h *history) lostToLogs(n int) (kinds []Kind) {
	known := map[uuid.UUID]bool{}
	for _, w := range h.turns {
		known[w.incarnation] = known[w.incarnation] || w.start <= n
	}
	for _, agent := range []string{"agent-1", "agent-2", "agent-3"} {
		var told uuid.UUID
		for _, w := range h.turns {
			if w.Agent != agent || w.end <= n || w.incarnation == told {
				continue
			}
			told = w.incarnation
			if kinds = append(kinds, Lost); !known[told] && n >= h.turns[0].start {
				kinds[len(kinds)-1] = Mismatch
			}
		}
	}
	return kinds
}
