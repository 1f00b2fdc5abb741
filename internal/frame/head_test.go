package frame

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func wholeHead() Head {
	return Head{
		Incarnation: testID, Line: 30, Queue: 1, Turn: 42, Start: 900, Offset: 1000, Sum: Sum{0xab}, Token: 0x2a,
		Agent: "agent-3", At: time.Date(2026, 11, 20, 4, 28, 0, 120e6, time.UTC),
	}
}

const headText = "head 2 incarnation=5f0c2e3a-0b1c-4d2e-8f3a-4b5c6d7e8f90 line=30 queue=1 turn=42 start=900 offset=1000 " +
	"sum=ab000000000000000000000000000000 token=0x2a agent=agent-3 at=2026-11-20T04:28:00.120Z"

func TestHeadHasTheseVeryBytes(t *testing.T) {
	if got := string(wholeHead().Encode()); got != headText {
		t.Errorf("wrote\n%s\nwant\n%s", got, headText)
	}
	if got, err := ParseHead([]byte(headText)); err != nil || got != wholeHead() {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestParseHeadRefusesWhatIsNoHead(t *testing.T) {
	for _, s := range []swap{
		{"no offset", " offset=1000", ""},
		{"offset zero", "offset=1000", "offset=0"},
		{"negative offset", "offset=1000", "offset=-1"},
		{"offset beyond 63 bits", "offset=1000", "offset=9223372036854775808"},
		{"offset before the turn's start", "offset=1000", "offset=900"},
		{"start before the line", "start=900", "start=29"},
		{"negative line", "line=30", "line=-1"},
		{"queue zero", "queue=1", "queue=0"},
		{"queue beyond 32 bits", "queue=1", "queue=4294967296"},
		{"negative turn", "turn=42", "turn=-1"},
		{"turn beyond 64 bits", "turn=42", "turn=18446744073709551616"},
		{"the nil incarnation", testID.String(), uuid.Nil.String()},
		{"no incarnation", "incarnation=", "x="},
		{"upper-case sum", "=ab00", "=AB00"},
		{"short sum", "=ab00", "=ab"},
		{"no sum at all", "=ab00", "=0000"},
		{"token without 0x", "0x2a", "2a"},
		{"token with a plus sign", "0x2a", "0x+2a"},
		{"an agent that is none", "agent-3", "Agent 3"},
		{"no agent", "agent-3", ""},
		{"trailing garbage", "120Z", "120Zx"},
		{"a trailing newline", "120Z", "120Z\n"},
		{"torn", "120Z", "120"},
		{"another mark", "head", "tail"},
	} {
		t.Run(s.name, func(t *testing.T) { mustRefuseHead(t, strings.Replace(headText, s.old, s.new, 1), headText) })
	}
	t.Run("nothing", func(t *testing.T) { mustRefuseHead(t, "", headText) })
	t.Run("two heads", func(t *testing.T) { mustRefuseHead(t, headText+headText, headText) })
}

func TestParseHeadAcceptsOneSpellingOnly(t *testing.T) {
	for _, s := range []swap{
		{"turn with a leading zero", "turn=42", "turn=042"},
		{"turn with a plus sign", "turn=42", "turn=+42"},
		{"token with a leading zero", "0x2a", "0x02a"},
		{"token in upper-case hex", "0x2a", "0x2A"},
		{"an unknown field", " turn=", " x=1 turn="},
		{"a field in upper case", " turn=", " TURN="},
		{"a field twice", " turn=42", " turn=42 turn=42"},
		{"another order", "line=30 queue=1", "queue=1 line=30"},
		{"two spaces", " turn", "  turn"},
		{"a leading space", "head", " head"},
		{"the edition with a leading zero", "head 2", "head 02"},
		{"id as a URN", testID.String(), "urn:uuid:" + testID.String()},
		{"upper-case id", "5f0c", "5F0C"},
		{"time with microseconds", ".120Z", ".120000Z"},
	} {
		t.Run(s.name, func(t *testing.T) { mustRefuseHead(t, strings.Replace(headText, s.old, s.new, 1), headText) })
	}
}

func TestEverySingleByteOfHeadIsReadAsWritten(t *testing.T) {
	for i := range headText {
		for c := range 256 {
			changed := []byte(headText)
			if changed[i] == byte(c) {
				continue
			}
			changed[i] = byte(c)
			if d, err := ParseHead(changed); err == nil && (d == wholeHead() || string(d.Encode()) != string(changed)) {
				t.Fatalf("byte %d made %#x: %+v", i, c, d)
			}
		}
		mustRefuseHead(t, headText[:i], headText)
	}
}

func mustRefuseHead(t testing.TB, data, right string) {
	t.Helper()
	if data == right {
		t.Fatal("the test changed nothing")
	}
	if d, err := ParseHead([]byte(data)); err == nil || d != (Head{}) {
		t.Errorf("%s: %+v, %v", data, d, err)
	}
}
