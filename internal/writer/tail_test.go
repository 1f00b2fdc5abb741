package writer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// goesOn has the next holder take a turn: the tail must be put aside byte for
// byte, and the file be the committed part and the new frame.
func goesOn(t testing.TB, v *volume, what string, token frame.Token) {
	t.Helper()
	file := v.bytes(t, "")
	committed, tail := file[:v.head.Offset], file[v.head.Offset:]
	f := v.open(t, "agent-7")
	defer f.Close()
	out, err := f.Append(t.Context(), token, *v.head, records("after it"))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	want := append(bytes.Clone(committed), out.Header.Line()+"\nafter it\n"...)
	if got := v.bytes(t, ""); !bytes.Equal(got, want) {
		t.Fatalf("%s: the file is %q, want %q", what, got, want)
	}
	if (out.Orphan != "") != (len(tail) > 0) {
		t.Fatalf("%s: a tail of %d bytes, orphan %q", what, len(tail), out.Orphan)
	}
	if len(tail) > 0 && !bytes.Equal(v.orphans(t)[out.Orphan], tail) {
		t.Fatalf("%s: put aside as %q, was %q", what, v.orphans(t)[out.Orphan], tail)
	}
	if err := judge(want, out.Head); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestATailCutAtEveryLengthIsPutAside(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		whole := bytes.Clone(v.bytes(t, ""))
		tail := v.next(3, "of a dead holder", "its second")
		step, cuts := map[bool]int{true: 13, false: 1}[v.mem == nil], 0 // a real disk takes its time
		for n := step; n <= len(tail); n += step {
			v.put(t, "", append(bytes.Clone(whole), tail[:n]...))
			goesOn(t, v, fmt.Sprintf("cut at %d", n), frame.Token(10+n))
			cuts++
		}
		if got := len(v.orphans(t)); got != cuts {
			t.Errorf("%d orphans are kept of %d", got, cuts)
		}
	})
}

func TestATailThatAPowerLossMadeIsPutAside(t *testing.T) {
	v := memVolume().begun(t, 1)
	whole := bytes.Clone(v.bytes(t, ""))
	frameOf := v.next(3, strings.Repeat("long enough for several sectors ", 100))
	header := bytes.IndexByte(frameOf, '\n') + 1
	token := frame.Token(100)
	for name, tail := range map[string][]byte{
		"zeros":                   make([]byte, len(frameOf)),
		"a header and zeros":      append(bytes.Clone(frameOf[:header]), make([]byte, len(frameOf)-header)...),
		"half a header and zeros": append(bytes.Clone(frameOf[:header/2]), make([]byte, len(frameOf)-header/2)...),
		"zeros and the records":   append(make([]byte, header), frameOf[header:]...),
		"one zero":                {0},
	} {
		v.put(t, "", append(bytes.Clone(whole), tail...))
		goesOn(t, v, name, token)
		token++
		v.mem = v.mem.killed()
	}
}

func TestATornTailWhoseTextMimicsHeadersIsPutAside(t *testing.T) {
	v := memVolume().begun(t, 1)
	whole := bytes.Clone(v.bytes(t, ""))
	later, head := frameAfter(*v.head, 900, "#turn 1")
	evil, _ := frameAfter(head, 0xffffffff, "x")
	mimic := strings.Split(strings.TrimSpace(string(later)+string(evil)), "\n")
	tail := v.next(3, append(mimic, mimic...)...)
	for n := range len(tail) + 1 {
		v.put(t, "", append(bytes.Clone(whole), tail[:n]...))
		goesOn(t, v, fmt.Sprintf("cut at %d", n), frame.Token(10+n))
	}
}

func TestATailOfMoreThanOneTurnIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v, f := withTwoTurns(t, v)
		first, head := frameAfter(*v.head, 3, "one")
		second, _ := frameAfter(head, 3, "two")
		for name, tail := range map[string][]byte{
			"two frames":                   append(bytes.Clone(first), second...),
			"a frame and part of the next": append(bytes.Clone(first), second[:20]...),
			"a frame and one byte":         append(bytes.Clone(first), 'x'),
			"a frame of a later turn":      second,
			"a frame of an earlier turn":   bytes.Replace(first, []byte("#turn 3"), []byte("#turn 2"), 1),
			"more than a turn may have":    make([]byte, frame.MaxLine+frame.MaxBytes+1),
		} {
			v.put(t, "", append(v.bytes(t, "")[:v.head.Offset], tail...))
			mustRefuse(t, v, name, func() error { _, err := f.Append(t.Context(), 3, *v.head, records("x")); return err })
		}
	})
}

