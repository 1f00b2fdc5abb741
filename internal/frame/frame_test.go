package frame

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var testID = uuid.MustParse("5f0c2e3a-0b1c-4d2e-8f3a-4b5c6d7e8f90")

func at(t testing.TB, text string) time.Time {
	t.Helper()
	when, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func lines(records ...string) [][]byte {
	out := make([][]byte, len(records))
	for i, r := range records {
		out[i] = []byte(r)
	}
	return out
}

// twoFrames is a small file, and what Append said of its frames.
func twoFrames(t testing.TB) ([]byte, []Header) {
	t.Helper()
	begin := Incarnation{ID: testID, From: 1}
	file := []byte(begin.Line() + "\n")
	file, first := Append(file, begin.Seal(nil), Header{
		Turn: 1, Agent: "agent-3", Token: 0x10000002a, At: at(t, "2026-11-20T04:28:00.123Z"),
	}, lines("a record", "another"))
	file, second := Append(file, first.Sum, Header{
		Turn: 2, Agent: "b", Token: 0x10000002b, At: at(t, "2026-11-20T04:28:00Z"),
	}, lines("#turn 3 looks like a header", "", "tab\there", "ü"))
	return file, []Header{first, second}
}

// The bytes that files on disk already have: this may not change.
const golden = `#turnstile 1 incarnation=5f0c2e3a-0b1c-4d2e-8f3a-4b5c6d7e8f90 from=1
#turn 1 agent-3 lines=2 bytes=17 token=0x10000002a at=2026-11-20T04:28:00.123Z sum=SUM1
a record
another
#turn 2 b lines=4 bytes=41 token=0x10000002b at=2026-11-20T04:28:00.000Z sum=SUM2
#turn 3 looks like a header

tab	here
ü
`

// Computed once without this package, by a few lines of Python.
const goldenSum1, goldenSum2 = "33e733242b16e7fedf9d5418944e8277", "0ce2ba1dfd1bfdfc53dfa39a150a17b6"

func TestTwoFramesHaveTheseVeryBytes(t *testing.T) {
	got, _ := twoFrames(t)
	want := strings.NewReplacer("SUM1", goldenSum1, "SUM2", goldenSum2).Replace(golden)
	if string(got) != want {
		t.Errorf("the format changed:\n%s\nwant\n%s", got, want)
	}
}

// The package's comment, computed with nothing but crypto/sha256.
func TestTheChainIsWhatThePackageCommentSays(t *testing.T) {
	file, headers := twoFrames(t)
	line, rest, _ := bytes.Cut(file, []byte("\n"))
	full := sha256.Sum256(line)
	prev := full[:16]
	for _, h := range headers {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		sealed, stated, _ := bytes.Cut(line, []byte(" sum="))
		payload := sha256.Sum256(rest[:h.Bytes])
		rest = rest[h.Bytes:]
		link := sha256.Sum256(bytes.Join([][]byte{prev, sealed, payload[:]}, nil))
		if want := fmt.Sprintf("%x", link[:16]); string(stated) != want || h.Sum.String() != want {
			t.Errorf("turn %d: the line says %s, Append %v, the comment %s", h.Turn, stated, h.Sum, want)
		}
		prev = link[:16]
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes after the last frame", len(rest))
	}
}

func TestAnIncarnationThatGoesOnIsSealedToWhatPrecedesIt(t *testing.T) {
	next := Incarnation{ID: testID, From: 8, Preamble: 12}
	prev := SumOf(sha256.Sum256([]byte("twelve bytes")))
	want := sha256.Sum256(append(prev[:], next.Line()...))
	if got := next.Seal(&prev); !bytes.Equal(got[:], want[:16]) {
		t.Errorf("sealed %v, want %x", got, want[:16])
	}
	if next.Seal(nil) == next.Seal(&prev) || next.Seal(nil) == next.Seal(&Sum{}) {
		t.Error("what precedes the line does not change its sum")
	}
}

func randomHeader(r *rand.Rand) Header {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	name := []byte{letters[r.IntN(len(letters))]}
	for n := r.IntN(32); len(name) <= n; {
		name = append(name, (letters + "-")[r.IntN(len(letters)+1)])
	}
	return Header{
		Turn: r.Uint64() >> r.IntN(64), Agent: string(name), Token: Token(r.Uint64() >> r.IntN(64)),
		At: time.UnixMilli(r.Int64N(253402300799999)).UTC(), // up to the year 9999
	}
}

func randomRecords(r *rand.Rand) [][]byte {
	out := make([][]byte, 1+r.IntN(5))
	for i := range out {
		out[i] = bytes.Repeat([]byte("é\t#turn 1 x"), r.IntN(4))
	}
	return out
}

func TestWhatAppendWritesParseHeaderReads(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		before := bytes.Repeat([]byte("x"), r.IntN(3))
		h, records, prev := randomHeader(r), randomRecords(r), Sum{byte(seed)}
		h.Turn = max(h.Turn, 1)
		out, said := Append(bytes.Clone(before), prev, h, records)
		if !bytes.HasPrefix(out, before) {
			t.Fatalf("seed %d: Append changed what was there", seed)
		}
		line, payload, _ := bytes.Cut(out[len(before):], []byte("\n"))
		got, err := ParseHeader(line)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, line)
		}
		if got != said || got.Line() != string(line) {
			t.Fatalf("seed %d: wrote %+v, read %+v", seed, said, got)
		}
		if want := append(bytes.Join(records, []byte("\n")), '\n'); !bytes.Equal(payload, want) || got.Bytes != len(want) || got.Lines != len(records) {
			t.Fatalf("seed %d: %d lines, %d bytes, payload %q", seed, got.Lines, got.Bytes, payload)
		}
		if got.Seal(prev, sha256.Sum256(payload)) != got.Sum {
			t.Fatalf("seed %d: the sum does not seal what was written", seed)
		}
	}
}

