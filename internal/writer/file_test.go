package writer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

var begun = frame.Incarnation{ID: uuid.MustParse("5f0c2e3a-0000-4000-8000-00000000000b"), From: 1}

// fresh is a file of the incarnation begun, opened by path alone, and the head and the node
// of its turn 0.
func fresh(t testing.TB, m *memFS) (*File, frame.Head, frame.Turn) {
	t.Helper()
	f, err := Open(Options{Path: memFile, FS: m})
	if err != nil {
		t.Fatal(err)
	}
	return f, frame.Head{Incarnation: begun.ID}, frame.First(begun, uuid.New())
}

// attached is a file with the incarnation's line, and open.
func attached(t testing.TB, m *memFS) (*File, frame.Head) {
	t.Helper()
	m.put(memFile, begun.Line()+"\n")
	f, head, _ := fresh(t, m)
	if opened, err := f.Attach(head, nil); err != nil || !opened {
		t.Fatal(opened, err)
	}
	return f, head
}

func wantRefused(t *testing.T, err error, late bool, why string) {
	t.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Late != late || refused.Next == "" || !strings.Contains(refused.Why, why) {
		t.Errorf("got %v, want a refusal (late: %v) that says %q", err, late, why)
	}
}

func TestAttach_createsTheFileOnlyWhileItBegins(t *testing.T) {
	m := newMemFS()
	f, head, first := fresh(t, m)
	_, err := f.Attach(head, nil)
	wantRefused(t, err, true, "is missing")
	if f.Attached() || m.live[memFile] != nil {
		t.Fatal("a file was made, or is open")
	}
	m.log = nil
	if opened, err := f.Attach(head, &first); err != nil || !opened {
		t.Fatal(opened, err)
	}
	if m.safe[memFile] == nil {
		t.Error("the file's name is not on disk")
	}
	if opened, err := f.Attach(head, &first); err != nil || opened {
		t.Errorf("opened again: %v, %v", opened, err)
	}
}

// The maker of the file may have failed to sync its name: who finds it there does.
func TestAttach_syncsTheNameThatAnotherMade(t *testing.T) {
	m := newMemFS()
	f, head, first := fresh(t, m)
	m.fail("sync "+filepath.Base(memDir), 1, syscall.EIO, 0)
	m.fail("syncdir "+filepath.Base(memDir), 1, syscall.EIO, 0)
	if _, err := f.Attach(head, &first); !errors.Is(err, syscall.EIO) || f.Attached() {
		t.Fatal("the directory's sync failed, and", err, m.log)
	}
	other, _, _ := fresh(t, m)
	if _, err := other.Attach(head, &first); err != nil || m.safe[memFile] == nil {
		t.Error("the name is on no disk", err)
	}
}

func TestAttach_whatIsInTheFile(t *testing.T) {
	line := begun.Line() + "\n"
	other := frame.Incarnation{ID: uuid.New(), From: 1}.Line() + "\n"
	for name, c := range map[string]struct {
		content string
		begins  bool
		why     string // empty: it is right
	}{
		"whole":                       {line + "more", false, ""},
		"empty":                       {"", false, "does not have the line"},
		"another's":                   {other, false, "does not have the line"},
		"half a line":                 {line[:20], false, "does not have the line"},
		"foreign":                     {"oops\n", false, "does not have the line"},
		"empty, and begins":           {"", true, ""},
		"half a line, and begins":     {line[:20], true, ""},
		"a hole, and begins":          {strings.Repeat("\x00", 12), true, ""},
		"whole, and begins":           {line, true, ""},
		"another's, and begins":       {other, true, "that no agent wrote"},
		"foreign text, and it begins": {"oops\n", true, "that no agent wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemFS()
			m.put(memFile, c.content)
			f, head, first := fresh(t, m)
			node := &first
			if !c.begins {
				node = nil
			}
			_, err := f.Attach(head, node)
			if c.why == "" && (err != nil || !f.Attached()) {
				t.Error(err)
			}
			if c.why != "" {
				wantRefused(t, err, !c.begins, c.why)
				if f.Attached() {
					t.Error("what was refused is open")
				}
			}
			if m.content(memFile) != c.content {
				t.Error("the file was changed")
			}
		})
	}
}

// An adopted file has its incarnation's line where head says.
func TestAttach_findsTheLineWhereHeadSays(t *testing.T) {
	m := newMemFS()
	m.put(memFile, "old\n"+begun.Line()+"\n")
	f, head, _ := fresh(t, m)
	head.Line = 4
	if _, err := f.Attach(head, nil); err != nil {
		t.Error(err)
	}
	head.Line = 3
	_, err := f.Attach(head, nil)
	wantRefused(t, err, true, "at byte 3")
}

// When path and descriptor part, the path's file is opened.
func TestAttach_opensWhatThePathNamesNow(t *testing.T) {
	m := newMemFS()
	f, head := attached(t, m)
	before := f.Opened()
	if opened, err := f.Attach(head, nil); opened || err != nil || f.Opened() != before {
		t.Error("it is opened though it is the same", err)
	}
	delete(m.live, memFile)
	m.put(memFile, begun.Line()+"\nanother")
	wantRefused(t, f.Same(), true, "replaced by another")
	if opened, err := f.Attach(head, nil); !opened || err != nil || f.Opened() == before {
		t.Error("it is not opened though it is another", err)
	}
	if end, err := f.End(); err != nil || end != int64(len(begun.Line())+8) {
		t.Errorf("it is %d bytes long: %v", end, err)
	}
	delete(m.live, memFile)
	wantRefused(t, f.Same(), true, "was removed")
}

func TestOpen_whatIsNoFileWithOneName(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(at("file"), nil, 0o644), os.WriteFile(at("two"), nil, 0o644), os.Link(at("two"), at("names")),
		os.Symlink("file", at("link")), os.Mkdir(at("dir"), 0o755), syscall.Mkfifo(at("fifo"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "missing"} {
		if _, err := Open(Options{Path: at(name)}); err != nil {
			t.Error(name, err)
		}
	}
	for _, name := range []string{"link", "dir", "fifo"} {
		_, err := Open(Options{Path: at(name)})
		wantRefused(t, err, false, "not a regular file")
	}
	f, err := Open(Options{Path: at("two")}) // it may be a step of an adoption
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Attach(frame.Head{}, nil)
	wantRefused(t, err, true, "2 names")
}

func TestBlank(t *testing.T) {
	m := newMemFS()
	f, _, _ := fresh(t, m)
	if err := f.Blank(); err != nil {
		t.Error("missing:", err)
	}
	m.put(memFile, "")
	if err := f.Blank(); err != nil {
		t.Error("empty:", err)
	}
	m.put(memFile, "x")
	wantRefused(t, f.Blank(), false, "holds data")
	if f.Attached() {
		t.Error("it is open")
	}
	m.fail("open "+filepath.Base(memFile), 1, syscall.EIO, 0)
	if err := f.Blank(); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrRefused) {
		t.Error("a volume that fails:", err)
	}
}
