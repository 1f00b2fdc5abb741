package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// errShrank is an error and no finding: the file was cut while it was read, which
// only the part after head may be.
var errShrank = errors.New("the file became shorter while it was read; verify it again")

// piece is a frame, or an incarnation line, as it lies in the file: what its line
// says and what its bytes are. It holds facts only, no judgement.
type piece struct {
	frame.Header
	inc           *frame.Incarnation // set when it is an incarnation line
	at, body, end int64              // the line, the records, and the end that the line promises

	payload  [sha256.Size]byte
	newlines int
	ended    bool // the last byte is a newline

	// follows: the seal fits when the frame before it has the sum `after`. Found
	// out ahead, off the judge's path.
	after   frame.Sum
	follows bool
}

// whole reports whether the records are as many lines as the header says.
func (p *piece) whole() bool { return p.ended && p.newlines == p.Lines }

// sealedBy reports whether the frame's sum fits when it comes after one with sum prev.
func (p *piece) sealedBy(prev frame.Sum) bool {
	return p.follows && p.after == prev || p.Seal(prev, p.payload) == p.Sum
}

// parsePiece reads the line at the beginning of view, which lies at offset at.
func parsePiece(view []byte, at int64) (piece, bool) {
	if len(view) < 2 || view[0] != '#' || view[1] != 't' {
		return piece{}, false
	}
	n := bytes.IndexByte(view[:min(len(view), frame.MaxLine)], '\n')
	if n < 0 {
		return piece{}, false
	}
	body := at + int64(n) + 1
	if h, err := frame.ParseHeader(view[:n]); err == nil {
		return piece{Header: h, at: at, body: body, end: body + int64(h.Bytes)}, true
	}
	if inc, err := frame.ParseIncarnation(view[:n]); err == nil {
		return piece{inc: &inc, at: at, body: body, end: body}, true
	}
	return piece{}, false
}

// measure fills in what the records, given whole, are.
func (p *piece) measure(records []byte) {
	p.payload = sha256.Sum256(records)
	p.newlines = bytes.Count(records, newline)
	p.ended = len(records) > 0 && records[len(records)-1] == '\n'
}

var newline = []byte{'\n'}

// tape reads any place of the file through one small buffer.
type tape struct {
	r     io.ReaderAt
	size  int64
	room  int // of the buffer, which is made when it is needed
	buf   []byte
	start int64
	have  int
}

const (
	longView  = 64 << 10
	shortView = 1 << 10 // for looking at one line
)

func newTape(r io.ReaderAt, size int64, room int) *tape {
	return &tape{r: r, size: size, room: room}
}

// view gives at least n bytes from off on, fewer only at the end of the file, and
// more when they are at hand. They are good until the next call.
func (t *tape) view(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), t.size-off))
	if n <= 0 {
		return nil, nil
	}
	if t.buf == nil {
		t.buf = make([]byte, min(int64(t.room), t.size))
	}
	if off < t.start || off+int64(n) > t.start+int64(t.have) {
		want := int(min(int64(len(t.buf)), t.size-off))
		got, err := t.r.ReadAt(t.buf[:want], off)
		if err != nil && err != io.EOF {
			return nil, err
		}
		t.start, t.have = off, got
	}
	return t.buf[off-t.start : t.have], nil
}

// piece reads the line at off, without measuring its records.
func (t *tape) piece(off int64) (piece, bool, error) {
	view, err := t.view(off, frame.MaxLine)
	if err != nil {
		return piece{}, false, err
	}
	p, ok := parsePiece(view, off)
	return p, ok, nil
}

// measure fills in what p's records are. They must lie within the file.
func (t *tape) measure(p *piece) error {
	h := sha256.New()
	p.newlines, p.ended = 0, false
	err := t.each(p.body, p.end, func(chunk []byte) {
		h.Write(chunk)
		p.newlines += bytes.Count(chunk, newline)
		p.ended = chunk[len(chunk)-1] == '\n'
	})
	h.Sum(p.payload[:0])
	return err
}

// hash is the SHA-256 of the bytes from a place to another.
func (t *tape) hash(from, to int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	err = t.each(from, to, func(chunk []byte) { h.Write(chunk) })
	h.Sum(sum[:0])
	return sum, err
}

// each calls do with the bytes from a place to another, in order.
func (t *tape) each(from, to int64, do func(chunk []byte)) error {
	for from < to {
		chunk, err := t.view(from, int(min(to-from, int64(t.room))))
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return errShrank
		}
		chunk = chunk[:min(int64(len(chunk)), to-from)]
		do(chunk)
		from += int64(len(chunk))
	}
	return nil
}

// lines walks from line to line.
type lines struct {
	tape *tape
	off  int64 // where the walk stands: at the beginning of a line, or at to
	to   int64
	seen int64     // how many newlines are behind
	hash hash.Hash // of all that is behind, when set
}

// next goes on to the beginning of the next line, or to the end.
func (w *lines) next() error {
	for w.off < w.to {
		chunk, err := w.tape.view(w.off, 1)
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return errShrank
		}
		chunk = chunk[:min(int64(len(chunk)), w.to-w.off)]
		n := bytes.IndexByte(chunk, '\n') + 1
		if n > 0 {
			chunk = chunk[:n]
			w.seen++
		}
		if w.hash != nil {
			w.hash.Write(chunk)
		}
		w.off += int64(len(chunk))
		if n > 0 {
			return nil
		}
	}
	return nil
}
