package intake

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// The marks a record begins with when it is not a whole line as it was read. A line that begins
// with one by itself is escaped, so that Decode gives every line back.
const (
	// Escaped: a backslash is written as \\, a byte that no record may have as \x and two digits.
	Escaped = "#escaped "
	// Continues: the line was too long for one record, and goes on in the next.
	Continues = "#continues "
	// EscapedContinues is both.
	EscapedContinues = "#escaped-continues "
)

// room is what is left of a record behind the longest mark.
const room = frame.MaxRecord - len(EscapedContinues)

// encode makes records of a line, in order: one, or several when it is too long. Without its end
// the line goes on: what may still change by that is not encoded, and given back as rest.
func encode(line []byte, ended bool) (records [][]byte, rest []byte) {
	for {
		if ended && len(line) <= frame.MaxRecord && isPlain(line) {
			return append(records, bytes.Clone(line)), nil
		}
		whole := len(line)
		if !ended {
			whole -= broken(line)
		}
		n := fits(line[:whole])
		switch {
		case n < whole:
		case ended:
			return append(records, encodePiece(line, false)), nil
		default:
			return records, line
		}
		records = append(records, encodePiece(line[:n], true))
		line = line[n:]
	}
}

// isPlain tells whether a line is a record as it is.
func isPlain(line []byte) bool { return !marked(line) && frame.CheckRecord(line) == nil }

func marked(line []byte) bool {
	mark, _ := cut(line)
	return mark != ""
}

// fits is how many bytes of a line surely fit into one record, escaped. No character is cut.
func fits(line []byte) (n int) {
	size := 0
	for n < len(line) {
		next := character(line[n:])
		cost := 4 * next
		if isFine(line[n : n+next]) {
			cost = next
		}
		if line[n] == '\\' {
			cost = 2
		}
		if size += cost; size > room {
			return n
		}
		n += next
	}
	return n
}

// broken is how many bytes at a line's end are the beginning of a character.
func broken(line []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(line); n++ {
		if end := line[len(line)-n:]; utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				return n
			}
			break
		}
	}
	return 0
}

// character is the length of the character that text begins with, 1 for a byte of none.
func character(text []byte) int {
	_, n := utf8.DecodeRune(text)
	return n
}

// isFine tells whether a character may stand in a record.
func isFine(char []byte) bool {
	if len(char) == 1 && char[0] < utf8.RuneSelf {
		return char[0] >= 0x20 && char[0] != 0x7f || char[0] == '\t'
	}
	return frame.CheckRecord(char) == nil
}

func encodePiece(piece []byte, continues bool) []byte {
	plain := frame.CheckRecord(piece) == nil
	switch {
	case plain && continues:
		return append([]byte(Continues), piece...)
	case plain && len(piece) <= frame.MaxRecord && !marked(piece):
		return bytes.Clone(piece)
	case continues:
		return escape([]byte(EscapedContinues), piece)
	}
	return escape([]byte(Escaped), piece)
}

func escape(to, text []byte) []byte {
	for len(text) > 0 {
		n := character(text)
		switch {
		case text[0] == '\\':
			to = append(to, `\\`...)
		case isFine(text[:n]):
			to = append(to, text[:n]...)
		default:
			for _, b := range text[:n] {
				to = fmt.Appendf(to, `\x%02x`, b)
			}
		}
		text = text[n:]
	}
	return to
}

// Decode gives back what a record was made from, and whether its line ends there.
func Decode(record []byte) (text []byte, ends bool) {
	mark, body := cut(record)
	if mark == Escaped || mark == EscapedContinues {
		body = unescape(body)
	}
	return body, mark == "" || mark == Escaped
}

// Join gives back the lines that a turn's records, each with its newline, were made from. open
// is what the same agent's turn before left of a line that had not ended; rest is what this one
// leaves.
func Join(open, records []byte) (lines, rest []byte) {
	lines = open
	done := 0
	for len(records) > 0 {
		record, after, _ := bytes.Cut(records, []byte("\n"))
		text, ends := Decode(record)
		if lines = append(lines, text...); ends {
			lines = append(lines, '\n')
			done = len(lines)
		}
		records = after
	}
	return lines[:done], bytes.Clone(lines[done:])
}

// cut cuts a record's mark off.
func cut(record []byte) (mark string, body []byte) {
	if len(record) == 0 || record[0] != '#' {
		return "", record
	}
	for _, mark := range []string{Escaped, Continues, EscapedContinues} {
		if body, found := bytes.CutPrefix(record, []byte(mark)); found {
			return mark, body
		}
	}
	return "", record
}

// unescape leaves what escape did not write as it is.
func unescape(body []byte) []byte {
	text := make([]byte, 0, len(body))
	for len(body) > 0 {
		switch {
		case bytes.HasPrefix(body, []byte(`\\`)):
			text, body = append(text, '\\'), body[2:]
			continue
		case bytes.HasPrefix(body, []byte(`\x`)) && len(body) >= 4:
			if b, err := strconv.ParseUint(string(body[2:4]), 16, 8); err == nil {
				text, body = append(text, byte(b)), body[4:]
				continue
			}
		}
		text, body = append(text, body[0]), body[1:]
	}
	return text
}
