package writer

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

func TestBeginOnNothingWritesTheIncarnationLine(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 0)
		v.check(t)
		if v.head.Turn != 0 || v.head.Offset != int64(len(v.bytes(t, ""))) || v.head.Token != 0 || v.head.Agent != "agent-1" {
			t.Errorf("head %+v", *v.head)
		}
		v.commit(t, v.open(t, "agent-2"), 2, "x")
		v.check(t)
	})
}

func TestBeginOnAnEmptyFileIsFine(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.put(t, "", nil)
		v.begun(t, 1).check(t)
	})
}

func TestOpenCreatesNothing(t *testing.T) {
	v := realVolume(t)
	v.open(t, "agent-1")
	if v.bytes(t, "") != nil || v.bytes(t, ".fence") != nil {
		t.Error("Open left a file")
	}
}

func TestBeginGoesOnFromItsOwnTornLeftoverOfEveryLength(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 0)
		line := v.bytes(t, "")
		step := map[bool]int{true: 11, false: 1}[v.mem == nil] // a real disk takes its time
		token := frame.Token(1)
		for n := 0; n <= len(line); n += step {
			for _, left := range [][]byte{line[:n], make([]byte, n)} {
				v.put(t, "", left)
				token++
				head, err := v.open(t, "agent-2").Begin(t.Context(), token)
				if err != nil {
					t.Fatalf("%q: %v", left, err)
				}
				v.head = &head
				v.check(t)
				if !bytes.Equal(v.bytes(t, ""), line) {
					t.Errorf("after %q another line was written", left)
				}
			}
		}
	})
}

func TestBeginRefusesForeignContent(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 0)
		line := string(v.bytes(t, ""))
		for name, content := range map[string]string{
			"text": "mine\n", "one byte": "x", "another incarnation's line": strings.Replace(line, "from=1", "from=2", 1),
			"one byte too many": line + "x", "a frame after the line": line + string(v.next(1, "x")),
			"more zeros than the line": strings.Repeat("\x00", len(line)+1), "a changed line": line[:30] + "!" + line[31:],
		} {
			v.put(t, "", []byte(content))
			mustRefuse(t, v, name, func() error { _, err := v.open(t, "b").Begin(t.Context(), 2); return err })
		}
	})
}

func TestBeginWithoutItsFenceRefusesEvenItsOwnLine(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.put(t, "", []byte(frame.Incarnation{From: 1}.Line()+"\n"))
		before := v.bytes(t, "")
		if _, err := v.open(t, "a").Begin(t.Context(), 1); !errors.Is(err, ErrRefused) {
			t.Errorf("got %v", err)
		}
		if !bytes.Equal(before, v.bytes(t, "")) {
			t.Error("the file was changed")
		}
	})
}

func TestBeginThatWroteNoFenceLeftNothingToCut(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		for _, content := range []string{"\x00\x00", "#turn", "#turnstile 1 incarnation="} {
			v.put(t, "", []byte(content))
			v.put(t, ".fence", nil)
			mustRefuse(t, v, "content without a fence", func() error { _, err := v.open(t, "a").Begin(t.Context(), 1); return err })
		}
	})
}

func TestBeginRefusesWhenTheFenceKnowsOfACommit(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		v.put(t, "", nil)
		mustRefuse(t, v, "an emptied file", func() error { _, err := v.open(t, "b").Begin(t.Context(), 9); return err })
	})
}

func TestBeginByAnOldTokenIsFenced(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		if _, err := v.open(t, "a").Begin(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
		unchanged(t, v, "Begin by an old token", func() {
			if _, err := v.open(t, "b").Begin(t.Context(), 4); !errors.Is(err, ErrFenced) {
				t.Errorf("got %v", err)
			}
		})
	})
}

func TestBeginRefusesADamagedFence(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.put(t, ".fence", []byte("rubbish"))
		v.put(t, "", nil)
		mustRefuse(t, v, "a damaged fence", func() error { _, err := v.open(t, "a").Begin(t.Context(), 1); return err })
	})
}

func TestBeginSyncsFileFenceAndDirectory(t *testing.T) {
	v := memVolume().begun(t, 0)
	for _, p := range []string{v.path, v.path + ".fence"} {
		n := v.mem.live[p]
		if v.mem.safe[p] != n || !bytes.Equal(n.safe, n.live) {
			t.Errorf("%s is not on disk", p)
		}
	}
}

func TestBeginSaysWhichStepFailed(t *testing.T) {
	probe := memVolume().begun(t, 0)
	for i, op := range probe.mem.steps(t, 0) {
		verb, _, _ := strings.Cut(op, " ")
		if verb == "lstat" || verb == "read" || verb == "stat" || verb == "close" {
			continue
		}
		v := memVolume()
		nth := countUpTo(probe.mem.log, i, op)
		v.mem.fail(op, nth, os.ErrDeadlineExceeded, 0)
		f := v.open(t, "a")
		if _, err := f.Begin(t.Context(), 1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s (%d) failed, and Begin says %v", op, nth, err)
		}
		if verb == "unlock" {
			f.Close() // a process that cannot unlock has to end
		}
		head, err := v.open(t, "b").Begin(t.Context(), 2)
		if err != nil {
			t.Errorf("after %s (%d) failed once: %v", op, nth, err)
			continue
		}
		v.head = &head
		v.check(t)
	}
}

func countUpTo(log []string, i int, op string) (n int) {
	for _, other := range log[:i+1] {
		if other == op {
			n++
		}
	}
	return n
}
