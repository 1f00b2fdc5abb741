package frame

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var testRun = uuid.MustParse("0d9b6d5a-0b1c-4d2e-8f3a-4b5c6d7e8f90")

// twoTurns is a new file's first head, the turn 0 that begins it, and the turn after it.
func twoTurns() (Head, Turn, Turn) {
	i := Incarnation{ID: testID, From: 1}
	head := Begin(i, 0, nil, "agent-3", time.Date(2026, 11, 20, 4, 28, 0, 0, time.UTC))
	next := head.Next(Header{Agent: "agent-3", Token: 0x2a, At: head.At}, testRun, lines("a record", "", "#turn 9 like a header"))
	return head, First(i, testRun), next
}

const turnText = "turn 2 incarnation=5f0c2e3a-0b1c-4d2e-8f3a-4b5c6d7e8f90 before=0 offset=69 prev=PREV run=0d9b6d5a-0b1c-4d2e-8f3a-4b5c6d7e8f90\n" +
	"#turn 1 agent-3 lines=3 bytes=32 token=0x2a at=2026-11-20T04:28:00.000Z sum=SUM\na record\n\n#turn 9 like a header\n"

func TestATurnNodeHasTheseVeryBytes(t *testing.T) {
	head, first, next := twoTurns()
	want := strings.NewReplacer("PREV", head.Sum.String(), "SUM", next.Header.Sum.String()).Replace(turnText)
	if got := string(next.Encode()); got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
	for number, turn := range map[uint64]Turn{0: first, 1: next} {
		got, err := ParseTurn(number, turn.Encode())
		if err != nil || got.Header != turn.Header || !bytes.Equal(got.Encode(), turn.Encode()) || got.Number != number {
			t.Errorf("read %+v, %v", got, err)
		}
	}
}

func TestTurnsFollowHead(t *testing.T) {
	head, first, next := twoTurns()
	if first.Sum() != head.Sum || first.End() != head.Offset || first.Offset != head.Line || len(first.Records()) != 0 {
		t.Errorf("the turn 0 is %+v, and head %+v", first, head)
	}
	after := head.After(next.Header, len(next.Bytes))
	if after.Sum != next.Sum() || after.Offset != next.End() || after.Start != next.Offset || next.Before != first.Offset || next.Prev != first.Sum() {
		t.Errorf("the turn is %+v, and head %+v", next, after)
	}
	if got := string(bytes.Join(next.Records(), []byte("|"))); got != "a record||#turn 9 like a header" {
		t.Errorf("records %q", got)
	}
	if third := after.Next(Header{Agent: "b"}, testRun, lines("")); third.Number != 2 || third.Prev != next.Sum() || third.Before != next.Offset ||
		len(third.Records()) != 1 {
		t.Errorf("the next is %+v", third)
	}
}

// TestEverySingleByteOfATurnNode changes each byte. What is still read as a turn has the
// same bytes for the file, and says of itself something else that its reader compares:
// its incarnation with the node's name, its place with the turns around it. Whose it is
// alone is not covered: that decides who waits for whom, and no byte.
func TestEverySingleByteOfATurnNode(t *testing.T) {
	_, first, next := twoTurns()
	for number, turn := range map[uint64]Turn{0: first, 1: next} {
		right := turn.Encode()
		for i := range right {
			for c := range 256 {
				changed := bytes.Clone(right)
				if changed[i] = byte(c); right[i] == byte(c) {
					continue
				}
				got, err := ParseTurn(number, changed)
				if err != nil {
					if len(got.Bytes) > 0 || got.Incarnation != uuid.Nil {
						t.Fatalf("byte %d made %#x: half a turn came back with %v", i, c, err)
					}
					continue
				}
				told := got.Incarnation != turn.Incarnation || got.Before != turn.Before || got.Offset != turn.Offset || got.Run != turn.Run
				if !told || !bytes.Equal(got.Bytes, turn.Bytes) || got.Prev != turn.Prev || !bytes.Equal(got.Encode(), changed) {
					t.Fatalf("byte %d made %#x: %+v", i, c, got)
				}
			}
			mustRefuseTurn(t, number, right[:i])
		}
		mustRefuseTurn(t, number, append(bytes.Clone(right), 'x'))
		mustRefuseTurn(t, number, append(bytes.Clone(right), '\n'))
		mustRefuseTurn(t, number+1, right)
	}
	mustRefuseTurn(t, 0, next.Encode())
}