func TestEverySingleByteOfAHeaderIsCovered(t *testing.T) {
	file, headers := twoFrames(t)
	_, rest, _ := bytes.Cut(file, []byte("\n"))
	line, rest, _ := bytes.Cut(rest, []byte("\n"))
	prev := Incarnation{ID: testID, From: 1}.Seal(nil)
	payload := sha256.Sum256(rest[:headers[0].Bytes])
	if h, err := ParseHeader(line); err != nil || h.Seal(prev, payload) != h.Sum {
		t.Fatalf("the unchanged header does not verify: %v", err)
	}
	check := func(what string, changed []byte) {
		t.Helper()
		if h, err := ParseHeader(changed); err == nil && h.Seal(prev, payload) == h.Sum {
			t.Errorf("%s goes unnoticed: %q", what, changed)
		}
	}
	for i := range line {
		for c := range 256 {
			if byte(c) == line[i] {
				continue
			}
			changed := bytes.Clone(line)
			changed[i] = byte(c)
			check(fmt.Sprintf("byte %d made %#x", i, c), changed)
		}
		check(fmt.Sprintf("byte %d removed", i), append(bytes.Clone(line[:i]), line[i+1:]...))
		check(fmt.Sprintf("byte %d doubled", i), append(bytes.Clone(line[:i+1]), line[i:]...))
		check(fmt.Sprintf("cut at %d", i), line[:i])
	}
}

func TestTheSumDependsOnAllThatItCovers(t *testing.T) {
	h := Header{Turn: 7, Agent: "a", Lines: 1, Bytes: 2, Token: 9, At: at(t, "2026-01-02T03:04:05.006Z")}
	var prev Sum
	var payload [sha256.Size]byte
	base := h.Seal(prev, payload)
	seen := map[Sum]string{base: "nothing"}
	note := func(what string, s Sum) {
		if other, twice := seen[s]; twice {
			t.Errorf("changing %s gives the same sum as changing %s", what, other)
		}
		seen[s] = what
	}
	for i := range prev {
		p := prev
		p[i] = 1
		note(fmt.Sprintf("prev[%d]", i), h.Seal(p, payload))
	}
	for i := range payload {
		p := payload
		p[i] = 1
		note(fmt.Sprintf("payload[%d]", i), h.Seal(prev, p))
	}
	for what, change := range map[string]func(*Header){
		"turn": func(h *Header) { h.Turn++ }, "agent": func(h *Header) { h.Agent = "b" },
		"lines": func(h *Header) { h.Lines++ }, "bytes": func(h *Header) { h.Bytes++ },
		"token": func(h *Header) { h.Token++ }, "at": func(h *Header) { h.At = h.At.Add(time.Millisecond) },
	} {
		other := h
		change(&other)
		note(what, other.Seal(prev, payload))
	}
	h.Sum = Sum{1}
	if h.Seal(prev, payload) != base {
		t.Error("Seal looked at the header's own sum")
	}
}

func TestAppendPanicsRatherThanWriteAHeaderThatIsTooLong(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Append wrote a header that no reader can read")
		}
	}()
	Append(nil, Sum{}, Header{Turn: 1, Agent: strings.Repeat("a", MaxLine)}, lines("x"))
}

func TestHeadAfterAFrameIsWhereItEnds(t *testing.T) {
	_, headers := twoFrames(t)
	before := Head{Incarnation: testID, Line: 7, Queue: 3, Turn: 1, Start: 50, Offset: 100}
	after := before.After(headers[1], 200)
	want := Head{testID, 7, 3, 2, 100, 300, headers[1].Sum, headers[1].Token, "b", headers[1].At}
	if after != want {
		t.Errorf("got %+v, want %+v", after, want)
	}
	back, err := ParseHead(after.Encode())
	if err != nil || back != after {
		t.Errorf("read %+v (%v), wrote %+v", back, err, after)
	}
}
