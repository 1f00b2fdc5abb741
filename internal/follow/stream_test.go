package follow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// world is a fleet's file and its nodes, as a test has them.
type world struct {
	whole   []byte // all that was committed, and what was there before
	records []byte // the records of it alone
	head    frame.Head
	turns   []frame.Turn // every one of this incarnation
	began   int64        // where a chain begins

	file  []byte // what is on the volume
	nodes []frame.Turn
	stale int // so many opens show only half of the file
	looks int
	doubt []error
}

var testRun = uuid.New()

func newWorld(preamble string) *world {
	w := &world{whole: []byte(preamble), began: int64(len(preamble))}
	w.incarnate(int64(len(preamble)))
	return w
}

// incarnate begins an incarnation, as adopt does.
func (w *world) incarnate(preamble int64) {
	i := frame.Incarnation{ID: uuid.New(), From: w.head.Turn + 1, Preamble: preamble}
	var prev *frame.Sum
	if sum := w.head.Sum; len(w.whole) > 0 {
		prev = &sum // a preamble's, which nobody here computes, is not looked at
	}
	w.head = frame.Begin(i, int64(len(w.whole)), prev, "agent-1", time.Unix(1.8e9, 0))
	w.turns = nil
	if len(w.whole) == 0 {
		w.turns = []frame.Turn{frame.First(i, testRun)}
	}
	w.whole = append(append(w.whole, i.Line()...), '\n')
}

func (w *world) commit(records ...string) {
	var lines [][]byte
	for _, r := range records {
		lines = append(lines, []byte(r))
		w.records = append(append(w.records, r...), '\n')
	}
	t := w.head.Next(frame.Header{Agent: "agent-2", Token: w.head.Token + 3, At: time.Unix(1.8e9, 0).UTC()}, testRun, lines)
	w.head = w.head.After(t.Header, len(t.Bytes))
	w.whole = append(w.whole, t.Bytes...)
	w.turns = append(w.turns, t)
}

func (w *world) fill(r *rand.Rand, n int) *world {
	for range n {
		var records []string
		for range 1 + r.IntN(4) {
			records = append(records, []string{"", "#turn 1 looks like a header", "plain", "#turnstile 1 incarnation=", strings.Repeat("é", r.IntN(99))}[r.IntN(5)])
		}
		w.commit(records...)
	}
	w.file, w.nodes = w.whole, nil
	return w
}

func (w *world) look(_ context.Context, from uint64) (Sight, error) {
	w.looks++
	head := w.head
	var turns []frame.Turn
	for _, t := range w.nodes {
		if t.Number >= from && t.Incarnation == head.Incarnation {
			turns = append(turns, t)
		}
	}
	return Sight{Head: &head, Turns: turns, Doubts: w.doubt, Changed: make(chan zk.Event)}, nil
}

type memory struct{ *bytes.Reader }

func (m memory) End() (int64, error) { return m.Size(), nil }
func (m memory) Close() error        { return nil }

func (w *world) open() (Source, error) {
	data := w.file
	if w.stale--; w.stale >= 0 {
		data = data[:len(data)/2]
	}
	return memory{bytes.NewReader(data)}, nil
}

func (w *world) stream() *Stream {
	return &Stream{Look: w.look, Open: w.open, Patience: 50 * time.Millisecond}
}

// printed is what a stream gives: all of it, and the records of it.
func printed(t testing.TB, s *Stream) (all, records []byte, err error) {
	t.Helper()
	err = s.Copy(t.Context(), false, func(p Piece) error {
		all = append(all, p.Bytes...)
		records = append(records, p.Records()...)
		return nil
	})
	return all, records, err
}

func wantAll(t testing.TB, w *world, what string) {
	t.Helper()
	all, _, err := printed(t, w.stream())
	if err != nil || !bytes.Equal(all, w.whole) {
		t.Fatalf("%s: %v, %d bytes of %d\n%s", what, err, len(all), len(w.whole), all)
	}
	s := w.stream()
	s.Turnwise = true
	all, records, err := printed(t, s)
	if err != nil || !bytes.Equal(all, w.whole[w.began:]) || !bytes.Equal(records, w.records) {
		t.Fatalf("%s, turn by turn: %v, %d bytes\n%s", what, err, len(all), records)
	}
}

func TestCopy_turnsThatAreAnywhere(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld("").fill(r, 1+r.IntN(12))
		written := r.IntN(len(w.turns) + 1) // the first of the turns, which are in the file for sure
		end := int64(len(w.whole))
		if written < len(w.turns) {
			end = w.turns[written].Offset + r.Int64N(int64(len(w.turns[written].Bytes))) // and a part of the next
		}
		w.file = slices.Clone(w.whole[:end])
		for i, turn := range w.turns {
			if i >= written || r.IntN(3) == 0 {
				w.nodes = append(w.nodes, turn)
			}
		}
		if r.IntN(2) == 0 { // zeros up to the end, as far as nodes explain them
			w.file = append(w.file, make([]byte, r.IntN(len(w.whole)-int(end)+1))...)
		}
		wantAll(t, w, fmt.Sprintf("seed %d", seed))
		if w.looks != 2 {
			t.Fatalf("seed %d: %d looks", seed, w.looks)
		}
	}
}

