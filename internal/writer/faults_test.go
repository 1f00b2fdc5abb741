package writer

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pausing is a file system on which whoever cuts the data file is paused just before.
type pausing struct {
	FS
	reached chan struct{} // closed when it is paused
	goOn    chan struct{} // to be closed
	once    sync.Once
}

type pausingHandle struct {
	Handle
	fs *pausing
}

func (p *pausing) Open(name string, flag int) (Handle, error) {
	h, err := p.FS.Open(name, flag)
	if err != nil || filepath.Base(name) != "data.txt" {
		return h, err
	}
	return &pausingHandle{h, p}, nil
}

func (h *pausingHandle) Truncate(size int64) error {
	h.fs.once.Do(func() {
		close(h.fs.reached)
		<-h.fs.goOn
	})
	return h.Handle.Truncate(size)
}

// A holder is paused just before it cuts a dead holder's tail off. However long that
// takes and whatever becomes of its turn meanwhile, nothing committed is touched, and
// the tail is kept.
func TestAHolderPausedBeforeItCutsATailHarmsNothing(t *testing.T) {
	for name, evicted := range map[string]bool{"and has its turn still": false, "and was evicted meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, v *volume) {
				v.begun(t, 2)
				committed := v.bytes(t, "")
				tail := v.next(5, "of a dead holder")
				v.add(t, tail)
				fs := &pausing{FS: OS{}, reached: make(chan struct{}), goOn: make(chan struct{})}
				if v.mem != nil {
					fs.FS = v.mem
				}
				paused, err := Open(Options{Path: v.path, Agent: "paused", Wait: time.Minute, FS: fs})
				if err != nil {
					t.Fatal(err)
				}
				defer paused.Close()
				lost := errors.New("the turn was lost")
				turn, end := context.WithCancelCause(t.Context())
				defer end(nil)
				type result struct {
					out Appended
					err error
				}
				ended := make(chan result, 1)
				go func() {
					out, err := paused.Append(turn, 8, *v.head, records("paused"))
					ended <- result{out, err}
				}()
				<-fs.reached

				if !bytes.Equal(v.bytes(t, ""), append(bytes.Clone(committed), tail...)) {
					t.Error("the tail was cut already")
				}
				next := v.open(t, "next")
				next.wait = 0
				unchanged(t, v, "the next holder, while one is inside", func() {
					if _, err := next.Append(t.Context(), 9, *v.head, records("next")); !errors.Is(err, ErrBusy) {
						t.Errorf("the next holder: %v", err)
					}
				})
				if evicted {
					end(lost)
				}
				close(fs.goOn)
				got := <-ended
				switch {
				case evicted:
					if !errors.Is(got.err, lost) || !bytes.Equal(v.bytes(t, ""), committed) {
						t.Errorf("evicted: %v; the file is %q", got.err, v.bytes(t, "")[len(committed):])
					}
				case got.err != nil:
					t.Fatal(got.err)
				default:
					v.head = &got.out.Head
				}
				v.commit(t, next, 9, "next")
				v.check(t)
				if !bytes.HasPrefix(v.bytes(t, ""), committed) {
					t.Error("what was committed was touched")
				}
				kept := 0
				for _, orphan := range v.orphans(t) {
					if bytes.Equal(orphan, tail) {
						kept++
					}
				}
				if kept != 1 || len(v.orphans(t)) != 1 {
					t.Errorf("set aside: %q, want the tail once", v.orphans(t))
				}
			})
		})
	}
}

// What could not be copied whole is in the file still; half a copy would only be taken
// for all that there was.
func TestHalfACopyOfATailIsRemoved(t *testing.T) {
	for short := range 3 {
		v, f := withTwoTurns(t, memVolume())
		tail := v.next(3, "of a dead holder")
		v.add(t, tail)
		v.mem.fail("write orphan", 1, syscall.ENOSPC, 7*short)
		if _, err := f.Append(t.Context(), 4, *v.head, records("x")); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
		if left := v.orphans(t); len(left) > 0 {
			t.Errorf("after %d bytes: left behind: %q", 7*short, left)
		}
		v.commit(t, f, 5, "there is room again")
		v.check(t)
		for name, orphan := range v.orphans(t) {
			if !bytes.Equal(orphan, tail) {
				t.Errorf("%s holds %q", name, orphan)
			}
		}
	}
}
