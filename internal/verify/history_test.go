package verify

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// history is a file as a fleet would have written it, with what each part of it is.
type history struct {
	data  []byte
	head  frame.Head
	line  int64 // where the incarnation's line begins
	turns []written
	at    time.Time
}

// written is one turn of a history.
type written struct {
	frame.Header
	start, body, end int
	records          [][]byte
	incarnation      uuid.UUID
	before           frame.Head // what head was before it was committed
}

// head is what head was when the turn was committed.
func (w written) head() frame.Head { return w.before.After(w.Header, w.end-w.start) }

// node is the turn as it stands in ZooKeeper.
func (w written) node() frame.Turn {
	return w.before.Next(w.Header, testRun, w.records)
}

func (w written) bytes(h *history) []byte { return h.data[w.start:w.end] }

// lineEnds gives where each line of the turn ends, its header's first.
func (w written) lineEnds() []int {
	ends := []int{w.body}
	for _, r := range w.records {
		ends = append(ends, ends[len(ends)-1]+len(r)+1)
	}
	return ends
}

var testRun = uuid.MustParse("0d9b6d5a-0000-4000-8000-000000000009")

var testIDs = [...]uuid.UUID{
	uuid.MustParse("5f0c2e3a-0000-4000-8000-000000000001"),
	uuid.MustParse("5f0c2e3a-0000-4000-8000-000000000002"),
}

// newHistory begins a file, after a preamble when there is one.
func newHistory(preamble string) *history {
	h := &history{data: []byte(preamble), at: time.Date(2026, 11, 20, 4, 28, 0, 123e6, time.UTC)}
	h.incarnate(testIDs[0])
	return h
}

// incarnate writes an incarnation line, as adopt does.
func (h *history) incarnate(id uuid.UUID) {
	inc := frame.Incarnation{ID: id, From: h.head.Turn + 1}
	var prev *frame.Sum
	switch {
	case len(h.turns) > 0:
		sum := h.head.Sum
		prev = &sum
	case len(h.data) > 0:
		inc.Preamble = int64(len(h.data))
		sum := frame.SumOf(sha(h.data))
		prev = &sum
	}
	h.line = int64(len(h.data))
	h.data = append(append(h.data, inc.Line()...), '\n')
	h.head = frame.Begin(inc, h.line, prev, "agent-1", h.at)
	h.head.Token = 1
}

// turn writes the next turn.
func (h *history) turn(agent string, records ...string) *history {
	w := written{start: len(h.data), incarnation: h.head.Incarnation, before: h.head}
	for _, r := range records {
		w.records = append(w.records, []byte(r))
	}
	h.at = h.at.Add(37 * time.Millisecond)
	var header frame.Header
	h.data, header = frame.Append(h.data, h.head.Sum, frame.Header{
		Turn: h.head.Turn + 1, Agent: agent, Token: h.head.Token + 3, At: h.at,
	}, w.records)
	w.Header, w.end = header, len(h.data)
	w.body = w.end - header.Bytes
	h.turns = append(h.turns, w)
	h.head = h.head.After(header, w.end-w.start)
	return h
}

// ordinary is a history of n turns of three agents, two records each of which no two
// are as long.
func ordinary(n int) *history {
	h := newHistory("")
	h.turnsOf(n)
	return h
}

func (h *history) turnsOf(n int) {
	for range n {
		t := h.head.Turn + 1
		agent := fmt.Sprintf("agent-%d", t%3+1)
		h.turn(agent, fmt.Sprintf("%s says hello in turn %d", agent, t), "and its second line is "+strings.Repeat("x", int(t)+3))
	}
}

// random is a history of random turns with records that try to confuse.
func random(r *rand.Rand, turns int) *history {
	preamble := ""
	if r.IntN(3) == 0 {
		preamble = "written before there was a fleet\n#turn 7 nonsense\n"
	}
	h := newHistory(preamble)
	for range turns {
		if len(h.turns) > 0 && h.head.Incarnation == testIDs[0] && r.IntN(4*turns) == 0 {
			h.incarnate(testIDs[1])
		}
		var records []string
		for range 1 + r.IntN(5) {
			records = append(records, randomRecord(r, h))
		}
		h.turn(fmt.Sprintf("agent-%d", r.IntN(4)), records...)
	}
	return h
}

