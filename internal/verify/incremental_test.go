package verify

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// headAt is head when the i-th of h's turns, from 0, was committed.
func (h *history) headAt(i int) frame.Head { return h.turns[i].head() }

// resumed goes on from a checkpoint, from the beginning when it must.
func resumed(t testing.TB, data []byte, from Checkpoint, head frame.Head, turns ...frame.Turn) (Report, Checkpoint) {
	t.Helper()
	report, next, err := Resume(t.Context(), bytes.NewReader(data), int64(len(data)), from, Sight{Head: &head, Turns: turns}, Options{})
	if errors.Is(err, ErrStale) {
		report, next, err = Resume(t.Context(), bytes.NewReader(data), int64(len(data)), Checkpoint{}, Sight{Head: &head, Turns: turns}, Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return report, next
}

func TestIncrementsAddUpToTheWhole(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 5))
		h := random(r, 1+r.IntN(30))
		var from Checkpoint
		for i := r.IntN(3); i < len(h.turns); i += 1 + r.IntN(6) {
			head := h.headAt(i)
			report, next := resumed(t, h.data[:head.Offset], from, head)
			if want := verifying(t, h.data[:head.Offset], &head); !reflect.DeepEqual(report, want) {
				t.Fatalf("seed %d, turn %d: got %+v\nwant %+v", seed, i, report, want)
			}
			if next.Offset() != head.Offset || next.Head() != head {
				t.Fatalf("seed %d: the checkpoint is at %d, head at %d", seed, next.Offset(), head.Offset)
			}
			from = next
		}
	}
}

func TestACheckpointCanBeGoneOnFromTwice(t *testing.T) {
	h := ordinary(9)
	_, from := resumed(t, h.data[:h.turns[3].end], Checkpoint{}, h.headAt(3))
	first, _ := resumed(t, h.data, from, h.headAt(8))
	again, _ := resumed(t, h.data, from, h.headAt(8))
	if !reflect.DeepEqual(first, again) || first.Turns != 9 || first.Records != 18 {
		t.Errorf("first %+v\nthen %+v", first, again)
	}
}

// TestDamageInAnIncrementIsFound holds what Resume says of every kind of damage behind a
// checkpoint to what the whole file shows.
func TestDamageInAnIncrementIsFound(t *testing.T) {
	same, all := 0, 0
	for _, o := range operators {
		for seed := range uint64(60) {
			r := rand.New(rand.NewPCG(seed, 22))
			h := random(r, 2+r.IntN(12))
			sound := *h
			sound.data = bytes.Clone(h.data)
			d, ok := o.do(r, h)
			if !ok || d.acks != nil || d.wiped || d.known != nil || d.nodes != nil || d.doubts != nil {
				continue
			}
			head := sound.head
			if d.head != nil {
				head = *d.head
			}
			differs := 0
			for differs < min(len(d.data), len(sound.data)) && d.data[differs] == sound.data[differs] {
				differs++
			}
			before := -1 // the last turn that lies before the damage
			for i, w := range sound.turns {
				if w.end <= differs && sound.headAt(i).Incarnation == head.Incarnation {
					before = i
				}
			}
			if before < 0 {
				continue
			}
			_, from := resumed(t, sound.data[:sound.turns[before].end], Checkpoint{}, sound.headAt(before))
			got, next := resumed(t, d.data, from, head)
			want := verifying(t, d.data, &head)
			if got.OK() != want.OK() {
				t.Fatalf("%s, seed %d: resumed%s\nwhole%s", o.name, seed, told(got), told(want))
			}
			if !got.OK() && next.Offset() > from.Offset() {
				t.Fatalf("%s, seed %d: the checkpoint went on over a fault", o.name, seed)
			}
			all++
			if reflect.DeepEqual(got, want) {
				same++
			}
		}
	}
	t.Logf("%d damaged files, %d told the same", all, same)
	if all < 300 {
		t.Errorf("only %d damaged files", all)
	}
}

// TestEveryFlipInAnIncrementIsFound changes every byte behind a checkpoint.
func TestEveryFlipInAnIncrementIsFound(t *testing.T) {
	h := ordinary(6)
	_, from := resumed(t, h.data[:h.turns[2].end], Checkpoint{}, h.headAt(2))
	for at := int(from.Offset()); at < len(h.data); at++ {
		data := bytes.Clone(h.data)
		data[at] ^= 1
		if report, _ := resumed(t, data, from, h.headAt(5)); report.OK() {
			t.Fatalf("byte %d: not found", at)
		}
	}
}

func TestWhatCannotBeGoneOnFromIsStale(t *testing.T) {
	h := ordinary(6)
	_, from := resumed(t, h.data[:h.turns[3].end], Checkpoint{}, h.headAt(3))
	back, other, turned := h.headAt(2), h.headAt(5), h.headAt(5)
	other.Incarnation = testIDs[1]
	turned.Turn = 2
	for name, c := range map[string]struct {
		head frame.Head
		size int64
	}{
		"head went back":      {back, int64(len(h.data))},
		"another incarnation": {other, int64(len(h.data))},
		"the turn went back":  {turned, int64(len(h.data))},
		"the file is shorter": {h.headAt(5), from.Offset() - 1},
	} {
		_, next, err := Resume(t.Context(), bytes.NewReader(h.data[:c.size]), c.size, from, Sight{Head: &c.head}, Options{})
		if !errors.Is(err, ErrStale) || next.Offset() != from.Offset() {
			t.Errorf("%s: %v, the checkpoint is at %d", name, err, next.Offset())
		}
	}
	// A file that lost what is new only.
	head := h.headAt(5)
	if report, _ := resumed(t, h.data[:h.turns[4].end], from, head); !reflect.DeepEqual(kinds(report), []Kind{Lost}) {
		t.Errorf("the end is gone:%s", told(report))
	}
	// The same head with another sum.
	same := h.headAt(3)
	same.Sum[0] ^= 1
	if report, _ := resumed(t, h.data[:same.Offset], from, same); !reflect.DeepEqual(kinds(report), []Kind{Mismatch}) {
		t.Errorf("another sum:%s", told(report))
	}
	// Nothing new.
	if report, next := resumed(t, h.data[:h.turns[3].end], from, h.headAt(3)); !report.OK() || next.Offset() != from.Offset() || report.Turns != 4 {
		t.Errorf("nothing new:%s", told(report))
	}
}

// TestAnIncrementCostsWhatIsNew counts the bytes that are read.
func TestAnIncrementCostsWhatIsNew(t *testing.T) {
	h := ordinary(4_000)
	half := h.headAt(1_999)
	counting := &countingReader{r: bytes.NewReader(h.data)}
	_, from, err := Resume(t.Context(), counting, half.Offset, Checkpoint{}, Sight{Head: &half}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := counting.n.Load(); got < half.Offset {
		t.Fatalf("the beginning was judged by %d of %d bytes", got, half.Offset)
	}
	for i := 2_000; i < len(h.turns); i += 50 {
		head := h.headAt(i)
		counting.n.Store(0)
		report, next, err := Resume(t.Context(), counting, head.Offset, from, Sight{Head: &head}, Options{})
		if err != nil || !report.OK() {
			t.Fatal(err, told(report))
		}
		if fresh, got := head.Offset-from.Offset(), counting.n.Load(); got > 2*fresh+8<<10 {
			t.Fatalf("%d bytes read for %d new ones", got, fresh)
		}
		from = next
	}
}
