package frame

import (
	"fmt"
	"unicode/utf8"
)

// isAgent reports whether name is [a-z0-9][a-z0-9-]{0,31}.
func isAgent(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 32
}

// CheckAgent reports why name cannot be an agent's name, or nil.
func CheckAgent(name string) error {
	if !isAgent(name) {
		return fmt.Errorf("agent name %q: want 1 to 32 of a-z, 0-9 and -, not beginning with -", name)
	}
	return nil
}

// RecordError says what is wrong with a record.
type RecordError struct {
	Column int    // the offending byte, counted from 1; 0 when it is the record as a whole
	Reason string // what is wrong and what would be right
}

func (e *RecordError) Error() string {
	if e.Column == 0 {
		return e.Reason
	}
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Column)
}

var controlNames = map[byte]string{
	0: "a NUL", '\n': "a newline", '\r': "a carriage return (strip it: tr -d '\\r')", 0x1b: "an escape character",
}

// CheckRecord reports, as a *RecordError, why text cannot be a record, or nil: a
// record is valid UTF-8 of at most MaxRecord bytes without control characters,
// tab excepted. An empty record is one.
func CheckRecord(text []byte) error {
	if len(text) > MaxRecord {
		return &RecordError{Reason: fmt.Sprintf("a record of %d bytes, the most is %d", len(text), MaxRecord)}
	}
	ascii := true
	for i, c := range text {
		if c < 0x20 && c != '\t' || c == 0x7f {
			name := controlNames[c]
			if name == "" {
				name = fmt.Sprintf("the control character U+%04X", c)
			}
			return &RecordError{Column: i + 1, Reason: name}
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if ascii {
		return nil
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return &RecordError{Column: i + 1, Reason: "bytes that are not valid UTF-8"}
		case r >= 0x80 && r < 0xa0:
			return &RecordError{Column: i + 1, Reason: fmt.Sprintf("the control character U+%04X", r)}
		}
		i += size
	}
	return nil
}
