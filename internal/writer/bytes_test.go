package writer

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Only a turn's own bytes, zeros, or nothing may be where it belongs.
func TestFits(t *testing.T) {
	m := newMemFS()
	f, _ := attached(t, m)
	size := int64(len(m.content(memFile)))
	turn := []byte("#turn 1 …\nrecord\n")
	for there, fits := range map[string]bool{
		"": true, string(turn): true, string(turn[:5]): true, "\x00\x00\x00": true, "#t\x00\x00n 1": true, string(turn) + "next": true,
		"oops\n": false, "#turn 2": false, string(turn[:len(turn)-1]) + "x": false,
	} {
		m.live[memFile].live = append(m.live[memFile].live[:size:size], there...)
		err := f.Fits(turn, size)
		if fits && err != nil {
			t.Errorf("%q: %v", there, err)
		}
		if !fits {
			wantRefused(t, err, false, "something else writes")
		}
	}
	m.fail("read "+filepath.Base(memFile), 1, syscall.EIO, 0)
	if err := f.Fits(turn, size); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

// pieces notes the writes of a handle.
type pieces struct {
	Handle
	wrote []string
	at    []int64
	most  int // of one write; 0: all
}

func (p *pieces) WriteAt(b []byte, at int64) (int, error) {
	if p.most > 0 {
		b = b[:min(len(b), p.most)]
	}
	p.wrote, p.at = append(p.wrote, string(b)), append(p.at, at)
	return p.Handle.WriteAt(b, at)
}

func TestWriteAt_inPieces(t *testing.T) {
	for name, c := range map[string]struct {
		mode  Mode
		chunk int
		want  string
	}{
		"plain: in one":          {Plain, 4, "0123456789"},
		"direct: ascending":      {Direct, 4, "0123|4567|89"},
		"direct: as many as fit": {Direct, 10, "0123456789"},
		"direct: no bound":       {Direct, 0, "0123456789"},
		"sync: in one":           {Sync, 4, "0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemFS()
			f, _ := attached(t, m)
			f.Mode, f.Chunk = c.mode, c.chunk
			p := &pieces{Handle: f.data}
			f.data = p
			size := int64(len(m.content(memFile)))
			if err := f.WriteAt([]byte("0123456789"), size); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(p.wrote, "|"); got != c.want {
				t.Errorf("written as %s, want %s", got, c.want)
			}
			for i, at := range p.at[1:] {
				if at != p.at[i]+int64(len(p.wrote[i])) {
					t.Errorf("written at %d", p.at)
				}
			}
			if got := m.content(memFile)[size:]; got != "0123456789" {
				t.Errorf("the file has %q", got)
			}
		})
	}
}

func TestWriteAt_shortIsNoSuccess(t *testing.T) {
	m := newMemFS()
	f, _ := attached(t, m)
	f.data = &pieces{Handle: f.data, most: 3}
	if err := f.WriteAt([]byte("0123"), 9); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
}

// A sync that fails is told; that of a descriptor that was closed tells nothing, and does
// not say yes either.
func TestSyncer(t *testing.T) {
	m := newMemFS()
	f, head := attached(t, m)
	if err := f.WriteAt([]byte("more"), int64(len(m.content(memFile)))); err != nil {
		t.Fatal(err)
	}
	sync := f.Syncer()
	m.fail("datasync "+filepath.Base(memFile), 1, syscall.EIO, 0)
	if err := sync(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	f.Detach()
	if err := sync(); err == nil {
		t.Error("a closed descriptor's sync is good")
	}
	if _, err := f.Attach(head, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Syncer()(); err != nil || !bytes.Equal(m.live[memFile].safe, m.live[memFile].live) {
		t.Error("not on disk:", err)
	}
	for _, mode := range []Mode{Direct, Sync} { // each write was
		f.Mode = mode
		m.fail("datasync "+filepath.Base(memFile), 1, syscall.EIO, 0)
		if err := f.Syncer()(); err != nil {
			t.Error(mode, err)
		}
	}
}

func TestLine(t *testing.T) {
	m := newMemFS()
	f, _ := attached(t, m)
	long := strings.Repeat("x", frame.MaxLine)
	m.live[memFile].live = []byte("one\ntwo\n" + long + "\nhalf")
	for at, want := range map[int64]string{0: "one", 4: "two", 5: "wo", 8: "", 8 + int64(len(long)) + 1: "", 1 << 30: ""} {
		if got, err := f.Line(at); err != nil || string(got) != want {
			t.Errorf("at %d: %q, %v; want %q", at, got, err, want)
		}
	}
}
