package writer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

func TestTurnsOfSeveralAgentsFollowOneAnother(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 0)
		agents := []*File{v.open(t, "a"), v.open(t, "b"), v.open(t, "c")}
		for i := range 9 {
			before := v.head.Offset
			out := v.commit(t, agents[i%3], frame.Token(2+i), "one", "", "three\t3")
			v.check(t)
			there, err := agents[(i+1)%3].HeaderAt(before)
			if err != nil || there != out.Header {
				t.Errorf("wrote %+v, there is %+v (%v)", out.Header, there, err)
			}
			if out.Orphan != "" || out.Header.Agent != string("abc"[i%3]) || out.Header.Lines != 3 {
				t.Errorf("%+v", out)
			}
		}
		if got := bytes.Count(v.bytes(t, ""), []byte("one\n\nthree\t3\n")); got != 9 {
			t.Errorf("%d turns are in the file byte for byte", got)
		}
	})
}

func TestALowerTokenIsFencedAndChangesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 3) // token 4 was admitted last
		f := v.open(t, "late")
		v.add(t, v.next(4, "a dead holder's"))
		for _, token := range []frame.Token{0, 1, 3} {
			unchanged(t, v, "a lower token", func() {
				if _, err := f.Append(t.Context(), token, *v.head, records("x")); !errors.Is(err, ErrFenced) {
					t.Errorf("token %v: %v", token, err)
				}
			})
		}
	})
}

func TestAHolderThatWasOvertakenBeforeItWroteIsFenced(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		stale, paused, next := *v.head, v.open(t, "paused"), v.open(t, "next")
		v.commit(t, next, 9, "the next one's")
		unchanged(t, v, "a stale head", func() {
			if _, err := paused.Append(t.Context(), 8, stale, records("x")); !errors.Is(err, ErrFenced) {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestTheSameTokenMayTryAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		f := v.open(t, "a")
		first, err := f.Append(t.Context(), 5, *v.head, records("first try"))
		if err != nil {
			t.Fatal(err)
		}
		out := v.commit(t, f, 5, "second try")
		v.check(t)
		tail := v.bytes(t, out.Orphan[len(v.path):])
		if !bytes.HasPrefix(tail, []byte(first.Header.Line())) || !bytes.HasSuffix(tail, []byte("\nfirst try\n")) {
			t.Errorf("the first try was put aside as %q", tail)
		}
	})
}

func TestARecordThatIsNoneIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	v := memVolume().begun(t, 1)
	f := v.open(t, "a")
	unchanged(t, v, "a bad record", func() {
		before := len(v.mem.steps(t, 0))
		_, err := f.Append(t.Context(), 5, *v.head, records("fine", "not\x00fine"))
		var bad *frame.RecordError
		if !errors.As(err, &bad) || bad.Column != 4 || !strings.Contains(err.Error(), "record 2") {
			t.Errorf("got %v", err)
		}
		if did := v.mem.steps(t, before); len(did) > 0 {
			t.Errorf("it did %q", did)
		}
	})
}

func TestATurnThatWasLostWritesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		lost := errors.New("the turn was lost")
		before := v.bytes(t, "")
		if _, err := v.open(t, "a").Append(ended(t, lost), 5, *v.head, records("x")); !errors.Is(err, lost) {
			t.Errorf("got %v, want the cause", err)
		}
		if !bytes.Equal(before, v.bytes(t, "")) {
			t.Error("the file was changed")
		}
	})
}

// The order of the operations is the promise: synced after it was written, on the
// descriptor that wrote, and before the flock is given up.
func TestAppendIsSyncedAfterItsWriteAndInsideTheFlock(t *testing.T) {
	v := memVolume().begun(t, 1)
	f := v.open(t, "a")
	before := len(v.mem.steps(t, 0))
	if _, err := f.Append(t.Context(), 5, *v.head, records("x")); err != nil {
		t.Fatal(err)
	}
	mustHappenInOrder(t, v.mem.steps(t, before),
		"lock data.txt.fence", "write data.txt.fence", "write data.txt", "datasync data.txt", "unlock data.txt.fence")
	n := v.mem.live[v.path]
	if !bytes.Equal(n.live, n.safe) {
		t.Error("Append came back before its frame was on disk")
	}
}

func mustHappenInOrder(t testing.TB, log []string, want ...string) {
	t.Helper()
	at := -1
	for _, op := range want {
		i := slices.Index(log[at+1:], op)
		if i < 0 {
			t.Fatalf("no %q after step %d of %q", op, at, log)
		}
		at += 1 + i
	}
	for _, op := range want {
		if n := len(slices.DeleteFunc(slices.Clone(log), func(o string) bool { return o != op })); n != 1 {
			t.Errorf("%q happened %d times in %q", op, n, log)
		}
	}
}

