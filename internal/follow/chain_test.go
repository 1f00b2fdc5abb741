package follow

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// TestCopy_aNodeThatHeadDoesNotKnowIsNotBelieved puts another turn, whole and sealed, in
// the node of the last: longer, or as long as it.
func TestCopy_aNodeThatHeadDoesNotKnowIsNotBelieved(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(11, 1)), 5)
	w.commit("the last")
	w.file = w.whole
	last := w.turns[len(w.turns)-1]
	for _, record := range []string{"the lost", "the last, and more"} {
		other := last
		other.Bytes, other.Header = frame.Append(nil, last.Prev, last.Header, [][]byte{[]byte(record)})
		w.nodes = []frame.Turn{w.turns[4], w.turns[5], other}
		wantAll(t, w, record)
	}
}

func TestCopy_aTurnThatEndsBehindHeadIsNotCommitted(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(12, 1)), 5)
	w.head.Offset -= 3
	last := w.turns[len(w.turns)-1]
	for _, nodes := range [][]frame.Turn{nil, {last}} {
		w.nodes = nodes
		if all, _, err := printed(t, w.stream()); !errors.Is(err, ErrMissing) || int64(len(all)) != last.Offset {
			t.Errorf("%v, %d bytes", err, len(all))
		}
	}
}

// TestCopy_theChainGoesOnThroughIncarnations damages the first turn of the second.
func TestCopy_theChainGoesOnThroughIncarnations(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(13, 1)), 3)
	w.incarnate(0)
	w.commit("first of the second")
	w.commit("second of the second")
	w.file = slices.Clone(w.whole)
	w.file[w.turns[0].End()-2] ^= 1
	s := w.stream()
	s.Turnwise = true
	if all, _, err := printed(t, s); !errors.Is(err, ErrMissing) || int64(len(all)) != w.turns[0].Offset {
		t.Errorf("%v, %d bytes of %d", err, len(all), w.turns[0].Offset)
	}
}

// TestCopy_zerosAreNoRecord has a stale page where the chain's link is not known.
func TestCopy_zerosAreNoRecord(t *testing.T) {
	w := newWorld("old\n")
	w.commit("first", "second")
	w.file = w.whole
	s := w.stream()
	s.Open = func() (Source, error) {
		data := w.whole
		if w.looks == 1 {
			data = slices.Clone(data)
			clear(data[len(data)-3:])
		}
		return memory{bytes.NewReader(data)}, nil
	}
	if all, _, err := printed(t, s); err != nil || !bytes.Equal(all, w.whole) || w.looks != 2 {
		t.Errorf("%v after %d looks:\n%s", err, w.looks, all)
	}
}

// TestCopy_turnsAreNumberedAnew adopts the file as a preamble while it is followed.
func TestCopy_turnsAreNumberedAnew(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(14, 1)), 6)
	s := w.stream()
	first, _, err := printed(t, s)
	if err != nil {
		t.Fatal(err)
	}
	w.head.Turn = 0
	w.incarnate(int64(len(w.whole)))
	w.file = slices.Clone(w.whole)
	w.commit("the first of the new")
	w.nodes = w.turns
	if more, _, err := printed(t, s); err != nil || !bytes.Equal(append(first, more...), w.whole) {
		t.Errorf("%v\n%s", err, more)
	}
}

func TestCopy_aNodeThatDoesNotFollowIsNotBelieved(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(4, 1)), 5)
	other := w.turns[3]
	other.Prev[0]++
	w.nodes = []frame.Turn{other}
	wantAll(t, w, "the file has it")
	w.file = w.whole[:other.Offset]
	w.nodes = []frame.Turn{other, w.turns[4], w.turns[5]}
	if all, _, err := printed(t, w.stream()); !errors.Is(err, ErrMissing) || int64(len(all)) != other.Offset {
		t.Errorf("%v, %d bytes", err, len(all))
	}
}

func TestCopy_aFileThatWasAdoptedFurtherBack(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(9, 1)), 6)
	s := w.stream()
	first, _, err := printed(t, s)
	if err != nil || len(first) != len(w.whole) {
		t.Fatal(err)
	}
	back := w.turns[3]
	w.head = frame.Head{Turn: back.Number - 1, Sum: back.Prev, Token: 7}
	w.whole = w.whole[:back.Offset]
	w.incarnate(0)
	w.file = w.whole
	if more, _, err := printed(t, s); !errors.Is(err, ErrAdopted) || len(more) > 0 {
		t.Errorf("%v, %d bytes more", err, len(more))
	}
}

func TestCopy_endsWithItsReader(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(10, 1)), 6)
	gone := errors.New("the pipe is closed")
	n, flushed := 0, 0
	s := w.stream()
	s.CaughtUp = func() error { flushed++; return gone }
	if err := s.Copy(t.Context(), true, func(Piece) error { return nil }); !errors.Is(err, gone) || flushed != 1 {
		t.Errorf("%v, told %d times that all is given out", err, flushed)
	}
	err := w.stream().Copy(t.Context(), true, func(Piece) error {
		if n++; n == 3 {
			return gone
		}
		return nil
	})
	if !errors.Is(err, gone) || n != 3 {
		t.Errorf("%v after %d pieces", err, n)
	}
}
