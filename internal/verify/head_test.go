package verify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

func TestHeadBeforeTheFirstTurn(t *testing.T) {
	h := newHistory("")
	wantFine(t, verifying(t, h.data, &h.head))
	adopted := ordinary(3)
	adopted.incarnate(testIDs[1])
	wantFine(t, verifying(t, adopted.data, &adopted.head))
	wantKinds(t, verifying(t, nil, &h.head), Lost)
}

func TestHeadOfAnotherFile(t *testing.T) {
	h := ordinary(5)
	for name, change := range map[string]func(*frame.Head){
		"sum":         func(d *frame.Head) { d.Sum[3]++ },
		"token":       func(d *frame.Head) { d.Token++ },
		"turn":        func(d *frame.Head) { d.Turn++ },
		"incarnation": func(d *frame.Head) { d.Incarnation = testIDs[1] },
		"start":       func(d *frame.Head) { d.Start-- },
		"line":        func(d *frame.Head) { d.Line++ },
		"offset in a frame": func(d *frame.Head) {
			d.Offset -= 3
		},
		"offset in a header": func(d *frame.Head) {
			d.Offset = int64(h.turns[3].start + 9)
		},
		"offset of another frame": func(d *frame.Head) {
			d.Offset = int64(h.turns[3].end)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := h.head
			change(&d)
			wantKinds(t, verifying(t, h.data, &d), Mismatch)
		})
	}
}

func TestIncarnationLineThatNoTurnConfirms(t *testing.T) {
	h := ordinary(3)
	start := len(h.data)
	h.incarnate(testIDs[1])
	for i := start + len("#turnstile 1 incarnation="); i < len(h.data)-1; i++ {
		data := slices.Clone(h.data)
		data[i] ^= 1
		if verifying(t, data, &h.head).OK() {
			t.Errorf("byte %d of the incarnation line changed, and head did not notice", i-start)
		}
	}
}

func TestWhatIsBehindHeadIsUncommitted(t *testing.T) {
	h := ordinary(5)
	head := h.turns[3].head()
	for _, tail := range [][]byte{
		h.turns[4].bytes(h), h.turns[4].bytes(h)[:7], h.turns[4].bytes(h)[:150], []byte("oops\n"), bytes.Repeat([]byte{0}, 4096),
	} {
		r := verifying(t, slices.Concat(h.data[:head.Offset], tail), &head)
		wantKinds(t, r, Uncommitted)
		if r.Findings[0].Offset != head.Offset || r.Turns != 4 || len(r.Notes) > 0 {
			t.Errorf("turns %d%s", r.Turns, told(r))
		}
	}
}

func TestDamageIsToldOnceWithHead(t *testing.T) {
	h := ordinary(6)
	data := slices.Clone(h.data)
	data[h.turns[5].body+2] ^= 1
	wantKinds(t, verifying(t, data, &h.head), Corrupt)
	data = slices.Clone(h.data)
	data[h.turns[5].body-2] ^= 1 // within the last sum
	wantKinds(t, verifying(t, data, &h.head), Corrupt)
	wantKinds(t, verifying(t, spliced(h.data, h.turns[2].start, h.turns[2].end), &h.head), Missing, Lost)
}

func TestHeadIsAskedAndMayFail(t *testing.T) {
	broken := errors.New("no server")
	_, err := Reader(context.Background(), strings.NewReader(""), 0, Options{
		Head: func(context.Context) (*frame.Head, error) { return nil, broken },
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// gone is a file that has nothing left of what it had when it was opened.
type gone struct{}

func (gone) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }

func TestShrinkingFileIsAnError(t *testing.T) {
	h := ordinary(3)
	_, err := Reader(context.Background(), gone{}, int64(len(h.data)), Options{})
	if !errors.Is(err, errShrank) {
		t.Errorf("error %v, want %v", err, errShrank)
	}
}

func TestAdoptedIncarnations(t *testing.T) {
	h := adopted()
	r := verifying(t, h.data, &h.head)
	wantFine(t, r)
	if !slices.Equal(r.Incarnations, []uuid.UUID{testIDs[0], testIDs[1]}) {
		t.Errorf("incarnations %v", r.Incarnations)
	}
	// The preamble belongs to the chain too.
	data := slices.Clone(h.data)
	data[4] ^= 1
	wantKinds(t, verifying(t, data, nil), Corrupt)
	wantFirst(t, verifying(t, h.data[10:], nil), Corrupt)
	wantFirst(t, verifying(t, h.data[33:], nil), Missing)
}

func TestWholeFileAdoptedAsPreamble(t *testing.T) {
	old := ordinary(6)
	for name, data := range map[string][]byte{
		"whole":        old.data,
		"turn gone":    spliced(old.data, old.turns[2].start, old.turns[2].end),
		"line gone":    spliced(old.data, old.turns[2].body, old.turns[2].lineEnds()[1]),
		"header gone":  spliced(old.data, old.turns[5].start, old.turns[5].body),
		"no beginning": spliced(old.data, 0, old.turns[0].start),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(string(data))
			h.turnsOf(4)
			r := verifying(t, h.data, &h.head)
			wantFine(t, r)
			if r.Turns != 4 || len(r.Incarnations) != 1 {
				t.Errorf("%d turns, %d incarnations", r.Turns, len(r.Incarnations))
			}
			h.data[3] ^= 1
			wantFirst(t, verifying(t, h.data, nil), Corrupt)
		})
	}
}

func TestSoundIsWhereAnIncarnationCanGoOn(t *testing.T) {
	h := ordinary(5)
	for i, w := range h.turns {
		for _, n := range []int{w.start, w.start + 20, w.body, w.end - 1} {
			want := Sound{End: int64(w.start), Turn: uint64(i)}
			if i > 0 {
				want.Sum = h.turns[i-1].Sum
			} else {
				want.Sum = newHistory("").head.Sum
			}
			if got := verifying(t, h.data[:n], nil).Sound; got != want {
				t.Errorf("cut in turn %d: sound %+v, want %+v", i+1, got, want)
			}
		}
	}
}

func TestCancelledInTheMiddle(t *testing.T) {
	h := newHistory("")
	for range 40 {
		h.turn("agent-1", strings.Repeat("x", 60000))
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("enough")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := Reader(ctx, bytes.NewReader(h.data), int64(len(h.data)), Options{
			Progress: func(int64, int64) { cancel(stop) },
		})
		if !errors.Is(err, stop) {
			t.Errorf("error %v, want %v", err, stop)
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}