func randomRecord(r *rand.Rand, h *history) string {
	switch r.IntN(8) {
	case 0:
		return ""
	case 1: // a header of the past
		return strings.TrimSuffix(string(firstLine(h.data)), "\n")
	case 2:
		if len(h.turns) > 0 {
			return h.turns[r.IntN(len(h.turns))].Line()
		}
	case 3:
		return "#turn 9 agent-1 lines=1 bytes=6 token=0x7 at=2026-11-20T04:28:00.123Z sum=00000000000000000000000000000000"
	}
	return strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(90))
}

func firstLine(data []byte) []byte {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return line
}

// verifying judges data by itself, or with head and logs.
func verifying(t testing.TB, data []byte, head *frame.Head, acks ...string) Report {
	t.Helper()
	opt := Options{Acks: acks}
	if head != nil {
		opt.Head = func(context.Context) (*frame.Head, error) { return head, nil }
	}
	report, err := Reader(context.Background(), bytes.NewReader(data), int64(len(data)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func kinds(r Report) (k []Kind) {
	for _, f := range r.Findings {
		k = append(k, f.Kind)
	}
	return k
}

// wantKinds demands exactly these findings.
func wantKinds(t testing.TB, r Report, want ...Kind) {
	t.Helper()
	if got := kinds(r); !slices.Equal(got, want) {
		t.Errorf("findings %v, want %v%s", got, want, told(r))
	}
}

// wantFirst demands that this is the first finding.
func wantFirst(t testing.TB, r Report, want Kind) {
	t.Helper()
	if got := kinds(r); len(got) == 0 || got[0] != want {
		t.Errorf("findings %v, want %v first%s", got, want, told(r))
	}
}

func wantFine(t testing.TB, r Report) {
	t.Helper()
	if !r.OK() || len(r.Findings) > 0 {
		t.Errorf("a valid file does not pass:%s", told(r))
	}
}

func told(r Report) string {
	var b strings.Builder
	b.WriteByte('\n')
	_ = r.Write(&b, false)
	return b.String()
}

// spliced is data with the bytes between two places replaced.
func spliced(data []byte, from, to int, with ...byte) []byte {
	return slices.Concat(data[:from], with, data[to:])
}

func tokenPlus(h *history, step int) frame.Token {
	return frame.Token(int64(h.head.Token) + int64(step))
}

// shuffledTurns is a file in which three agents wrote a turn each at the same
// time, line by line in random order, between turns that are whole. apart says
// that by chance they were not mixed.
func shuffledTurns(seed uint64) (data []byte, apart bool) {
	r := rand.New(rand.NewPCG(seed, 2))
	h := newHistory("")
	h.turnsOf(2)
	var queues [3][][]byte
	for i := range queues {
		var records [][]byte
		for n := range 3 {
			records = append(records, fmt.Appendf(nil, "agent-%d writes line %d of 3 in turn %d", i, n+1, 3))
		}
		text, _ := frame.Append(nil, h.head.Sum, frame.Header{
			Turn: 3, Agent: fmt.Sprintf("agent-%d", i), Token: h.head.Token + 3, At: h.at,
		}, records)
		queues[i] = slices.Collect(bytes.Lines(text))
	}
	var order []int
	for {
		var busy []int
		for i, q := range queues {
			if len(q) > 0 {
				busy = append(busy, i)
			}
		}
		if len(busy) == 0 {
			break
		}
		i := busy[r.IntN(len(busy))]
		h.data = append(h.data, queues[i][0]...)
		queues[i] = queues[i][1:]
		order = append(order, i)
	}
	h.head.Turn = 3
	h.turnsOf(2)
	return h.data, len(slices.Compact(order)) == 3
}
