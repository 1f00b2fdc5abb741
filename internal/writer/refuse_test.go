package writer

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"
)

// unchanged runs do, after which file and fence must have the bytes they had, and
// nothing new lies beside them.
func unchanged(t testing.TB, v *volume, name string, do func()) {
	t.Helper()
	file, fence, orphans := v.bytes(t, ""), v.bytes(t, ".fence"), len(v.orphans(t))
	do()
	if !bytes.Equal(file, v.bytes(t, "")) {
		t.Errorf("%s: the file was changed", name)
	}
	if !bytes.Equal(fence, v.bytes(t, ".fence")) {
		t.Errorf("%s: the fence was changed", name)
	}
	if len(v.orphans(t)) != orphans {
		t.Errorf("%s: something was put aside", name)
	}
}

func mustRefuse(t testing.TB, v *volume, name string, do func() error) {
	t.Helper()
	unchanged(t, v, name, func() {
		err := do()
		var refused *RefusedError
		if !errors.As(err, &refused) || !errors.Is(err, ErrRefused) || refused.Next == "" {
			t.Errorf("%s: got %v, want a refusal with the next step", name, err)
		}
	})
}

// refusesAppend: by a newcomer, and by agents that have the file open since before.
// Their token is the one admitted last, so that not even the admission shows.
func refusesAppend(t testing.TB, v *volume, name string, old *File) {
	t.Helper()
	const token = 3
	mustRefuse(t, v, name+", by a newcomer", func() error {
		f, err := v.tryOpen("agent-1")
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.Append(t.Context(), token, *v.head, records("x"))
		return err
	})
	mustRefuse(t, v, name+", by who has it open", func() error {
		_, err := old.Append(t.Context(), token, *v.head, records("x"))
		return err
	})
}

// withTwoTurns is a volume on which token 3 was admitted last, and an open File.
func withTwoTurns(t testing.TB, v *volume) (*volume, *File) {
	t.Helper()
	v.begun(t, 1)
	f := v.open(t, "agent-1")
	v.commit(t, f, 3, "last")
	return v, f
}

func TestContentThatDoesNotAgreeWithHeadIsRefused(t *testing.T) {
	other := memVolume().begun(t, 5)
	for name, damage := range map[string]func(t *testing.T, v *volume){
		"a file one byte short":    func(t *testing.T, v *volume) { v.put(t, "", v.bytes(t, "")[:v.head.Offset-1]) },
		"a file cut to nothing":    func(t *testing.T, v *volume) { v.put(t, "", nil) },
		"head of another":          func(t *testing.T, v *volume) { v.head.Incarnation = other.head.Incarnation },
		"another file's content":   func(t *testing.T, v *volume) { v.put(t, "", other.bytes(t, "")) },
		"another of the same size": func(t *testing.T, v *volume) { v.put(t, "", other.bytes(t, "")[:v.head.Offset]) },
		"no incarnation line":      func(t *testing.T, v *volume) { v.put(t, "", bytes.Repeat([]byte("x\n"), int(v.head.Offset))) },
		"zeros":                    func(t *testing.T, v *volume) { v.put(t, "", make([]byte, v.head.Offset)) },
		"an older head":            func(t *testing.T, v *volume) { v.head.Turn = 1; v.head.Offset -= 10 },
		"another volume's fence":   func(t *testing.T, v *volume) { v.put(t, ".fence", other.bytes(t, ".fence")) },
		"an empty fence":           func(t *testing.T, v *volume) { v.put(t, ".fence", nil) },
		"a fence of zeros":         func(t *testing.T, v *volume) { v.put(t, ".fence", make([]byte, sector)) },
		"half a fence":             func(t *testing.T, v *volume) { v.put(t, ".fence", v.bytes(t, ".fence")[:100]) },
		"a fence with a bit flipped": func(t *testing.T, v *volume) {
			b := v.bytes(t, ".fence")
			b[20] ^= 1
			v.put(t, ".fence", b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, v *volume) {
				v, old := withTwoTurns(t, v)
				damage(t, v)
				refusesAppend(t, v, name, old)
			})
		})
	}
}

func TestAHeadBeyondTheFileIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v, f := withTwoTurns(t, v)
		before := v.bytes(t, "")
		v.head.Offset++
		if _, err := f.Append(t.Context(), 3, *v.head, records("x")); !errors.Is(err, ErrRefused) {
			t.Errorf("got %v", err)
		}
		if !bytes.Equal(before, v.bytes(t, "")) {
			t.Error("the file was changed")
		}
	})
}

func TestEveryFlippedBitOfTheFenceIsRefusedOrPadding(t *testing.T) {
	v, f := withTwoTurns(t, memVolume())
	whole := v.bytes(t, ".fence")
	end := bytes.LastIndexByte(bytes.TrimRight(whole, " \n"), '=') + 9
	for i := range whole[:end] {
		b := bytes.Clone(whole)
		b[i] ^= 4
		v.put(t, ".fence", b)
		mustRefuse(t, v, "a flipped bit", func() error { _, err := f.Append(t.Context(), 3, *v.head, records("x")); return err })
	}
}

