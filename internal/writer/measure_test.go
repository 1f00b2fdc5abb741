package writer

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Where the file ends is measured by reads on a network volume, whatever its size was
// before: grown, the same, shorter, empty.
func TestEnd_direct(t *testing.T) {
	sizes := []int{0, 1, 2, 511, 512, step - 1, step, step + 1, 2 * step, 3*step + 7, 10 * step}
	m := newMemFS()
	f, _ := attached(t, m)
	f.Mode = Direct
	for _, from := range sizes {
		for _, to := range sizes {
			f.end = int64(from) // it was so long before
			m.live[memFile].live = []byte(strings.Repeat("x", to))
			if end, err := f.End(); err != nil || end != int64(to) || f.end != end {
				t.Errorf("from %d to %d: measured %d, %v", from, to, end, err)
			}
		}
	}
}

// Of a file that has grown by little, one read is enough.
func TestEnd_directReadsFromWhereItEnded(t *testing.T) {
	m := newMemFS()
	f, _ := attached(t, m)
	f.Mode = Direct
	m.live[memFile].live = []byte(strings.Repeat("x", 5*step))
	f.end = 5*step - 100
	m.log = nil
	if end, err := f.End(); err != nil || end != 5*step || len(m.log) != 1 {
		t.Errorf("measured %d by %q, %v", end, m.log, err)
	}
}

// The size that the kernel tells is not asked there, and is asked elsewhere.
func TestEnd_asksTheKernelOnlyWhereItKnows(t *testing.T) {
	for mode, want := range map[Mode]string{Plain: "stat", Sync: "stat", Direct: "read"} {
		m := newMemFS()
		f, _ := attached(t, m)
		f.Mode = mode
		m.log = nil
		end, err := f.End()
		if err != nil || end != int64(len(begun.Line())+1) {
			t.Errorf("%s: measured %d, %v", mode, end, err)
		}
		for _, op := range m.log {
			if op != want+" "+filepath.Base(memFile) {
				t.Errorf("%s: %s", mode, op)
			}
		}
	}
}

func TestEnd_aVolumeThatFails(t *testing.T) {
	for mode, op := range map[Mode]string{Plain: "stat", Direct: "read"} {
		m := newMemFS()
		f, _ := attached(t, m)
		f.Mode = mode
		m.fail(op+" "+filepath.Base(memFile), 1, syscall.EIO, 0)
		if _, err := f.End(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// halve finds every end, and tells of a volume that fails at any read.
func TestHalve(t *testing.T) {
	for most := int64(1); most < 40; most++ {
		for end := range most + 1 {
			if got, err := halve(ends(end), most); err != nil || got != end {
				t.Fatalf("at most %d: found %d, %v; want %d", most, got, err, end)
			}
		}
	}
	for fails := 1; fails < 4; fails++ {
		r := &failing{r: ends(7), left: fails}
		if _, err := halve(r, 100); !errors.Is(err, syscall.EIO) {
			t.Errorf("read %d fails: %v", fails, err)
		}
	}
}

// ends is a file of so many bytes.
type ends int64

func (e ends) ReadAt(b []byte, at int64) (int, error) {
	n := min(max(0, int64(e)-at), int64(len(b)))
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// failing fails at one of its reads.
type failing struct {
	r    io.ReaderAt
	left int
}

func (f *failing) ReadAt(b []byte, at int64) (int, error) {
	if f.left--; f.left == 0 {
		return 0, syscall.EIO
	}
	return f.r.ReadAt(b, at)
}
