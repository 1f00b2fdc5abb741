package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// synthetic is a file that is computed as it is read: one frame of size bytes
// after another, without room for it anywhere.
type synthetic struct {
	first   []byte
	headers []string
	payload []byte
	size    int64
}

func newSynthetic(frames int) *synthetic {
	s := &synthetic{payload: bytes.Repeat(append(bytes.Repeat([]byte("x"), 63), '\n'), frame.MaxBytes/64)}
	inc := frame.Incarnation{ID: testIDs[0], From: 1}
	s.first = []byte(inc.Line() + "\n")
	prev, sum := inc.Seal(nil), sha256.Sum256(s.payload)
	s.size = int64(len(s.first))
	for n := range frames {
		h := frame.Header{Turn: uint64(n + 1), Agent: "agent-1", Lines: len(s.payload) / 64, Bytes: len(s.payload),
			Token: frame.Token(n + 1), At: time.Unix(1.8e9, 0)}
		h.Sum = h.Seal(prev, sum)
		prev = h.Sum
		s.headers = append(s.headers, h.Line()+"\n")
		s.size += int64(len(h.Line()) + 1 + h.Bytes)
	}
	return s
}

func (s *synthetic) ReadAt(p []byte, off int64) (n int, err error) {
	part := func(data []byte) {
		if off < int64(len(data)) && n < len(p) {
			k := copy(p[n:], data[off:])
			n += k
			off += int64(k)
		}
		off -= int64(len(data))
	}
	part(s.first)
	for _, h := range s.headers {
		part([]byte(h))
		part(s.payload)
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

func TestMemoryStaysConstant(t *testing.T) {
	for name, data := range map[string]struct {
		r    io.ReaderAt
		size int64
		want []Kind
	}{
		"16 MiB turns":         {r: newSynthetic(3)},
		"16 MiB turns, cut":    {r: newSynthetic(3), size: 40 << 20, want: []Kind{Torn}},
		"one line of 64 MiB":   {r: endless('x'), size: 64 << 20, want: []Kind{Torn}},
		"nothing but newlines": {r: endless('\n'), size: 16 << 20, want: []Kind{Missing}},
	} {
		t.Run(name, func(t *testing.T) {
			if s, ok := data.r.(*synthetic); ok && data.size == 0 {
				data.size = s.size
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := Reader(context.Background(), data.r, data.size, Options{})
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			wantKinds(t, r, data.want...)
			if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
				t.Errorf("%d bytes allocated for %d bytes of file", got, data.size)
			}
		})
	}
}

// endless is a file of one byte over and over.
type endless byte

func (e endless) ReadAt(p []byte, _ int64) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// Files of nothing but headers that lie about their frames must not be read again
// and again, whether the frames they promise end at a header or not.
func TestLyingHeadersAreReadInLinearTime(t *testing.T) {
	for name, promise := range map[string]func(line int) int{
		"anywhere":        func(int) int { return 1 << 20 },
		"at a header":     func(line int) int { return 5000 * line },
		"at a header, 16": func(line int) int { return frame.MaxBytes / line * line },
	} {
		t.Run(name, func(t *testing.T) {
			h := frame.Header{Turn: 1, Agent: "a", Lines: 1, Bytes: 10 << 20, Token: 1, At: time.Unix(1.8e9, 0)}
			length := len(h.Line()) + 1
			if h.Bytes = promise(length); len(h.Line())+1 != length {
				h.Agent += strings.Repeat("a", length-len(h.Line())-1)
			}
			data := bytes.Repeat([]byte(h.Line()+"\n"), 32<<20/length)
			counting := &countingReader{r: bytes.NewReader(data)}
			r, err := Reader(context.Background(), counting, int64(len(data)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if n := counting.n.Load(); r.OK() || n > 40*int64(len(data)) {
				t.Errorf("%d faults, %d bytes read of %d", r.Faults(), n, len(data))
			}
		})
	}
}

type countingReader struct {
	r io.ReaderAt
	n atomic.Int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

func TestFindingsAreBoundedAndCounted(t *testing.T) {
	h := newHistory("")
	h.turnsOf(60)
	data := slices.Clone(h.data)
	for _, w := range h.turns {
		data[w.body] ^= 1
	}
	r, err := Reader(context.Background(), bytes.NewReader(data), int64(len(data)), Options{MaxFindings: 7})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Findings) != 7 || r.Faults() != 60 {
		t.Errorf("%d findings of %d faults, want 7 of 60", len(r.Findings), r.Faults())
	}
	if !strings.Contains(told(r), "60 faults") {
		t.Errorf("%s", told(r))
	}
}

// Faults far apart are all found, and reading ahead begins again between them.
func TestFaultsFarApart(t *testing.T) {
	h := newHistory("")
	for range 300 {
		h.turn("agent-1", strings.Repeat("long ", 2000), "and more")
	}
	data := slices.Clone(h.data)
	for _, turn := range []int{60, 150, 151, 240} {
		data[h.turns[turn].body+5] ^= 1
	}
	data = spliced(data, h.turns[200].start, h.turns[200].end)
	wantKinds(t, verifying(t, data, nil), Corrupt, Corrupt, Corrupt, Missing, Corrupt)
	wantFine(t, verifying(t, h.data, &h.head))
}

// TestWriteBigFile writes a valid file for scripts/bench-verify.sh, and does
// nothing when it is not asked to: BIGFILE is its path, BIGFILE_SIZE its size in
// bytes, BIGFILE_RECORDS the records in a turn.
func TestWriteBigFile(t *testing.T) {
	path := os.Getenv("BIGFILE")
	if path == "" {
		t.Skip("BIGFILE is not set")
	}
	size, err := strconv.ParseInt(os.Getenv("BIGFILE_SIZE"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	perTurn, err := strconv.Atoi(os.Getenv("BIGFILE_RECORDS"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := newHistory("")
	for size > 0 {
		for len(h.data) < 1<<20 {
			n := h.head.Turn + 1
			agent := fmt.Sprintf("agent-%d", n%3+1)
			var records []string
			for i := range perTurn {
				records = append(records, fmt.Sprintf("%s  turn %d  line %d of %d  2026-11-20T04:28:00.123Z", agent, n, i+1, perTurn))
			}
			h.turn(agent, records...)
		}
		if _, err := f.Write(h.data); err != nil {
			t.Fatal(err)
		}
		size -= int64(len(h.data))
		h.data, h.turns = h.data[:0], h.turns[:0]
	}
}