func TestAPathThatIsNoFileOfItsOwnIsRefused(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, path string){
		"missing":        func(t *testing.T, p string) { must(t, os.Remove(p)) },
		"moved away":     func(t *testing.T, p string) { must(t, os.Rename(p, p+".old")) },
		"renamed over":   func(t *testing.T, p string) { copyTo(t, p, p+".new"); must(t, os.Rename(p+".new", p)) },
		"a symlink":      func(t *testing.T, p string) { must(t, os.Rename(p, p+".old")); must(t, os.Symlink(p+".old", p)) },
		"a hard link":    func(t *testing.T, p string) { must(t, os.Link(p, p+".also")) },
		"a directory":    func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, os.Mkdir(p, 0o755)) },
		"a dead symlink": func(t *testing.T, p string) { must(t, os.Remove(p)); must(t, os.Symlink(p+".none", p)) },
	} {
		t.Run("the file is "+name, func(t *testing.T) {
			v, old := withTwoTurns(t, realVolume(t))
			damage(t, v.path)
			if name == "renamed over" { // for a newcomer it is the file: the fence guards it still
				mustRefuse(t, v, name, func() error { _, err := old.Append(t.Context(), 3, *v.head, records("x")); return err })
				return
			}
			refusesPath(t, v, old)
		})
		t.Run("the fence is "+name, func(t *testing.T) {
			v, old := withTwoTurns(t, realVolume(t))
			damage(t, v.path+".fence")
			if name == "renamed over" {
				mustRefuse(t, v, name, func() error { _, err := old.Append(t.Context(), 3, *v.head, records("x")); return err })
				return
			}
			refusesPath(t, v, old)
		})
	}
}

// refusesPath is refusesAppend where the path may be no file to compare.
func refusesPath(t testing.TB, v *volume, old *File) {
	t.Helper()
	if _, err := old.Append(t.Context(), 3, *v.head, records("x")); !errors.Is(err, ErrRefused) {
		t.Errorf("who has it open: %v", err)
	}
	f, err := v.tryOpen("agent-1")
	if err == nil {
		defer f.Close()
		_, err = f.Append(t.Context(), 3, *v.head, records("x"))
	}
	if err == nil {
		t.Error("a newcomer wrote a turn")
	}
}

func copyTo(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesAPathThatIsNoFile(t *testing.T) {
	v := realVolume(t)
	if err := os.Mkdir(v.path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := v.tryOpen("a"); !errors.Is(err, ErrRefused) {
		t.Errorf("a directory: %v", err)
	}
	pipe := v.path + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: pipe, Agent: "a"}); !errors.Is(err, ErrRefused) {
		t.Errorf("a pipe: %v", err)
	}
	link := v.path + ".link"
	copyTo(t, "/dev/null", v.path+".file")
	if err := os.Symlink(v.path+".file", link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: link, Agent: "a"}); !errors.Is(err, ErrRefused) {
		t.Errorf("a symbolic link: %v", err)
	}
	if _, err := (OS{}).Open(link, os.O_RDWR); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link that appeared since: %v", err)
	}
	if _, err := Open(Options{Path: "/proc/none", Agent: "a"}); !errors.Is(err, ErrRefused) {
		t.Errorf("a volume whose lock is not to be trusted: %v", err)
	}
	if _, err := Open(Options{Path: v.path + "/none/data.txt", Agent: "a"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestAReceiptBeyondHeadIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		older, f := *v.head, v.open(t, "agent-1")
		v.commit(t, f, 3, "acknowledged")
		v.head = &older // ZooKeeper went back in time, and the tail is one whole turn
		mustRefuse(t, v, "a receipt beyond head", func() error { _, err := f.Append(t.Context(), 4, older, records("x")); return err })
	})
}

func TestAReceiptByAnOldTokenChangesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		f := v.open(t, "late")
		late := v.commit(t, f, 3, "committed")
		v.commit(t, v.open(t, "next"), 4, "the next turn")
		unchanged(t, v, "a receipt after the next holder came", func() {
			if err := f.Receipt(t.Context(), late); err != nil {
				t.Error(err)
			}
		})
	})
}

