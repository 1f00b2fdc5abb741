package writer

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
)

const memFile = memDir + "/data.txt"

var adopted = uuid.MustParse("11111111-2222-3333-4444-555555555555")

// adopts is an adoption of a file in memory that has the content "old\n".
func adopts(t testing.TB) (*memFS, *Adoption) {
	t.Helper()
	m := newMemFS()
	m.put(memFile, "old\n")
	return m, on(m)
}

func on(m *memFS) *Adoption { return NewAdoption(Options{Path: memFile, FS: m}, adopted) }

// publishes makes the copy and appends the line: all that comes before head is published.
func publishes(a *Adoption) error {
	c, err := a.Copy(context.Background(), -1, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Write([]byte("line\n"), 4); err != nil {
		return err
	}
	return c.Sync()
}

// swaps takes Steps until there is none left.
func swaps(a *Adoption) error {
	for range 20 {
		if done, err := a.Step(); done || err != nil {
			return err
		}
	}
	return errors.New("it does not come to an end")
}

func wantSwapped(t *testing.T, what string, m *memFS, a *Adoption) {
	t.Helper()
	if m.content(memFile) != "old\nline\n" || m.content(a.Was()) != "old\n" || m.live[a.Next()] != nil {
		t.Errorf("%s: there are %s; the file is %q, the old one %q", what, m.names(), m.content(memFile), m.content(a.Was()))
	}
	if n := m.live[memFile]; n != nil && n.links != 1 {
		t.Errorf("%s: the file has %d names", what, n.links)
	}
}

func TestAdoption_killedAtAnyStepGoesOn(t *testing.T) {
	for _, old := range []bool{false, true} {
		for dieAt := 1; ; dieAt++ {
			m, a := adopts(t)
			m.old = old
			if err := publishes(a); err != nil {
				t.Fatal(err)
			}
			m.log, m.dieAt = nil, dieAt
			err := swaps(a)
			if err == nil {
				break // it did not get so far
			}
			if !errors.Is(err, errDead) {
				t.Fatalf("old %v, step %d: %v", old, dieAt, err)
			}
			for seed := range uint64(20) {
				after := m.killed()
				if seed > 0 {
					after = m.powerLost(rand.New(rand.NewPCG(seed, 0)))
				}
				if err := swaps(on(after)); err != nil {
					t.Fatalf("old %v, killed at step %d: %v", old, dieAt, err)
				}
				wantSwapped(t, m.log[len(m.log)-1], after, a)
				wantSwapped(t, "its power gone after "+m.log[len(m.log)-1], after.powerLost(rand.New(rand.NewPCG(seed, 1))), a)
			}
		}
	}
}

// A process that was paused before any step, and goes on after another has finished,
// changes nothing.
func TestAdoption_lateStepChangesNothing(t *testing.T) {
	for _, old := range []bool{false, true} {
		for pauseAt := 1; pauseAt <= 20; pauseAt++ {
			m, a := adopts(t)
			m.old = old
			if err := publishes(a); err != nil {
				t.Fatal(err)
			}
			late := NewAdoption(Options{Path: memFile, FS: &pausing{memFS: m, at: pauseAt, meanwhile: func() {
				if err := swaps(a); err != nil {
					t.Fatal(err)
				}
			}}}, adopted)
			if err := swaps(late); err != nil {
				t.Fatalf("old %v, paused at %d: %v", old, pauseAt, err)
			}
			wantSwapped(t, "late", m, a)
		}
	}
}

// pausing has something done before one of its operations.
type pausing struct {
	*memFS
	at, n     int
	meanwhile func()
}

func (p *pausing) pause() {
	if p.n++; p.n == p.at {
		p.meanwhile()
	}
}

func (p *pausing) Lstat(name string) (Info, error) { p.pause(); return p.memFS.Lstat(name) }
func (p *pausing) Move(from, to string) error      { p.pause(); return p.memFS.Move(from, to) }
func (p *pausing) Link(from, to string) error      { p.pause(); return p.memFS.Link(from, to) }
func (p *pausing) Rename(from, to string) error    { p.pause(); return p.memFS.Rename(from, to) }
func (p *pausing) Remove(name string) error        { p.pause(); return p.memFS.Remove(name) }

func TestAdoption_Step_replacesNothing(t *testing.T) {
	for _, old := range []bool{false, true} {
		m, a := adopts(t)
		m.old = old
		if err := publishes(a); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Step(); err != nil { // the old file is aside
			t.Fatal(err)
		}
		m.put(memFile, "somebody else's\n")
		if old {
			m.live[a.Was()].links = 1
		}
		err := swaps(a)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), a.Next()) {
			t.Errorf("old %v: %v, want a refusal that names the copy", old, err)
		}
		if m.content(memFile) != "somebody else's\n" || m.content(a.Was()) != "old\n" || m.content(a.Next()) != "old\nline\n" {
			t.Errorf("old %v: something was replaced: %s", old, m.names())
		}
	}
}