func TestParseTurnAcceptsOneSpellingOnly(t *testing.T) {
	_, first, next := twoTurns()
	right := string(next.Encode())
	for _, s := range []swap{
		{"before with a leading zero", "before=0", "before=00"},
		{"before beyond the offset", "before=0", "before=70"},
		{"negative offset", "offset=69", "offset=-69"},
		{"offset with a plus sign", "offset=69", "offset=+69"},
		{"offset beyond 63 bits", "offset=69", "offset=9223372036854775808"},
		{"upper-case id", "5f0c", "5F0C"},
		{"id as a URN", "5f0c", "urn:uuid:5f0c"},
		{"the nil incarnation", testID.String(), uuid.Nil.String()},
		{"an unknown field", " before", " x=1 before"},
		{"two spaces", " before", "  before"},
		{"a carriage return", "\n", "\r\n"},
		{"an empty line", "\n", "\n\n"},
		{"another mark", "turn 2", "Turn 2"},
		{"another turn's header", "#turn 1", "#turn 2"},
	} {
		t.Run(s.name, func(t *testing.T) {
			changed := strings.Replace(right, s.old, s.new, 1)
			if changed == right {
				t.Fatal("the test changed nothing")
			}
			mustRefuseTurn(t, 1, []byte(changed))
		})
	}
	begin := string(first.Encode())
	for _, s := range []swap{
		{"an offset", "before=0 offset=0", "before=0 offset=1"},
		{"a sum before it", "prev=00", "prev=01"},
		{"a preamble", "from=1", "from=1 preamble=7"},
		{"a later turn", "from=1", "from=2"},
	} {
		mustRefuseTurn(t, 0, []byte(strings.Replace(begin, s.old, s.new, 1)))
	}
}

// TestATurnHasAsManyRecordsAsItSays seals wrong counts with right sums.
func TestATurnHasAsManyRecordsAsItSays(t *testing.T) {
	head, _, _ := twoTurns()
	for name, records := range map[string][][]byte{"a newline too many": lines("a\nb"), "none too many": lines("a", "b")} {
		turn := head.Next(Header{Agent: "a"}, testRun, records)
		if _, err := ParseTurn(1, turn.Encode()); (err == nil) != (name == "none too many") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestATurnIsAsLongAsItSays(t *testing.T) {
	_, _, next := twoTurns()
	line, payload, _ := bytes.Cut(next.Bytes, []byte("\n"))
	h, err := ParseHeader(line)
	if err != nil {
		t.Fatal(err)
	}
	h.Bytes--
	h.Sum = h.Seal(next.Prev, sha256.Sum256(payload))
	next.Bytes = append([]byte(h.Line()+"\n"), payload...)
	mustRefuseTurn(t, 1, next.Encode())
}

func mustRefuseTurn(t testing.TB, number uint64, data []byte) {
	t.Helper()
	if turn, err := ParseTurn(number, data); err == nil || turn.Bytes != nil || turn.Incarnation != uuid.Nil {
		t.Errorf("turn %d, %q: %+v, %v", number, data, turn, err)
	}
}

func TestWhatAnotherEditionWroteIsErrFormat(t *testing.T) {
	fixture, err := os.ReadFile("../../cmd/agent/testdata/first-edition/head.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{string(fixture), "{}", "head 3 anything", "head 1 incarnation=", "head 10 ", "head 3"} {
		if _, err := ParseHead([]byte(data)); !errors.Is(err, ErrFormat) {
			t.Errorf("head %q: %v", data, err)
		}
	}
	if _, err := ParseTurn(1, []byte("turn 3 in another way\n")); !errors.Is(err, ErrFormat) {
		t.Errorf("a turn: %v", err)
	}
	for _, data := range []string{"", "head", "head ", "head 2", "head 2 incarnation", "head -1 x", "head +3 x", "head x", "turn 3 x", "rubbish"} {
		if _, err := ParseHead([]byte(data)); err == nil || errors.Is(err, ErrFormat) {
			t.Errorf("head %q: %v", data, err)
		}
	}
	if _, err := ParseTurn(1, []byte("head 3 x")); err == nil || errors.Is(err, ErrFormat) {
		t.Errorf("head for a turn: %v", err)
	}
}

func TestParsePendingReadsWhatAppendPendingWrote(t *testing.T) {
	p := Pending{Turn: 42, Offset: 5120, Sum: Sum{0x9a, 0x3f}}
	right := strings.TrimSuffix(string(AppendPending(nil, p)), "\n")
	if want := "#pending 42 5120 9a3f0000000000000000000000000000"; right != want {
		t.Errorf("wrote %q, want %q", right, want)
	}
	if got, err := ParsePending([]byte(right)); err != nil || got != p || !IsPending([]byte(right)) {
		t.Errorf("read %+v, %v", got, err)
	}
	for name, line := range map[string]string{
		"nothing": "", "its newline": right + "\n", "a trailing space": right + " ", "turn zero": strings.Replace(right, "42", "0", 1),
		"turn with a leading zero": strings.Replace(right, "42", "042", 1), "negative offset": strings.Replace(right, "5120", "-1", 1),
		"two spaces": strings.Replace(right, " 5120", "  5120", 1), "upper-case sum": strings.Replace(right, "9a", "9A", 1),
		"torn": right[:len(right)-1], "no mark": strings.TrimPrefix(right, "#pending "), "another mark": strings.Replace(right, "#p", "#P", 1),
	} {
		if got, err := ParsePending([]byte(line)); err == nil || got != (Pending{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if IsPending([]byte("#acks 1 agent=a")) {
		t.Error("a run's first line passes for a pending turn")
	}
}
