package writer

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Each test here holds what a review found wrong once.

func TestAnAdopterThatWasOvertakenCutsNothing(t *testing.T) {
	v := memVolume().begun(t, 2)
	late := v.open(t, "adopter-1") // has verified the file up to here, and is stopped
	end, prev := v.head.Offset, v.head.Sum
	seen, err := late.Seen()
	if err != nil {
		t.Fatal(err)
	}
	next, err := adoptNow(t.Context(), v.open(t, "adopter-2"), 50, frame.Incarnation{ID: uuid.New(), From: 3}, &prev, end)
	if err != nil {
		t.Fatal(err)
	}
	v.head = &next
	f := v.open(t, "agent-1")
	for token := range frame.Token(3) {
		v.commit(t, f, 51+token, "committed and acknowledged")
	}
	committed := v.bytes(t, "")[:v.head.Offset]
	if _, err := late.Adopt(t.Context(), 40, seen, Basis{Next: frame.Incarnation{ID: uuid.New(), From: 3}, Sum: &prev, End: end, Size: end}); err == nil {
		t.Error("it was let in")
	}
	if !bytes.HasPrefix(v.bytes(t, ""), committed) {
		t.Error("it cut what was committed, three turns")
	}
}

func TestAnAdopterWhoseTurnHasEndedChangesNothing(t *testing.T) {
	v := memVolume().begun(t, 2)
	lost := errors.New("the turn was lost")
	unchanged(t, v, "an ended turn", func() {
		i := frame.Incarnation{ID: uuid.New(), From: 3}
		if _, err := adoptNow(ended(t, lost), v.open(t, "a"), 50, i, &v.head.Sum, v.head.Offset); !errors.Is(err, lost) {
			t.Errorf("got %v", err)
		}
	})
}

func TestATurnThatHasEndedPutsNothingAsideAndAdmitsNobody(t *testing.T) {
	v, f := withTwoTurns(t, memVolume())
	v.add(t, v.next(3, "of a dead holder"))
	lost := errors.New("the turn was lost")
	unchanged(t, v, "an ended turn", func() {
		if _, err := f.Append(ended(t, lost), 9, *v.head, records("x")); !errors.Is(err, lost) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheSameTokenDoesNotOverwriteAnOrphan(t *testing.T) {
	v := memVolume().begun(t, 1)
	v.add(t, v.next(3, "of a dead holder"))
	v.mem.fail("write data.txt", 1, syscall.ENOSPC, 30)
	f := v.open(t, "a")
	if _, err := f.Append(t.Context(), 5, *v.head, records("mine")); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	v.commit(t, f, 5, "mine, again")
	for _, b := range v.orphans(t) {
		if bytes.Contains(b, []byte("of a dead holder")) {
			return
		}
	}
	t.Error("the dead holder's tail is in no file any more")
}

func TestATailThatCannotBeReadIsNotCut(t *testing.T) {
	v, f := withTwoTurns(t, memVolume())
	first, head := frameAfter(*v.head, 3, "one")
	second, _ := frameAfter(head, 3, "two")
	v.add(t, append(first, second...))
	v.mem.fail("read data.txt", 2, syscall.EIO, 0) // the first reads the incarnation line
	unchanged(t, v, "an unreadable tail", func() {
		if _, err := f.Append(t.Context(), 3, *v.head, records("x")); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAnIncarnationLineThatCannotBeReadIsNoSwap(t *testing.T) {
	v, f := withTwoTurns(t, memVolume())
	v.mem.fail("read data.txt", 1, syscall.EIO, 0)
	if _, err := f.Append(t.Context(), 3, *v.head, records("x")); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestAHeadInTheMiddleOfAFrameIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(h *frame.Head){
		"a few bytes short":       func(h *frame.Head) { h.Offset -= 5 },
		"in the incarnation line": func(h *frame.Head) { h.Offset = 5 },
		"at another turn's end":   func(h *frame.Head) { h.Offset -= int64(len("last\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			v, f := withTwoTurns(t, memVolume())
			wrong := *v.head
			spoil(&wrong)
			mustRefuse(t, v, name, func() error { _, err := f.Append(t.Context(), 3, wrong, records("x")); return err })
		})
	}
}

func TestForeignTextBehindHeadIsNoDeadHolders(t *testing.T) {
	v, f := withTwoTurns(t, memVolume())
	v.add(t, []byte("somebody's >> wrote this\nand this\n"))
	mustRefuse(t, v, "foreign text", func() error { _, err := f.Append(t.Context(), 3, *v.head, records("x")); return err })
}

func TestARefusedTurnLeavesTheFenceAsItWas(t *testing.T) {
	v, f := withTwoTurns(t, memVolume())
	wrong := *v.head
	wrong.Turn, wrong.Offset = 100, wrong.Offset+1000
	mustRefuse(t, v, "a head beyond the file", func() error { _, err := f.Append(t.Context(), 9, wrong, records("x")); return err })
	// What is worse: the lie stays in the fence as a receipt, and the true head is refused.
	v.commit(t, f, 10, "with the true head")
}

func TestATurnThatNoReaderCouldReadIsNotWritten(t *testing.T) {
	tooMuch := make([][]byte, frame.MaxBytes/frame.MaxRecord+1)
	for i := range tooMuch {
		tooMuch[i] = bytes.Repeat([]byte("x"), frame.MaxRecord-1)
	}
	for name, turn := range map[string][][]byte{"no records": nil, "too much": tooMuch} {
		v, f := withTwoTurns(t, memVolume())
		unchanged(t, v, name, func() {
			if out, err := f.Append(t.Context(), 3, *v.head, turn); err == nil {
				_, err := frame.ParseHeader([]byte(out.Header.Line()))
				t.Errorf("%s: was written; its reader says: %v", name, err)
			}
		})
	}
}

func TestOpenRefusesAnAgentThatIsNone(t *testing.T) {
	for _, name := range []string{"Agent 3", strings.Repeat("a", 400)} {
		if _, err := Open(Options{Path: memDir + "/data.txt", Agent: name, FS: newMemFS()}); err == nil {
			t.Errorf("%.10q is taken", name)
		}
	}
}