func TestAdoption_Copy_failsAtAnyOperation(t *testing.T) {
	for _, op := range []string{"create *", "open data.txt", "read data.txt", "write *", "datasync *", "syncdir volume", "stat *"} {
		m, a := adopts(t)
		m.fail(op, 1, syscall.EIO, 2)
		if err := publishes(a); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v, want EIO", op, err)
		}
		if m.content(memFile) != "old\n" {
			t.Errorf("%s: the file was changed", op)
		}
		// Of a copy that was made and could not be completed its owner disposes.
		if failed := m.live[a.Next()] != nil; failed && !strings.HasPrefix(op, "write") && !strings.Contains(op, "sync") {
			t.Errorf("%s: the copy stays: %s", op, m.names())
		}
	}
}

func TestAdoption_powerLossAfterSyncLosesNothing(t *testing.T) {
	for seed := range uint64(50) {
		m, a := adopts(t)
		if err := publishes(a); err != nil {
			t.Fatal(err)
		}
		after := m.powerLost(rand.New(rand.NewPCG(seed, 0)))
		if after.content(a.Next()) != "old\nline\n" || after.content(memFile) != "old\n" {
			t.Fatalf("the copy is %q, the file %q", after.content(a.Next()), after.content(memFile))
		}
	}
}

func TestAdoption_Save(t *testing.T) {
	m, a := adopts(t)
	for _, c := range []struct{ content, name string }{
		{"one", a.Lost()}, {"one", a.Lost()}, {"two", a.Lost() + "-2"}, {"one", a.Lost()}, {"two", a.Lost() + "-2"},
	} {
		name, err := a.Save(a.Lost(), []byte(c.content))
		if err != nil || name != c.name || m.content(name) != c.content || string(m.live[name].safe) != c.content {
			t.Errorf("save %q: %s, %v, with %q", c.content, name, err, m.content(name))
		}
	}
	m.fail("write *", 1, syscall.ENOSPC, 1)
	if _, err := a.Save(a.Foreign(), []byte("three")); !errors.Is(err, syscall.ENOSPC) || m.live[a.Foreign()] != nil {
		t.Errorf("a full volume: %v; %s", err, m.names())
	}
}

func TestOS_isAnAdoptFS(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "data.txt")
	if err := os.WriteFile(path, []byte("old\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	a := NewAdoption(Options{Path: path}, adopted)
	if err := publishes(a); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(a.Next()); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the copy's mode: %v, %v", info.Mode(), err)
	}
	if err := a.fs.Move(path, a.Next()); !errors.Is(err, os.ErrExist) {
		t.Errorf("a move onto a file: %v", err)
	}
	if err := swaps(a); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path: "old\nline\n", a.Was(): "old\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if names, err := a.Leftovers(); err != nil || len(names) > 0 {
		t.Errorf("left over: %v, %v", names, err)
	}
}
