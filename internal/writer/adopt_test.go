package writer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// adoptNow adopts what stands there at this moment.
func adoptNow(ctx context.Context, f *File, token frame.Token, next frame.Incarnation, sum *frame.Sum, end int64) (frame.Head, error) {
	seen, size := survey(f)
	return f.Adopt(ctx, token, seen, Basis{Next: next, Sum: sum, End: end, Size: size})
}

func survey(f *File) (seen Seen, size int64) {
	seen, err := f.Seen()
	if err != nil {
		panic(err)
	}
	if info, err := f.fs.Lstat(f.path); err == nil {
		size = info.Size
	}
	return seen, size
}

func TestAdoptGoesOnWithAFileThatExistedBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		before := []byte("what was there\nand has no frame\n")
		v.put(t, "", before)
		prev := frame.SumOf(sha256.Sum256(before))
		next := frame.Incarnation{ID: uuid.New(), From: 1, Preamble: int64(len(before))}
		head, err := adoptNow(t.Context(), v.open(t, "a"), 5, next, &prev, next.Preamble)
		if err != nil {
			t.Fatal(err)
		}
		v.head = &head
		if want := append(bytes.Clone(before), next.Line()+"\n"...); !bytes.Equal(v.bytes(t, ""), want) || head.Sum != next.Seal(&prev) {
			t.Errorf("the file is %q", v.bytes(t, ""))
		}
		v.commit(t, v.open(t, "b"), 6, "goes on")
		if !bytes.HasPrefix(v.bytes(t, ""), before) {
			t.Error("the preamble was touched")
		}
	})
}

func TestAdoptPutsWhatLiesBehindTheEndAside(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 2)
		tail := v.next(9, "uncommitted")
		v.add(t, tail)
		end, prev := v.head.Offset, v.head.Sum
		head, err := adoptNow(t.Context(), v.open(t, "a"), 1, frame.Incarnation{ID: uuid.New(), From: 3}, &prev, end)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range v.orphans(t) {
			if !bytes.Equal(b, tail) {
				t.Errorf("put aside %q", b)
			}
		}
		if old := *v.head; len(v.orphans(t)) != 1 || head.Turn != old.Turn || head.Offset <= old.Offset {
			t.Errorf("%d orphans, head %+v", len(v.orphans(t)), head)
		}
		// The old incarnation is over, whatever its token.
		if _, err := v.open(t, "b").Append(t.Context(), 99, *v.head, records("x")); !errors.Is(err, ErrRefused) {
			t.Errorf("an agent with the old head: %v", err)
		}
		v.head = &head
		v.commit(t, v.open(t, "c"), 2, "goes on")
	})
}

func TestAdoptThatFailedMayBeTriedAgain(t *testing.T) {
	probe := memVolume().begun(t, 2)
	probe.add(t, probe.next(9, "uncommitted"))
	adopt := func(v *volume, token frame.Token) (frame.Head, error) {
		f := v.open(t, "a")
		defer f.Close()
		return adoptNow(t.Context(), f, token, frame.Incarnation{ID: uuid.New(), From: 3}, &v.head.Sum, v.head.Offset)
	}
	survey(probe.open(t, "a"))
	surveyed := len(probe.mem.log)
	survey(probe.open(t, "a"))
	surveyed = len(probe.mem.log) - surveyed
	from := len(probe.mem.log) + surveyed
	if _, err := adopt(probe, 20); err != nil {
		t.Fatal(err)
	}
	log := probe.mem.log[from:]
	for i, op := range log[:len(log)-2] { // the two closes
		v := memVolume().begun(t, 2)
		v.add(t, v.next(9, "uncommitted"))
		committed := v.bytes(t, "")[:v.head.Offset]
		seen, size := survey(v.open(t, "a"))
		v.mem.fail(op, countUpTo(log, i, op), syscall.EIO, 0)
		if f, err := v.tryOpen("a"); err == nil {
			on := Basis{Next: frame.Incarnation{ID: uuid.New(), From: 3}, Sum: &v.head.Sum, End: v.head.Offset, Size: size}
			_, err = f.Adopt(t.Context(), 20, seen, on)
			if f.Close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %v", op, err)
			}
		}
		head, err := adopt(v, 21)
		if err != nil || !bytes.HasPrefix(v.bytes(t, ""), committed) {
			t.Errorf("after %s failed: %v", op, err)
			continue
		}
		v.head = &head
		v.commit(t, v.open(t, "b"), 22, "goes on")
	}
}

func TestAdoptRefusesAFileThatShrank(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		mustRefuse(t, v, "a shorter file", func() error {
			_, err := adoptNow(t.Context(), v.open(t, "a"), 9, frame.Incarnation{ID: uuid.New(), From: 2}, &v.head.Sum, v.head.Offset+1)
			return err
		})
	})
}
