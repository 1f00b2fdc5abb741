package frame

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

type swap struct{ name, old, new string }

const headerLine = "#turn 42 agent-3 lines=3 bytes=143 token=0x10000002a at=2026-11-20T04:28:00.120Z sum=9a3f12cd77aa01fe9a3f12cd77aa01fe"

func TestParseHeaderAcceptsOneSpellingOnly(t *testing.T) {
	if _, err := ParseHeader([]byte(headerLine)); err != nil {
		t.Fatalf("the right spelling is refused: %v", err)
	}
	for _, s := range []swap{
		{"turn with a leading zero", "42", "042"},
		{"turn with a plus sign", "42", "+42"},
		{"turn with an underscore", "42", "4_2"},
		{"turn zero", "42", "0"},
		{"negative turn", "42", "-42"},
		{"turn beyond 64 bits", "42", "18446744073709551616"},
		{"hexadecimal turn", "42", "0x2a"},
		{"no turn", "42 ", ""},
		{"upper-case agent", "agent-3", "Agent-3"},
		{"empty agent", "agent-3", ""},
		{"agent too long", "agent-3", strings.Repeat("a", 33)},
		{"lines with a leading zero", "lines=3", "lines=03"},
		{"lines with a plus sign", "lines=3", "lines=+3"},
		{"no lines", "lines=3", "lines=0"},
		{"negative lines", "lines=3", "lines=-3"},
		{"more lines than bytes", "lines=3", "lines=144"},
		{"lines beyond 64 bits", "lines=3", "lines=99999999999999999999"},
		{"bytes with a leading zero", "bytes=143", "bytes=0143"},
		{"bytes with a plus sign", "bytes=143", "bytes=+143"},
		{"bytes in upper case", "bytes=", "BYTES="},
		{"more bytes than a turn may have", "bytes=143", "bytes=16777217"},
		{"token in upper-case hex", "2a ", "2A "},
		{"token with 0X", "0x1", "0X1"},
		{"token without 0x", "0x1", "1"},
		{"token with a leading zero", "0x1", "0x01"},
		{"token with a plus sign", "0x1", "+0x1"},
		{"token beyond 64 bits", "0x10000002a", "0x10000000000000000"},
		{"empty token", "0x10000002a", "0x"},
		{"time without milliseconds", ".120Z", "Z"},
		{"time with microseconds", ".120Z", ".120000Z"},
		{"time with trimmed zeros", ".120Z", ".12Z"},
		{"time with a comma", ".120Z", ",120Z"},
		{"time in another zone", ".120Z", ".120+00:00"},
		{"time in lower case", "T04", "t04"},
		{"hour 24", "T04", "T24"},
		{"second 60", ":00.", ":60."},
		{"day 31 of November", "11-20", "11-31"},
		{"short year", "2026", "26"},
		{"sum in upper-case hex", "9a3f", "9A3F"},
		{"sum too short", "01fe9a3f12cd77aa01fe", "01fe9a3f12cd77aa01f"},
		{"sum too long", "9a3f12cd77aa01fe9", "9a3f12cd77aa01fe99"},
		{"two spaces", "#turn 42", "#turn  42"},
		{"a tab for a space", " lines", "\tlines"},
		{"a leading space", "#turn", " #turn"},
		{"fields in another order", "lines=3 bytes=143", "bytes=143 lines=3"},
		{"another mark", "#turn", "#Turn"},
		{"another field", " sum=", " x=1 sum="},
	} {
		t.Run(s.name, func(t *testing.T) {
			mustRefuseHeader(t, strings.Replace(headerLine, s.old, s.new, 1))
		})
	}
	for name, line := range map[string]string{
		"a trailing space": headerLine + " ", "its newline": headerLine + "\n", "a carriage return": headerLine + "\r",
		"nothing": "", "the mark alone": "#turn ", "a line too long": headerLine + strings.Repeat(" ", MaxLine),
		"an incarnation line": Incarnation{ID: testID, From: 1}.Line(),
	} {
		t.Run(name, func(t *testing.T) { mustRefuseHeader(t, line) })
	}
}

func mustRefuseHeader(t testing.TB, line string) {
	t.Helper()
	if line == headerLine {
		t.Fatal("the test changed nothing")
	}
	if h, err := ParseHeader([]byte(line)); !errors.Is(err, ErrHeader) || h != (Header{}) {
		t.Errorf("%q: %+v, %v", line, h, err)
	}
}