func TestATailOfAHigherTokenFencesUsOff(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v, f := withTwoTurns(t, v)
		v.add(t, v.next(4, "of a newer holder"))
		unchanged(t, v, "a higher token", func() {
			if _, err := f.Append(t.Context(), 3, *v.head, records("x")); !errors.Is(err, ErrFenced) {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestATailIsOnDiskElsewhereBeforeItIsCut(t *testing.T) {
	v := memVolume().begun(t, 1)
	v.add(t, v.next(3, "of a dead holder"))
	before := len(v.mem.steps(t, 0))
	goesOn(t, v, "a tail", 9)
	mustHappenInOrder(t, v.mem.steps(t, before), "write data.txt.fence", "mkdir data.txt.orphans", "write orphan", "sync orphan",
		"syncdir data.txt.orphans", "syncdir volume", "truncate data.txt", "sync data.txt", "write data.txt", "datasync data.txt")
}

// Every step of putting a tail aside fails once: nothing is cut, or the tail is
// on disk elsewhere.
func TestWhateverFailsWhileATailIsPutAsideItIsKept(t *testing.T) {
	probe := memVolume().begun(t, 2)
	probe.add(t, probe.next(5, "of a dead holder"))
	from := len(probe.mem.log)
	goesOn(t, probe, "a tail", 8)
	seen := probe.mem.log[from:]
	for i, op := range seen {
		if verb, _, _ := strings.Cut(op, " "); verb == "close" && !strings.Contains(op, "orphan") || verb == "read" && strings.HasSuffix(op, "data.txt") {
			continue // reading the tail: see TestATailThatCannotBeReadIsNotCut
		}
		nth := countUpTo(seen, i, op)
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			v := memVolume().begun(t, 2)
			v.add(t, v.next(5, "of a dead holder"))
			committed, tail := v.bytes(t, "")[:v.head.Offset], v.bytes(t, "")[v.head.Offset:]
			v.mem.fail(op, nth, cause, map[bool]int{true: 10}[op == "write orphan"])
			f, err := v.tryOpen("a")
			if err == nil {
				_, err = f.Append(t.Context(), 8, *v.head, records("mine"))
				f.Close()
			}
			if !errors.Is(err, cause) {
				t.Errorf("%s (%d): %v", op, nth, err)
			}
			if op == "sync data.txt" && !errors.Is(err, ErrSync) {
				t.Errorf("%s: %v", op, err)
			}
			file := v.bytes(t, "")
			kept := func(b []byte) bool { return bytes.Equal(b, tail) }
			if !bytes.HasPrefix(file, committed) || !bytes.HasPrefix(file[len(committed):], tail) &&
				!slices.ContainsFunc(slices.Collect(values(v.orphans(t))), kept) {
				t.Errorf("%s (%d): the tail is nowhere any more", op, nth)
			}
			goesOn(t, v, "after "+op, 9)
		}
	}
}

func values(m map[string][]byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for _, b := range m {
			if !yield(b) {
				return
			}
		}
	}
}

func TestOrphansThatCannotBeMadeKeepTheTail(t *testing.T) {
	v, f := withTwoTurns(t, realVolume(t))
	v.add(t, v.next(3, "of a dead holder"))
	if err := os.WriteFile(v.path+".orphans", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	unchanged(t, v, "a file in the orphans' place", func() {
		if _, err := f.Append(t.Context(), 3, *v.head, records("x")); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAnOrphansNameTellsTurnOffsetAndFinder(t *testing.T) {
	v := memVolume().begun(t, 1)
	v.add(t, []byte("#turn"))
	goesOn(t, v, "a tail", 0x2a)
	want := fmt.Sprintf("turn-2-offset-%d-found-by-0x2a", v.head.Offset)
	for name := range v.orphans(t) {
		if filepath.Base(name) != want {
			t.Errorf("named %s, want %s", filepath.Base(name), want)
		}
	}
}
