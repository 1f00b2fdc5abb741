package frame

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckRecordKnowsWhatARecordIs(t *testing.T) {
	full := strings.Repeat("x", MaxRecord)
	fine := map[string]string{
		"empty":                "",
		"plain":                "a record",
		"tab":                  "a\tb",
		"only a tab":           "\t",
		"like a header":        "#turn 1 agent-1 lines=1 bytes=1",
		"beyond ASCII":         "grüße, 世界, 🙂",
		"the replacement rune": "\uFFFD",
		"U+00A0, just past C1": "\u00a0",
		"the largest rune":     "\U0010FFFF",
		"64 KiB exactly":       full,
		"64 KiB of two-byters": strings.Repeat("é", MaxRecord/2),
		"spaces at both ends":  "  x  ",
	}
	for name, text := range fine {
		t.Run(name, func(t *testing.T) {
			if err := CheckRecord([]byte(text)); err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
	refused := []struct {
		name, text string
		column     int
		says       string
	}{
		{"carriage return", "a\r", 2, "carriage return"},
		{"newline", "a\nb", 2, "newline"},
		{"NUL", "\x00", 1, "NUL"},
		{"escape", "ab\x1b[31m", 3, "escape"},
		{"DEL", "abc\x7f", 4, "U+007F"},
		{"bell", "\a", 1, "U+0007"},
		{"unit separator, the last of C0", "\x1f", 1, "U+001F"},
		{"the first of C1", "é\u0080", 3, "U+0080"},
		{"NEL", "\u0085", 1, "U+0085"},
		{"the last of C1", "x\u009f", 2, "U+009F"},
		{"a lone continuation byte", "é\x80", 3, "UTF-8"},
		{"half a rune", "ok\xc3", 3, "UTF-8"},
		{"an overlong slash", "\xc0\xaf", 1, "UTF-8"},
		{"a surrogate", "\xed\xa0\x80", 1, "UTF-8"},
		{"beyond Unicode", "\xf4\x90\x80\x80", 1, "UTF-8"},
		{"0xff", "a\xff", 2, "UTF-8"},
		{"one byte more than 64 KiB", full + "x", 0, "65537 bytes"},
		{"a bad last byte of 64 KiB", full[1:] + "\r", MaxRecord, "carriage return"},
	}
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckRecord([]byte(tt.text))
			var e *RecordError
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *RecordError", err)
			}
			if e.Column != tt.column || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("column %d: %v; want column %d and %q", e.Column, err, tt.column, tt.says)
			}
		})
	}
}

func TestEveryControlCharacterButTabIsRefused(t *testing.T) {
	for r := rune(0); r < 0x100; r++ {
		control := r < 0x20 && r != '\t' || r >= 0x7f && r < 0xa0
		if refused := CheckRecord([]byte(string(r))) != nil; refused != control {
			t.Errorf("U+%04X: refused %v, want %v", r, refused, control)
		}
	}
}

func TestCheckAgentKnowsWhatANameIs(t *testing.T) {
	for _, name := range []string{"a", "0", "agent-3", "a-", "a--b", strings.Repeat("z", 32)} {
		if err := CheckAgent(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "-a", "A", "agent_3", "agent 3", "agent.3", "a/b", "ä", "a\n", "\na", "a\x00", "a=b", strings.Repeat("z", 33),
	} {
		if CheckAgent(name) == nil {
			t.Errorf("%q passes for a name", name)
		}
	}
}