func TestCopy_nothingBehindHead(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(1, 1)), 5)
	w.file = append(slices.Clone(w.whole), w.turns[5].Bytes...)
	wantAll(t, w, "more in the file")
	head := w.head
	before := len(w.whole)
	w.commit("not yet in head")
	w.nodes = w.turns[len(w.turns)-1:]
	w.head, w.whole, w.records = head, w.whole[:before], w.records[:len(w.records)-len("not yet in head\n")]
	wantAll(t, w, "more in turns/")
}

func TestCopy_aStaleLookIsRepeated(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(2, 1)), 9)
	w.stale = 2
	all, _, err := printed(t, w.stream())
	if err != nil || !bytes.Equal(all, w.whole) || w.looks != 3 {
		t.Errorf("%v after %d looks: %d bytes of %d", err, w.looks, len(all), len(w.whole))
	}
	// A node that goes between two looks: then the file has it.
	w.stale, w.looks = 1, 0
	s := w.stream()
	s.Look = func(ctx context.Context, from uint64) (Sight, error) {
		seen, err := w.look(ctx, from)
		if w.looks == 1 {
			seen.Turns = w.turns[7:]
		}
		return seen, err
	}
	if all, _, err := printed(t, s); err != nil || !bytes.Equal(all, w.whole) || w.looks != 2 {
		t.Errorf("%v after %d looks: %d bytes of %d", err, w.looks, len(all), len(w.whole))
	}
}

func TestCopy_whatIsNowhereIsMissing(t *testing.T) {
	w := newWorld("").fill(rand.New(rand.NewPCG(3, 1)), 9)
	for name, change := range map[string]func(){
		"cut":       func() { w.file = w.whole[:len(w.whole)-1] },
		"zeros":     func() { w.file = slices.Clone(w.whole); clear(w.file[len(w.file)-9:]) },
		"changed":   func() { w.file = slices.Clone(w.whole); w.file[len(w.file)-2] ^= 1 },
		"doubtful":  func() { w.file, w.doubt = w.whole[:len(w.whole)-1], []error{errors.New("turns/x cannot be believed")} },
		"other sum": func() { w.file, w.head.Sum[3] = w.whole, w.head.Sum[3]+1 },
		"other incarnation": func() {
			w.file, w.head.Incarnation = w.whole, uuid.New()
		},
	} {
		was := w.head
		change()
		all, _, err := printed(t, w.stream())
		if !errors.Is(err, ErrMissing) || !bytes.HasPrefix(w.whole, all) {
			t.Errorf("%s: %v, %d bytes", name, err, len(all))
		}
		if len(w.doubt) > 0 && !strings.Contains(err.Error(), "turns/x") {
			t.Errorf("%v does not say why", err)
		}
		w.doubt, w.head = nil, was
	}
}

func TestCopy_whatStoodBeforeTheFleet(t *testing.T) {
	for name, preamble := range map[string]string{
		"lines": "old line 1\n#turn 1 nonsense\n", "no newline": "old", "long": strings.Repeat("0123456789abcde\n", 40_000), "NULs": "a\x00\x00b\n",
		"like ours": "#turnstile 1 incarnation=5f0c2e3a-0000-4000-8000-000000000001 from=1 preamble=77\nmore\n",
	} {
		w := newWorld(preamble).fill(rand.New(rand.NewPCG(5, 1)), 4)
		wantAll(t, w, name)
		w.incarnate(0)
		wantAll(t, w.fill(rand.New(rand.NewPCG(6, 1)), 4), name+", adopted again")
	}
	// A fleet's whole file became a preamble: its records are none any more.
	w := newWorld("").fill(rand.New(rand.NewPCG(7, 1)), 4)
	w.began, w.records = int64(len(w.whole)), nil
	w.incarnate(w.began)
	wantAll(t, w.fill(rand.New(rand.NewPCG(8, 1)), 4), "adopted as a preamble")
}

func TestCopy_followsUntilItIsTold(t *testing.T) {
	w := newWorld("")
	w.file = w.whole
	changed := make(chan zk.Event)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	s := w.stream()
	s.Look = func(ctx context.Context, from uint64) (Sight, error) {
		seen, err := w.look(ctx, from)
		if from > w.head.Turn+1 {
			t.Errorf("asked for the turns from %d on, head is at %d", from, w.head.Turn)
		}
		seen.Changed = changed
		return seen, err
	}
	var all []byte
	given := make(chan int, 100)
	ended := make(chan error)
	go func() {
		ended <- s.Copy(ctx, true, func(p Piece) error {
			all = append(all, p.Bytes...)
			given <- len(all)
			return nil
		})
	}()
	await := func() {
		for {
			select {
			case n := <-given:
				if n == len(w.whole) {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it does not go on")
			}
		}
	}
	for i := range 20 {
		await()
		w.commit(fmt.Sprint(i))
		switch i % 3 {
		case 0:
			w.nodes = w.turns[len(w.turns)-1:]
		case 1:
			w.file, w.nodes = slices.Clone(w.whole), nil
		case 2: // adopted meanwhile
			w.incarnate(0)
			w.file, w.nodes = slices.Clone(w.whole), nil
		}
		changed <- zk.Event{}
	}
	await()
	cancel(enough)
	if err := <-ended; !errors.Is(err, enough) || !bytes.Equal(all, w.whole) {
		t.Errorf("%v\n%s\nwant\n%s", err, all, w.whole)
	}
}
