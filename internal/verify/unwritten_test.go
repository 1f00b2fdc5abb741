package verify

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// nodesOf are the nodes of h's turns from the i-th on, from 0.
func (h *history) nodesOf(i int) (turns []frame.Turn) {
	for _, w := range h.turns[i:] {
		turns = append(turns, w.node())
	}
	return turns
}

// seeing judges data by what ZooKeeper says.
func seeing(t testing.TB, data []byte, seen Sight, final *frame.Head, acks ...string) (Report, error) {
	t.Helper()
	opt := Options{
		Acks:  acks,
		Head:  func(context.Context) (*frame.Head, error) { return seen.Head, nil },
		Turns: func(context.Context, frame.Head) ([]frame.Turn, []error, error) { return seen.Turns, seen.Doubts, nil },
		Final: func(context.Context) (*frame.Head, error) { return final, nil },
	}
	return Reader(t.Context(), bytes.NewReader(data), int64(len(data)), opt)
}

// wantNoted demands that so many turns are noted, and nothing else is told.
func wantNoted(t testing.TB, r Report, turns int64) {
	t.Helper()
	wantFine(t, r)
	if noted := len(r.Notes) == 1 && r.Notes[0].Kind == Unwritten; r.Unwritten != turns || noted != (turns > 0) {
		t.Errorf("%d turns are unwritten, want %d%s", r.Unwritten, turns, told(r))
	}
}

func TestWhatIsCommittedAndNotWrittenIsANote(t *testing.T) {
	h := ordinary(6)
	for i, w := range h.turns {
		for _, n := range []int{w.start, w.start + 1, w.body, w.body + 3, w.end - 1} {
			r, err := seeing(t, h.data[:n], Sight{Head: &h.head, Turns: h.nodesOf(i)}, &h.head)
			if err != nil {
				t.Fatal(err)
			}
			wantNoted(t, r, int64(6-i))
			if r.Turns != int64(i) || r.Last != uint64(i) || r.Judged != int64(n) || r.Sound.End != int64(w.start) {
				t.Errorf("cut at %d in turn %d: %+v", n, i+1, r)
			}
			// Zeros where the rest belongs, as a file system leaves them.
			holes := slices.Concat(h.data[:n], make([]byte, len(h.data)-n))
			r, err = seeing(t, holes, Sight{Head: &h.head, Turns: h.nodesOf(i)}, &h.head)
			if err != nil {
				t.Fatal(err)
			}
			wantNoted(t, r, int64(6-i))
			// Without the first of the nodes it is lost, for nothing explains it.
			r, err = seeing(t, h.data[:n], Sight{Head: &h.head, Turns: h.nodesOf(i + 1)}, &h.head)
			if err != nil || !slices.Contains(kinds(r), Lost) {
				t.Errorf("cut at %d in turn %d, a node gone: %v%s", n, i+1, err, told(r))
			}
		}
	}
}

func TestATurnInTheMiddleMayBeUnwritten(t *testing.T) {
	h := ordinary(6)
	w := h.turns[2]
	data := slices.Clone(h.data)
	clear(data[w.start+5 : w.end-2])
	seen := Sight{Head: &h.head, Turns: []frame.Turn{w.node(), h.turns[4].node()}} // that of turn 4 was deleted, it is on the disk
	r, err := seeing(t, data, seen, &h.head)
	if err != nil {
		t.Fatal(err)
	}
	if wantNoted(t, r, 1); r.Turns != 5 || r.Notes[0].Turn != 3 || r.Notes[0].Offset != int64(w.start) {
		t.Errorf("%+v", r)
	}
	seen.Turns = seen.Turns[1:]
	if r, err := seeing(t, data, seen, &h.head); err != nil || r.OK() {
		t.Errorf("zeros that no node explains: %v%s", err, told(r))
	}
}

func TestOtherBytesWhereATurnIsToBeWritten(t *testing.T) {
	h := ordinary(6)
	w := h.turns[4]
	for name, data := range map[string][]byte{
		"behind the end":   append(slices.Clone(h.data[:w.start]), "oops\n"...),
		"behind a part":    append(slices.Clone(h.data[:w.start+9]), "oops\n"...),
		"more than a turn": append(slices.Clone(h.data[:w.start]), bytes.Repeat([]byte("x"), w.end-w.start+3)...),
	} {
		r, err := seeing(t, data, Sight{Head: &h.head, Turns: h.nodesOf(4)}, &h.head)
		if err != nil || len(r.Findings) == 0 {
			t.Errorf("%s: %v%s", name, err, told(r))
			continue
		}
		if name != "more than a turn" {
			wantKinds(t, r, Uncommitted)
			if r.Unwritten != 2 || r.Findings[0].Turn != 5 {
				t.Error(told(r))
			}
		}
	}
}

