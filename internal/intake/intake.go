// Package intake makes records of what people pipe in: of every line one, whatever stands in it.
//
// What it promises: a line that can be a record is that record, byte for byte. What cannot is
// made visible and can be had back (Escape), left out and counted (Skip), or ends the input
// (Stop). Whatever was read and not handed out can be had by Rest. It needs the memory of a few
// records, however long a line is.
package intake

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync/atomic"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Policy is what becomes of a line that cannot be a record as it is.
type Policy string

// The policies.
const (
	Escape Policy = "escape" // make it one that can be had back: see Decode
	Skip   Policy = "skip"   // leave it out
	Stop   Policy = "stop"   // go no further
)

// Policies lists them for people.
const Policies = "escape, skip or stop"

// IsPolicy tells whether there is such a policy.
func IsPolicy(p Policy) bool { return p == Escape || p == Skip || p == Stop }

// ErrUnfinished says that no more is read, though the input has not ended: nor may its last line.
var ErrUnfinished = errors.New("told to read no more")

// RecordError says which line was refused and why. Nothing of it was handed out.
type RecordError struct {
	Line int // in the input, from 1
	Err  error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("line %d of the input is refused: %v", e.Line, e.Err)
}

func (e *RecordError) Unwrap() error { return e.Err }

// Options for a Reader. All may be left out.
type Options struct {
	Bad   Policy         // "" means Stop
	Start *regexp.Regexp // what a line that begins something matches; nil: each line does
	// First is called once, with the first line that was escaped, split or skipped.
	First func(*RecordError)
}

// Line is a line, or a piece of one that is too long for a record.
type Line struct {
	Records [][]byte // at least one
	Begins  bool     // it does not belong to what comes before
	Ends    bool     // it was read to its end
}

// Counts are how many lines there were that could not be records as they were.
type Counts struct{ Escaped, Split, Skipped int }

// Reader reads lines. Next is for one goroutine; Counts may be called meanwhile.
type Reader struct {
	Options
	in    *bufio.Reader
	line  []byte // of the one that is being read: what is not handed out yet
	piece bool   // some of it is handed out
	bad   bool   // it was counted
	lines int    // begun

	escaped, split, skipped atomic.Int64
	err                     error // what Next gives from now on
}

// New reads from in.
func New(in io.Reader, opts Options) *Reader {
	if opts.Bad == "" {
		opts.Bad = Stop
	}
	return &Reader{Options: opts, in: bufio.NewReaderSize(in, frame.MaxRecord+2)}
}

// Counts tells what became of lines that could not be records.
func (r *Reader) Counts() Counts {
	return Counts{int(r.escaped.Load()), int(r.split.Load()), int(r.skipped.Load())}
}

// Next gives the next line. The errors: io.EOF, ErrUnfinished, a *RecordError, the input's.
// It gives the same error from then on.
func (r *Reader) Next() (Line, error) {
	for r.err == nil {
		line, ok, err := r.next()
		r.err = err
		if ok {
			return line, nil
		}
	}
	return Line{}, r.err
}

// next reads what the buffer holds, at most a line; not ok when nothing is to be handed out.
func (r *Reader) next() (line Line, ok bool, err error) {
	text, err := r.in.ReadSlice('\n')
	if len(r.line) == 0 && len(text) > 0 && !r.piece {
		r.lines++
	}
	ended := err == nil
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		err = nil
	case errors.Is(err, io.EOF):
		ended = len(r.line) > 0 || len(text) > 0 || r.piece
	case errors.Is(err, ErrUnfinished) && r.piece && r.Bad == Escape:
		ended = true // its beginning is handed out: so is what there is of it
	case errors.Is(err, ErrUnfinished): // Rest gives it
		r.line = append(r.line, text...)
		return line, false, err
	case err != nil:
		r.line = append(r.line, text...)
		err = fmt.Errorf("read line %d of the input: %w", r.lines, err)
	}
	if err != nil && !ended {
		return line, false, err
	}
	text, newline := bytes.CutSuffix(text, []byte("\n"))
	r.line = append(r.line, text...)
	line, ok, refused := r.take(ended)
	if refused != nil {
		if newline {
			r.line = append(r.line, '\n')
		}
		return line, ok, refused
	}
	return line, ok, err
}

// take hands out what is there of a line.
func (r *Reader) take(ended bool) (line Line, ok bool, err error) {
	begins := !r.piece && (r.Start == nil || r.Start.Match(r.line))
	switch {
	case r.Bad == Escape:
		var records [][]byte
		records, rest := encode(r.line, ended)
		r.tell(records)
		r.line = append(r.line[:0], rest...)
		line = Line{records, begins, ended}
	case r.fault(ended) != nil:
		if r.Bad == Stop {
			return line, false, &RecordError{r.lines, r.fault(ended)}
		}
		r.note(&r.skipped, r.fault(ended))
		r.piece, r.line = true, r.line[:0] // whatever follows of it is left out, too
	case ended:
		line = Line{[][]byte{bytes.Clone(r.line)}, begins, true}
		r.line = r.line[:0]
	}
	if len(line.Records) > 0 {
		r.piece = true
	}
	if ended {
		r.piece, r.bad = false, false
	}
	return line, len(line.Records) > 0, nil
}

// fault tells why a line cannot be a record as it is. When its beginning could not, its rest
// cannot.
func (r *Reader) fault(ended bool) error {
	switch {
	case r.piece || len(r.line) > frame.MaxRecord:
		return errLong
	case !ended:
		return nil
	}
	return frame.CheckRecord(r.line)
}

var errLong = fmt.Errorf("a record of more than %d bytes", frame.MaxRecord)

// tell counts a line that was not a record as it is.
func (r *Reader) tell(records [][]byte) {
	for _, record := range records {
		switch mark, _ := cut(record); mark {
		case Escaped, EscapedContinues:
			text, _ := Decode(record)
			why := frame.CheckRecord(text)
			if why == nil {
				why = errors.New("it begins as an escaped line does")
			}
			r.note(&r.escaped, why)
		case Continues:
			r.note(&r.split, errLong)
		}
	}
}

// note counts a line once.
func (r *Reader) note(count *atomic.Int64, why error) {
	if r.bad {
		return
	}
	r.bad = true
	first := r.Counts() == Counts{}
	count.Add(1)
	if first && r.First != nil {
		r.First(&RecordError{r.lines, why})
	}
}

// Decode gives back what a record was made from, and whether its line ends there.
func (r *Reader) Decode(record []byte) (text []byte, ends bool) {
	if r.Bad != Escape {
		return record, true
	}
	return Decode(record)
}

// Count is how many lines a text has, a last one without an end among them.
func Count(text []byte) int {
	n := bytes.Count(text, []byte("\n"))
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// Rest is what was read and not handed out, as it was read. It is for after Next.
func (r *Reader) Rest() []byte {
	buffered, _ := r.in.Peek(r.in.Buffered())
	rest := append(bytes.Clone(r.line), buffered...)
	if r.piece && r.Bad == Skip { // its beginning is left out: so is what there is of it
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	return rest
}