func TestAFailedSyncIsErrSyncAndNeverRepeated(t *testing.T) {
	v := memVolume().begun(t, 1)
	f := v.open(t, "a")
	v.mem.fail("datasync data.txt", 1, syscall.EIO, 0)
	before := len(v.mem.steps(t, 0))
	_, err := f.Append(t.Context(), 5, *v.head, records("x"))
	if !errors.Is(err, ErrSync) || !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	did := v.mem.steps(t, before)
	if slices.Index(did, "datasync data.txt") != len(did)-2 || did[len(did)-1] != "unlock data.txt.fence" {
		t.Errorf("after the failure it went on: %q", did)
	}
}

// Every step of a turn fails once, in every way. Nothing committed may be touched,
// the error is loud, and the next holder goes on.
func TestWhateverFailsInATurnNothingCommittedIsTouched(t *testing.T) {
	probe := memVolume().begun(t, 2)
	from := len(probe.mem.log)
	if _, err := probe.open(t, "a").Append(t.Context(), 8, *probe.head, records("mine")); err != nil {
		t.Fatal(err)
	}
	for i, op := range probe.mem.log[from:] {
		nth := countUpTo(probe.mem.log[from:], i, op)
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			v := memVolume().begun(t, 2)
			committed := v.bytes(t, "")
			// A part of a fence is a damaged fence: a sector arrives whole or not at all.
			short := map[bool]int{true: 40}[op == "write data.txt"]
			fault := v.mem.fail(op, nth, cause, short)
			f, err := v.tryOpen("a")
			if err == nil {
				_, err = f.Append(t.Context(), 8, *v.head, records("mine"))
			}
			if !fault.fired || err == nil || !errors.Is(err, cause) && op != "read data.txt" { // that one is refused, with its reason
				t.Errorf("%s (%d): %v", op, nth, err)
			}
			if strings.HasPrefix(op, "datasync") != errors.Is(err, ErrSync) {
				t.Errorf("%s (%d): halt or not? %v", op, nth, err)
			}
			if got := v.bytes(t, ""); !bytes.HasPrefix(got, committed) {
				t.Errorf("%s (%d): the committed part was touched", op, nth)
			}
			if f != nil {
				f.Close()
			}
			v.commit(t, v.open(t, "b"), 9, "the next one's")
			v.check(t)
		}
	}
}

func TestAShortWriteIsAnErrorAndPutAsideByTheNext(t *testing.T) {
	for short := range 60 {
		v := memVolume().begun(t, 1)
		v.mem.fail("write data.txt", 1, syscall.ENOSPC, short)
		if _, err := v.open(t, "a").Append(t.Context(), 5, *v.head, records("mine")); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrSync) {
			t.Fatalf("got %v", err)
		}
		torn := v.bytes(t, "")[v.head.Offset:]
		out := v.commit(t, v.open(t, "b"), 6, "next")
		v.check(t)
		if short > 0 && !bytes.Equal(v.bytes(t, out.Orphan[len(v.path):]), torn) {
			t.Errorf("%d bytes: put aside as %q", short, v.bytes(t, out.Orphan[len(v.path):]))
		}
	}
}

func TestAReceiptIsWrittenThoughTheTurnHasEnded(t *testing.T) {
	v := memVolume().begun(t, 1)
	f := v.open(t, "a")
	out, err := f.Append(t.Context(), 5, *v.head, records("x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Receipt(ended(t, context.Canceled), out); err != nil {
		t.Error(err)
	}
	if r, err := decode(v.bytes(t, ".fence")); err != nil || r.Turn != 2 || r.Offset != out.Head.Offset {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestHeaderAtSaysWhatIsWrongWithThePlace(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		f := v.open(t, "a")
		for _, at := range []int64{0, 1, v.head.Offset, v.head.Offset + 100} {
			if h, err := f.HeaderAt(at); err == nil || h != (frame.Header{}) {
				t.Errorf("at %d: %+v, %v", at, h, err)
			}
		}
	})
}

func TestAClosedFileGivesItsFlockUp(t *testing.T) {
	v := memVolume().begun(t, 1)
	f := v.open(t, "a")
	v.mem.fail("unlock data.txt.fence", 1, syscall.EIO, 0)
	if _, err := f.Append(t.Context(), 5, *v.head, records("x")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	v.commit(t, v.open(t, "b"), 6, "next")
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Errorf("closing twice: %v", err)
	}
}
