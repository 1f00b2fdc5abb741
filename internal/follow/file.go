package follow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// readAhead is how much of the file is read at a time.
const readAhead = 256 << 10

// read gives at least n bytes of the file from pos on, fewer where it ends, none behind
// head. They are good until the next call.
func (s *Stream) read(n int) ([]byte, error) {
	n = int(min(int64(n), s.seen.Head.Offset-s.pos))
	if from := s.pos - s.at; from >= 0 && from+int64(n) <= int64(len(s.buf)) {
		return s.buf[from:min(int64(len(s.buf)), s.seen.Head.Offset-s.at)], nil
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	end, err := s.file.End()
	if err != nil {
		return nil, err
	}
	end = min(end, s.seen.Head.Offset)
	want := int(max(0, min(int64(max(n, readAhead)), end-s.pos)))
	if cap(s.buf) < want {
		s.buf = make([]byte, max(want, readAhead))
	}
	got, err := s.file.ReadAt(s.buf[:want], s.pos)
	s.buf, s.at = s.buf[:got], s.pos
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return s.buf, err
}

func (s *Stream) open() (err error) {
	if s.file == nil {
		if s.file, err = s.Open(); errors.Is(err, os.ErrNotExist) { // it is still to be made, or is moved just now
			err = fmt.Errorf("%w: %w", errNotYet, err)
		}
	}
	return err
}

// close forgets the file and what was read of it.
func (s *Stream) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
	s.file, s.buf = nil, s.buf[:0]
}

// before gives out some of what lies before the present incarnation's line. done says that
// it did; otherwise the next piece is a turn, or an incarnation's line.
func (s *Stream) before(emit func(Piece) error) (done bool, err error) {
	line := s.seen.Head.Line
	if s.Turnwise {
		if s.pos > 0 {
			return false, nil
		}
		return s.skipPreamble(line)
	}
	chunk, err := s.read(readAhead)
	if err != nil {
		return false, err
	}
	if chunk = chunk[:min(int64(len(chunk)), line-s.pos)]; len(chunk) == 0 {
		return false, errNotYet
	}
	if err := emit(Piece{Bytes: chunk}); err != nil {
		return false, err
	}
	s.pos += int64(len(chunk))
	return true, nil
}

// skipPreamble goes to the line that says how many bytes stand before it: the present
// incarnation's, or else the first.
func (s *Stream) skipPreamble(line int64) (done bool, err error) {
	for _, at := range []int64{0, line} {
		inc, err := s.incarnationAt(at)
		if err != nil {
			return false, err
		}
		if inc != nil && inc.Preamble == at && (at > 0 || !s.adopted(line)) {
			s.pos = at
			return false, nil
		}
	}
	defer func(at int64) {
		if err != nil {
			s.pos = at
		}
	}(s.pos)
	for s.pos < line {
		view, err := s.read(readAhead)
		if err != nil || len(view) == 0 {
			return false, errors.Join(err, errNotYet)
		}
		i := bytes.Index(view, incarnationBegin)
		if i < 0 {
			s.pos += int64(max(1, len(view)-len(incarnationBegin)+1))
			continue
		}
		s.pos += int64(i)
		if inc, err := s.incarnationAt(s.pos); err != nil || inc != nil && inc.Preamble == s.pos {
			return false, err
		}
		s.pos++
	}
	return false, errNotYet // no chain begins in what should hold one
}

// adopted reports whether the line there takes all before it for a preamble.
func (s *Stream) adopted(line int64) bool {
	inc, err := s.incarnationAt(line)
	return err == nil && inc != nil && inc.Preamble == line
}

var incarnationBegin = []byte("#turnstile 1 incarnation=")

// incarnationAt reads the incarnation line at a place; nil when there is none.
func (s *Stream) incarnationAt(at int64) (*frame.Incarnation, error) {
	defer func(pos int64) { s.pos = pos }(s.pos)
	s.pos = at
	view, err := s.read(frame.MaxLine)
	if err != nil {
		return nil, err
	}
	text, _, whole := bytes.Cut(view, newline)
	inc, bad := frame.ParseIncarnation(text)
	if bad != nil || !whole {
		return nil, nil
	}
	return &inc, nil
}
