package volume

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Each lie is told by one of two machines about an otherwise good volume.
func TestEveryLieAmongTwoIsFoundOut(t *testing.T) {
	for name, lie := range map[string]struct {
		tell func(c *client)
		mode string
		is   string
		says string
	}{
		"a write that is lost":  {func(c *client) { c.write = losing("plain", 10) }, "plain", Wrong, "1 of 40 ranges damaged (1 zeroed)"},
		"a large one":           {func(c *client) { c.write = losing("plain", brisk.turns/2+1) }, "plain", Wrong, "of 2634 ranges of large writes damaged"},
		"a length that is late": {func(c *client) { c.size = func(n int64) int64 { return n - 1 } }, "sync", Wrong, "20 of 40 lengths stale"},
		"the same, O_DIRECT":    {func(c *client) { c.size = func(n int64) int64 { return n - 1 } }, "direct", Right, "20 of 40 lengths stale"},
		"writes that fail":      {func(c *client) { c.write = failing("sync", syscall.EIO) }, "sync", Broken, "input/output error"},
		"no O_DIRECT":           {func(c *client) { c.write = failing("direct", syscall.EINVAL) }, "direct", Refused, "on host: O_DIRECT for any place and length: invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := &client{local: true}
			lie.tell(liar)
			all := machines(t, &client{local: true}, liar)
			check(t, 30*time.Second, all)
			for _, m := range all {
				if m.err != nil {
					t.Fatal(m.err)
				}
				if w := m.got.way(t, lie.mode); w.Result != lie.is || !strings.Contains(w.Text(), lie.says) {
					t.Errorf("%s: %s, want %s: %s", w.Result, w.Text(), lie.is, lie.says)
				}
				if len(m.got.Ways) != 3 || m.got.Setting == lie.mode && lie.is != Right || m.got.Verdict != Fit {
					t.Errorf("the others are as they were: %+v", m.got)
				}
			}
		})
	}
}

// losing says that it wrote its nth write to a file.
func losing(name string, nth int) func(string, file, []byte, int64) (int, error) {
	n := 0
	return func(of string, f file, b []byte, off int64) (int, error) {
		if of == name {
			if n++; n == nth {
				return len(b), nil
			}
		}
		return f.WriteAt(b, off)
	}
}

func failing(name string, with error) func(string, file, []byte, int64) (int, error) {
	return func(of string, f file, b []byte, off int64) (int, error) {
		if of == name {
			return 0, with
		}
		return f.WriteAt(b, off)
	}
}

// A large write whose end arrives before its middle is seen so.
func TestALargeWriteSeenInParts(t *testing.T) {
	looked := make(chan struct{}, 1)
	reader := &client{local: true, read: func(name string) {
		select {
		case looked <- struct{}{}:
		default:
		}
	}}
	writer := &client{local: true, write: func(name string, f file, b []byte, off int64) (int, error) {
		if name == "plain" && len(b) > 100*rangeLen {
			half := len(b) / 2
			if _, err := f.WriteAt(b[half:], off+int64(half)); err != nil {
				return 0, err
			}
			for range 3 { // the first may have begun before, the second ends after
				<-looked
			}
			return f.WriteAt(b[:half], off)
		}
		return f.WriteAt(b, off)
	}}
	all := machines(t, reader, writer)
	check(t, 30*time.Second, all)
	if w := all[0].got.way(t, "plain"); all[0].err != nil || w.Parts < brisk.larges/2 || w.Result != Right || !strings.Contains(w.Text(), "seen in parts by") {
		t.Errorf("%s %+v, %v", w.Text(), w, all[0].err)
	}
	if w := all[0].got.way(t, "sync"); w.Parts > 0 {
		t.Errorf("%s", w.Text())
	}
}

// A turn is written in pieces on a volume that says how large they may be.
func TestLargeWritesGoInPieces(t *testing.T) {
	var mu sync.Mutex
	longest := map[string]int{}
	see := func(name string, f file, b []byte, off int64) (int, error) {
		mu.Lock()
		longest[name] = max(longest[name], len(b))
		mu.Unlock()
		return f.WriteAt(b, off)
	}
	all := machines(t, &client{local: true, write: see}, &client{local: true, write: see})
	for _, m := range all {
		m.on = onNFS
	}
	check(t, 30*time.Second, all)
	if longest["direct"] != 65536 || longest["plain"] != large*rangeLen {
		t.Errorf("the longest writes are %v", longest)
	}
}

// What is read past the cache is read as O_DIRECT wants it.
func TestTheWholeFileIsReadInPages(t *testing.T) {
	f := &readSizes{}
	if _, err := countRanges(f, request{Count: usual.turns}); err != nil {
		t.Fatal(err)
	}
	if f.length%pageSize != 0 || f.offset != 0 || f.length < usual.turns*rangeLen+1 {
		t.Errorf("it reads %d bytes at %d", f.length, f.offset)
	}
}

type readSizes struct {
	file
	length int
	offset int64
}

func (f *readSizes) ReadAt(b []byte, off int64) (int, error) {
	f.length, f.offset = len(b), off
	return len(b), nil
}