func TestParseIncarnationAcceptsOneSpellingOnly(t *testing.T) {
	right := Incarnation{ID: testID, From: 8, Preamble: 77}
	for _, i := range []Incarnation{right, {ID: testID, From: 1}} {
		if got, err := ParseIncarnation([]byte(i.Line())); err != nil || got != i {
			t.Fatalf("wrote %+v, read %+v, %v", i, got, err)
		}
	}
	for _, s := range []swap{
		{"upper-case id", "5f0c", "5F0C"},
		{"id in braces", testID.String(), "{" + testID.String() + "}"},
		{"id as a URN", testID.String(), "urn:uuid:" + testID.String()},
		{"id without dashes", testID.String(), strings.ReplaceAll(testID.String(), "-", "")},
		{"id too short", "5f0c", "5f0"},
		{"from with a leading zero", "from=8", "from=08"},
		{"from with a plus sign", "from=8", "from=+8"},
		{"from zero", "from=8", "from=0"},
		{"no from", " from=8", ""},
		{"from twice", "from=8", "from=8 from=8"},
		{"preamble zero", "preamble=77", "preamble=0"},
		{"negative preamble", "preamble=77", "preamble=-77"},
		{"preamble with a plus sign", "preamble=77", "preamble=+77"},
		{"another version", "#turnstile 1", "#turnstile 2"},
		{"two spaces", " from", "  from"},
		{"an unknown field", " from", " x=1 from"},
		{"another order", "from=8 preamble=77", "preamble=77 from=8"},
		{"a trailing space", "77", "77 "},
		{"its newline", "77", "77\n"},
	} {
		t.Run(s.name, func(t *testing.T) {
			line := strings.Replace(right.Line(), s.old, s.new, 1)
			if i, err := ParseIncarnation([]byte(line)); !errors.Is(err, ErrHeader) || i != (Incarnation{}) {
				t.Errorf("%q: %+v, %v", line, i, err)
			}
		})
	}
}

func TestParseIncarnationRefusesTheNilUUID(t *testing.T) {
	if _, err := ParseIncarnation([]byte(Incarnation{ID: uuid.Nil, From: 1}.Line())); err == nil {
		t.Error("accepted")
	}
}

func wholeAck() Ack { return Ack{Turn: 42, Line: 1, Hash: sha256.Sum256([]byte("a record"))} }

func TestParseAckReadsWhatAppendAckWrote(t *testing.T) {
	line, ok := bytes.CutSuffix(AppendAck(nil, wholeAck()), []byte("\n"))
	if got, err := ParseAck(line); !ok || err != nil || got != wholeAck() {
		t.Errorf("%q: %+v, %v", line, got, err)
	}
	run := AckRun{Agent: "agent-3", Incarnation: testID}
	if got, err := ParseAckRun([]byte(run.Line())); err != nil || got != run {
		t.Errorf("%q: %+v, %v", run.Line(), got, err)
	}
}

func TestParseAckRefusesWhatIsNoAcknowledgement(t *testing.T) {
	right := strings.TrimSpace(string(AppendAck(nil, wholeAck())))
	for name, line := range map[string]string{
		"nothing": "", "two fields": "42 1", "two spaces": strings.Replace(right, " ", "  ", 1), "a short hash": right[:len(right)-1],
		"a long hash": right + "0", "no hex": right[:len(right)-1] + "g", "its newline": right + "\n", "a trailing space": right + " ",
		"negative turn": "-" + right, "turn with a plus sign": "+" + right, "torn": right[:len(right)/2],
	} {
		t.Run(name, func(t *testing.T) { mustRefuseAck(t, line) })
	}
}

func TestParseAckAcceptsOneSpellingOnly(t *testing.T) {
	right := strings.TrimSpace(string(AppendAck(nil, wholeAck())))
	for name, line := range map[string]string{
		"turn with a leading zero": "0" + right, "turn zero": "0" + right[2:], "line zero": strings.Replace(right, " 1 ", " 0 ", 1),
		"negative line": strings.Replace(right, " 1 ", " -1 ", 1), "line with a plus sign": strings.Replace(right, " 1 ", " +1 ", 1),
		"line with a leading zero": strings.Replace(right, " 1 ", " 01 ", 1), "upper-case hash": strings.ToUpper(right),
	} {
		t.Run(name, func(t *testing.T) { mustRefuseAck(t, line) })
	}
}

func mustRefuseAck(t testing.TB, line string) {
	t.Helper()
	if a, err := ParseAck([]byte(line)); err == nil || a != (Ack{}) {
		t.Errorf("%q: %+v, %v", line, a, err)
	}
}

func TestParseAckRunRefusesOtherSpellings(t *testing.T) {
	right := AckRun{Agent: "agent-3", Incarnation: testID}.Line()
	for _, s := range []swap{
		{"another version", "#acks 1", "#acks 2"}, {"no agent", "agent=agent-3 ", ""}, {"an agent that is none", "agent-3", "Agent"},
		{"two spaces", " incarnation", "  incarnation"}, {"torn id", "8f90", "8f9"}, {"its newline", "8f90", "8f90\n"},
	} {
		t.Run(s.name, func(t *testing.T) { mustRefuseRun(t, strings.Replace(right, s.old, s.new, 1)) })
	}
	for _, s := range []swap{
		{"upper-case id", "5f0c", "5F0C"}, {"id as a URN", testID.String(), "urn:uuid:" + testID.String()},
		{"id without dashes", testID.String(), strings.ReplaceAll(testID.String(), "-", "")},
	} {
		t.Run(s.name, func(t *testing.T) {
			mustRefuseRun(t, strings.Replace(right, s.old, s.new, 1))
		})
	}
}

func mustRefuseRun(t testing.TB, line string) {
	t.Helper()
	if r, err := ParseAckRun([]byte(line)); err == nil || r != (AckRun{}) {
		t.Errorf("%q: %+v, %v", line, r, err)
	}
}