// ZooKeeper went back in time between a commit and its receipt, and the next holder
// took the turn for a dead holder's.
func TestAReceiptForATurnThatTheNextHolderDoesNotKnowIsRefused(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, v *volume){
		"and put it aside": func(t *testing.T, v *volume) {
			v.commit(t, v.open(t, "next"), 4, "another turn with the same number")
			v.commit(t, v.open(t, "next"), 5, "and one more")
		},
		"and put it aside just now": func(t *testing.T, v *volume) {
			if _, err := v.open(t, "next").Append(t.Context(), 4, *v.head, records("another turn")); err != nil {
				t.Fatal(err)
			}
		},
		"and could not put it aside": func(t *testing.T, v *volume) {
			v.mem.fail("write orphan", 1, syscall.EIO, 0)
			if _, err := v.open(t, "next").Append(t.Context(), 4, *v.head, records("another turn")); !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := memVolume().begun(t, 1)
			f := v.open(t, "late")
			late, err := f.Append(t.Context(), 3, *v.head, records("committed"))
			if err != nil {
				t.Fatal(err)
			}
			next(t, v)
			mustRefuse(t, v, "a receipt", func() error { return f.Receipt(t.Context(), late) })
		})
	}
}

// A ZooKeeper that was restored may count its transactions once more from where it was, and
// give the token of a holder that is paused to another.
func TestATokenThatWasGivenTwiceIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		paused, f := v.open(t, "paused"), v.open(t, "agent-2")
		if _, err := f.Append(t.Context(), 3, *v.head, records("about to be committed")); err != nil {
			t.Fatal(err)
		}
		mustRefuse(t, v, "a turn with another's token", func() error {
			_, err := paused.Append(t.Context(), 3, *v.head, records("x"))
			return err
		})
	})
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 0)
		paused := v.open(t, "paused")
		mustRefuse(t, v, "a beginning with another's token", func() error {
			_, err := paused.Begin(t.Context(), 1)
			return err
		})
	})
}

// A holder was evicted before its commit, and the next one committed; then ZooKeeper went
// back to before the eviction, and the first commit succeeded. Head and file speak of
// different frames of the same turn and size.
func TestAHeadOfAnotherFrameThanTheOneNotedIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		evicted, err := v.open(t, "agent-1").Append(t.Context(), 3, *v.head, records("one"))
		if err != nil {
			t.Fatal(err)
		}
		f := v.open(t, "agent-2")
		if out := v.commit(t, f, 4, "two"); out.Head.Offset != evicted.Head.Offset {
			t.Fatal("not of one size")
		}
		mustRefuse(t, v, "another head", func() error {
			_, err := f.Append(t.Context(), 5, evicted.Head, records("three"))
			return err
		})
	})
}

// The answer to a commit was lost with the session, and on the new one another has our
// name. Nobody came after us.
func TestAReceiptUnderAnotherNameIsNoted(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		f := v.open(t, "agent-1")
		out, err := f.Append(t.Context(), 3, *v.head, records("committed"))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Rename("agent-2"); err != nil {
			t.Fatal(err)
		}
		if err := f.Receipt(t.Context(), out); err != nil {
			t.Error(err)
		}
		if r, err := decode(v.bytes(t, ".fence")); err != nil || r.Turn != 2 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := f.Rename("no name"); err == nil {
			t.Error("took any name")
		}
	})
}

// A backup that was made while a turn was being written: the turn was lost, and another of
// the same size and number was committed in its place.
func TestAVolumeRestoredToATurnThatWasNeverCommittedIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		if _, err := v.open(t, "agent-1").Append(t.Context(), 3, *v.head, records("lost")); err != nil {
			t.Fatal(err)
		}
		file, fence := v.bytes(t, ""), v.bytes(t, ".fence")
		v.commit(t, v.open(t, "agent-2"), 4, "kept")
		v.put(t, "", file)
		v.put(t, ".fence", fence)
		f := v.open(t, "agent-1")
		mustRefuse(t, v, "a turn that was never committed", func() error {
			_, err := f.Append(t.Context(), 9, *v.head, records("x"))
			return err
		})
	})
}

// The same, and only the file was restored: the fence knows of the turn that was committed.
func TestAFileRestoredAloneIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		if _, err := v.open(t, "agent-1").Append(t.Context(), 3, *v.head, records("lost")); err != nil {
			t.Fatal(err)
		}
		file := v.bytes(t, "")
		f := v.open(t, "agent-2")
		v.commit(t, f, 4, "kept")
		v.put(t, "", file)
		mustRefuse(t, v, "a turn that was never committed", func() error {
			_, err := f.Append(t.Context(), 9, *v.head, records("x"))
			return err
		})
	})
}

// After a power loss the fence may be as old as the incarnation: it was never synced since.
func TestAnOldFenceIsNoReasonToRefuse(t *testing.T) {
	onBoth(t, func(t *testing.T, v *volume) {
		v.begun(t, 1)
		fence := v.bytes(t, ".fence")
		v.commit(t, v.open(t, "agent-1"), 4, "a", "b")
		v.commit(t, v.open(t, "agent-2"), 5, "c")
		v.put(t, ".fence", fence)
		v.commit(t, v.open(t, "agent-3"), 6, "d")
		v.check(t)
	})
}