func TestANewFileMayLackItsFirstLine(t *testing.T) {
	i := frame.Incarnation{ID: testIDs[0], From: 1}
	head := frame.Begin(i, 0, nil, "agent-1", time.Unix(1.8e9, 0))
	for _, n := range []int{0, 1, 30, len(i.Line())} {
		r, err := seeing(t, []byte(i.Line())[:n], Sight{Head: &head, Turns: []frame.Turn{frame.First(i, testRun)}}, &head)
		if err != nil || !r.OK() || len(r.Notes) != 1 {
			t.Errorf("%d bytes of it: %v%s", n, err, told(r))
		}
	}
	h := ordinary(2)
	all := append([]frame.Turn{frame.First(i, testRun)}, h.nodesOf(0)...)
	r, err := seeing(t, nil, Sight{Head: &h.head, Turns: all}, &h.head)
	if err != nil {
		t.Fatal(err)
	}
	wantNoted(t, r, 2)
}

// TestAnAcknowledgedTurnMustBeInTheFile: a node is no disk.
func TestAnAcknowledgedTurnMustBeInTheFile(t *testing.T) {
	h := ordinary(6)
	dir := acksDir(t, h, nil)
	for i, w := range h.turns {
		r, err := seeing(t, h.data[:w.end-1], Sight{Head: &h.head, Turns: h.nodesOf(i)}, &h.head, dir)
		if err != nil {
			t.Fatal(err)
		}
		if lost := kinds(r); len(lost) != min(3, 6-i) || slices.ContainsFunc(lost, func(k Kind) bool { return k != Lost }) || r.Acknowledged != int64(2*i) {
			t.Errorf("turn %d: %d acknowledged%s", i+1, r.Acknowledged, told(r))
		}
	}
}

