package frame

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ParseHeader reads a header line, given without its newline. It accepts exactly
// what Append writes: a header in another spelling is an error, so that every
// byte of it is covered by the sum. (It reads by hand rather than with strconv and
// time.Parse, which accept more: a verifier reads millions of headers.)
func ParseHeader(line []byte) (Header, error) {
	if len(line) >= MaxLine || !bytes.HasPrefix(line, []byte(turnMark)) {
		return Header{}, fmt.Errorf("%w: no %q at its beginning", ErrHeader, turnMark)
	}
	f := fields{rest: string(line[len(turnMark):])}
	h := Header{
		Turn:  f.number(" ", 10, math.MaxUint64),
		Agent: f.text(" lines="),
		Lines: int(f.number(" bytes=", 10, MaxBytes)),
		Bytes: int(f.number(" token=0x", 10, MaxBytes)),
		Token: Token(f.number(" at=", 16, math.MaxUint64)),
		At:    f.time(sumMark),
	}
	sum := []byte(f.rest)
	switch {
	case f.failed:
		return Header{}, fmt.Errorf("%w: %q", ErrHeader, f.bad)
	case h.Turn == 0 || h.Lines < 1 || h.Bytes < h.Lines:
		return Header{}, fmt.Errorf("%w: turn, lines or bytes out of range", ErrHeader)
	}
	if err := h.Sum.UnmarshalText(sum); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if err := CheckAgent(h.Agent); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	return h, nil
}

// fields reads a header field by field.
type fields struct {
	rest string

	failed bool
	bad    string // the first field that is not spelled as Append spells it
}

// mark takes the words that a line begins with, and knows those of other editions.
func (f *fields) mark(want string) error {
	rest, ok := strings.CutPrefix(f.rest, want)
	if ok {
		f.rest = rest
		return nil
	}
	kind, _, _ := strings.Cut(want, " ")
	edition, _, _ := strings.Cut(strings.TrimPrefix(f.rest, kind+" "), " ")
	n, err := strconv.Atoi(edition)
	switch {
	case strings.HasPrefix(f.rest, "{"):
		n, err = 1, nil
	case !strings.HasPrefix(f.rest, kind+" ") || n == Format || n < 1 || strconv.Itoa(n) != edition:
		err = errors.New("not as it was written")
	}
	if err != nil {
		return fmt.Errorf("it does not begin with %q", want)
	}
	return fmt.Errorf("%w: it has format %d, and this program knows format %d", ErrFormat, n, Format)
}

// uuid, offset and sum read what their names say.
func (f *fields) uuid(next string) uuid.UUID {
	text := f.text(next)
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		f.fail(text)
	}
	return id
}

func (f *fields) offset(next string) int64 { return int64(f.number(next, 10, math.MaxInt64)) }

func (f *fields) sum(next string) (s Sum) {
	text := f.text(next)
	if s.UnmarshalText([]byte(text)) != nil {
		f.fail(text)
	}
	return s
}

// text is what stands before the words that begin the next field, or all that is left.
func (f *fields) text(next string) string {
	value, rest, ok := strings.Cut(f.rest, next)
	if next == "" {
		value, rest, ok = f.rest, "", true
	}
	if !ok {
		f.fail(f.rest)
	}
	f.rest = rest
	return value
}

func (f *fields) fail(what string) {
	if !f.failed {
		f.failed, f.bad = true, what
	}
}

// number reads lower-case digits without a leading zero.
func (f *fields) number(next string, base, most uint64) (n uint64) {
	text := f.text(next)
	if text == "" || text[0] == '0' && text != "0" {
		f.fail(text)
	}
	for i := range len(text) {
		d := uint64(text[i] - '0')
		if d > 9 {
			if d = uint64(text[i]-'a') + 10; text[i] < 'a' {
				d = base
			}
		}
		if d >= base || n > (most-d)/base {
			f.fail(text)
			return 0
		}
		n = n*base + d
	}
	return n
}

// time reads a time as Append writes it.
func (f *fields) time(next string) time.Time {
	text := f.text(next)
	if len(text) != len(timeLayout) {
		f.fail(text)
		return time.Time{}
	}
	var n [7]int
	part := 0
	for i := range len(timeLayout) {
		switch c, want := text[i], timeLayout[i]; {
		case c >= '0' && c <= '9' && want >= '0' && want <= '9':
			n[part] = n[part]*10 + int(c-'0')
		case c == want && (want < '0' || want > '9'):
			part++
		default:
			f.fail(text)
			return time.Time{}
		}
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*1e6, time.UTC)
	y, m, d := t.Date()
	if y != n[0] || int(m) != n[1] || d != n[2] || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		f.fail(text)
	}
	return t
}
