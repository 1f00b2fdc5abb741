package zkdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// maxFrame is ZooKeeper's default jute.maxbuffer: the longest frame, in bytes
// after the length, that a client may send.
const maxFrame = 0xfffff

// readStep is how much is read of a frame before more memory is taken for it:
// a client pays in bytes sent for what the server allocates.
const readStep = 16 << 10

var (
	errFrameLength = errors.New("frame length out of range")
	errShortRecord = errors.New("record is shorter than its fields")
	errNullString  = errors.New("null where a string is needed")
)

// readFrame returns the n bytes of a frame whose length was already read. The
// slice is the caller's. The memory taken never exceeds twice the bytes that
// have arrived plus readStep.
func readFrame(r io.Reader, n int32) ([]byte, error) {
	if n < 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: %d", errFrameLength, n)
	}
	size := int(n)
	buf := make([]byte, min(size, readStep))
	for have := 0; ; {
		got, err := io.ReadFull(r, buf[have:])
		have += got
		if err != nil {
			return nil, err
		}
		if have == size {
			return buf, nil
		}
		grown := make([]byte, min(size, 2*have))
		copy(grown, buf)
		buf = grown
	}
}

// decoder reads jute records. The first error sticks and every later read
// returns zero values, so a record is decoded in one go and checked once.
// Nothing is allocated by a length that the input does not hold.
type decoder struct {
	buf []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.buf) {
		d.err = errShortRecord
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

func (d *decoder) bool() bool {
	b := d.take(1)
	return b != nil && b[0] != 0
}

func (d *decoder) int32() int32 {
	if b := d.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (d *decoder) int64() int64 {
	if b := d.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// buffer returns nil for a null buffer, and otherwise a slice that aliases the
// frame: a frame is never reused, so what is kept of it stays as it is.
func (d *decoder) buffer() []byte {
	n := d.int32()
	if n == -1 {
		return nil
	}
	return d.take(int(n))
}

// nullString reads a string that may be null, which it reports as "".
// Bytes that are not UTF-8 become U+FFFD, as in Java.
func (d *decoder) nullString() (s string, null bool) {
	n := d.int32()
	if n == -1 {
		return "", true
	}
	return strings.ToValidUTF8(string(d.take(int(n))), string(utf8.RuneError)), false
}

// string reads a string that must not be null. The real server fails such a
// request with a marshalling error, as it does a short one.
func (d *decoder) string() string {
	s, null := d.nullString()
	if null && d.err == nil {
		d.err = errNullString
	}
	return s
}

// count reads a vector's length. A negative one (but not -1, which is null)
// is an empty vector, as on the real server; one that the rest of the frame
// cannot hold, at least min bytes an element, is an error.
func (d *decoder) count(min int) (n int, null bool) {
	v := d.int32()
	if v == -1 {
		return 0, true
	}
	if v > 0 && int64(v)*int64(min) > int64(len(d.buf)) {
		d.err = errShortRecord
	}
	if v < 0 || d.err != nil {
		return 0, false
	}
	return int(v), false
}

// strings reads a vector of strings; a null vector is an error here too.
func (d *decoder) strings() []string {
	n, null := d.count(4)
	if null {
		d.err = errNullString
	}
	var list []string
	for i := 0; i < n && d.err == nil; i++ {
		list = append(list, d.string())
	}
	return list
}

func (d *decoder) acls() []ACL {
	n, _ := d.count(12)
	var list []ACL
	for i := 0; i < n && d.err == nil; i++ {
		var a ACL
		a.Perms = d.int32()
		a.Scheme, _ = d.nullString()
		a.ID, _ = d.nullString()
		list = append(list, a)
	}
	return list
}

// encoder appends jute records to a buffer.
type encoder struct{ buf []byte }

func (e *encoder) bool(v bool) {
	b := byte(0)
	if v {
		b = 1
	}
	e.buf = append(e.buf, b)
}

func (e *encoder) int32(v int32) { e.buf = binary.BigEndian.AppendUint32(e.buf, uint32(v)) }
func (e *encoder) int64(v int64) { e.buf = binary.BigEndian.AppendUint64(e.buf, uint64(v)) }

func (e *encoder) buffer(b []byte) {
	if b == nil {
		e.int32(-1)
		return
	}
	e.int32(int32(len(b)))
	e.buf = append(e.buf, b...)
}

func (e *encoder) string(s string) {
	e.int32(int32(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) acls(list []ACL) {
	e.int32(int32(len(list)))
	for _, a := range list {
		e.int32(a.Perms)
		e.string(a.Scheme)
		e.string(a.ID)
	}
}

// frame appends a frame and fills in its length when body has written it.
func (e *encoder) frame(body func()) {
	start := len(e.buf)
	e.int32(0)
	body()
	binary.BigEndian.PutUint32(e.buf[start:], uint32(len(e.buf)-start-4))
}

// replyHeader begins every reply and every event.
func (e *encoder) replyHeader(xid int32, zxid int64, code errCode) {
	e.int32(xid)
	e.int64(zxid)
	e.int32(int32(code))
}