func TestAPendingTurnIsNotAcknowledged(t *testing.T) {
	h := ordinary(6)
	w := h.turns[5]
	log := filepath.Join(t.TempDir(), "log")
	text := frame.AppendPending(acksOf(w.Agent, h.turns[:5]), frame.Pending{Turn: w.Turn, Offset: int64(w.start), Sum: w.Sum})
	for name, c := range map[string]struct {
		log  []byte
		want []Kind
	}{
		"pending":           {text, nil},
		"then acknowledged": {slices.Concat(text, runLine(w.Agent, w.incarnation), acksOf(w.Agent, h.turns[5:])), []Kind{Lost}},
		"misspelled":        {append(text, "#pending 7 0 xyz\n"...), []Kind{Corrupt}},
	} {
		if err := os.WriteFile(log, c.log, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := seeing(t, h.data[:w.start], Sight{Head: &h.head, Turns: h.nodesOf(5)}, &h.head, log)
		if err != nil || !slices.Equal(kinds(r), c.want) || r.Acknowledged == 0 {
			t.Errorf("%s: %v, %d acknowledged%s", name, err, r.Acknowledged, told(r))
		}
	}
}

func TestTheLastHeadSaysWhatIsBehindIt(t *testing.T) {
	h := ordinary(6)
	first, later := h.turns[3].head(), h.turns[4].head()
	other, back := first, h.turns[2].head()
	other.Incarnation = testIDs[1]
	for name, c := range map[string]struct {
		data  []byte
		final *frame.Head
		want  []Kind
		err   error
	}{
		"the fleet went on":           {h.data[:later.Offset], &later, nil, nil},
		"and half a turn is there":    {h.data[:later.Offset-5], &later, nil, nil},
		"more than it went on":        {append(slices.Clone(h.data[:later.Offset]), "oops\n"...), &later, []Kind{Uncommitted}, nil},
		"it did not go on":            {h.data[:later.Offset], &first, []Kind{Uncommitted}, nil},
		"head went back meanwhile":    {h.data[:later.Offset], &back, []Kind{Mismatch}, nil},
		"head was wiped meanwhile":    {h.data[:later.Offset], nil, []Kind{Mismatch}, nil},
		"the file was adopted":        {h.data[:later.Offset], &other, nil, ErrMoved},
		"it was, and cut before that": {h.data[:first.Offset-5], &other, nil, ErrMoved},
	} {
		r, err := seeing(t, c.data, Sight{Head: &first}, c.final)
		if !errors.Is(err, c.err) || err == nil && !slices.Equal(kinds(r), c.want) {
			t.Errorf("%s: %v%s", name, err, told(r))
		}
	}
	if _, err := seeing(t, h.data, Sight{}, &h.head); !errors.Is(err, ErrMoved) {
		t.Errorf("the fleet began meanwhile: %v", err)
	}
}

// TestAFileThatIsTooShortIsOpenedAgain has the size of the first looks be stale.
func TestAFileThatIsTooShortIsOpenedAgain(t *testing.T) {
	h := ordinary(4)
	looks := 0
	opt := Options{
		Head:     func(context.Context) (*frame.Head, error) { return &h.head, nil },
		Patience: time.Minute,
		Open: func(string) (Source, error) {
			looks++
			return sized{bytes.NewReader(h.data), min(int64(len(h.data)), int64(looks*len(h.data)/3+1))}, nil
		},
	}
	r, err := File(t.Context(), "data.txt", opt)
	if err != nil || !r.OK() || looks != 3 {
		t.Errorf("after %d looks: %v%s", looks, err, told(r))
	}
	opt.Patience, looks = 0, 0
	if r, err := File(t.Context(), "data.txt", opt); err != nil || r.OK() || looks != 1 {
		t.Errorf("after %d looks: %v%s", looks, err, told(r))
	}
}

func TestWithoutHeadTheVerdictSaysSo(t *testing.T) {
	h := ordinary(1)
	if r := verifying(t, h.data, nil); r.Headed || !strings.Contains(told(r), "fine by itself. Whether committed turns are missing at its end only ZooKeeper knows") {
		t.Error(told(r))
	}
	if r, err := seeing(t, nil, Sight{}, nil); err != nil || r.Headed || !strings.Contains(told(r), "ZooKeeper has no head") {
		t.Error(err, told(r))
	}
}

func TestFilesOfTheFirstEditionVerify(t *testing.T) {
	dir := "../../cmd/agent/testdata/first-edition/"
	r, err := File(t.Context(), dir+"data.txt", Options{Acks: []string{dir + "acks.log"}})
	if err != nil || !r.OK() || r.Turns != 6 || r.Records != 26 || r.Acknowledged != 20 {
		t.Errorf("%v%s", err, told(r))
	}
}

// TestIncrementsWithUnwrittenTurnsAddUp goes on from checkpoints while the file lags
// behind head by a random part, holes among it.
func TestIncrementsWithUnwrittenTurnsAddUp(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 6))
		h := random(r, 2+r.IntN(20))
		var from Checkpoint
		for i := 0; i < len(h.turns); i += 1 + r.IntN(3) {
			head := h.headAt(i)
			lag := max(0, i-r.IntN(5))
			for h.turns[lag].incarnation != head.Incarnation {
				lag++
			}
			until := int64(h.turns[lag].start) + r.Int64N(head.Offset-int64(h.turns[lag].start)+1)
			data := slices.Clone(h.data[:until])
			if hole := int64(h.turns[lag].start); until > hole && r.IntN(2) == 0 {
				begin := hole + r.Int64N(until-hole)
				clear(data[begin : begin+1+r.Int64N(until-begin)])
			}
			nodes := h.nodesOf(lag)[:i+1-lag]
			report, next := resumed(t, data, from, head, nodes...)
			want, err := seeing(t, data, Sight{Head: &head, Turns: nodes}, &head)
			if err != nil || !want.OK() || !reflect.DeepEqual(report, want) {
				t.Fatalf("seed %d, turn %d: got %+v\nwant %+v, %v", seed, i, report, want, err)
			}
			if next.Offset() > until || report.Unwritten == 0 && next.Offset() != head.Offset {
				t.Fatalf("seed %d: the checkpoint is at %d, the file ends at %d, %d turns are unwritten", seed, next.Offset(), until, report.Unwritten)
			}
			from = next
		}
	}
}
