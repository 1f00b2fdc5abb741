package fleet_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

// badDisk is the real file system, but for one operation that fails once.
type badDisk struct {
	writer.OS
	op    string // "write data.txt"; a file that is set aside is called orphan
	nth   int    // from 1
	err   error
	short int // so many bytes of a write arrive all the same

	mu    sync.Mutex
	seen  int
	fired bool
}

func (d *badDisk) step(op, name string) (short int, err error) {
	base := filepath.Base(name)
	if strings.HasSuffix(filepath.Dir(name), ".orphans") {
		base = "orphan"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fired || op+" "+base != d.op {
		return 0, nil
	}
	if d.seen++; d.seen < d.nth {
		return 0, nil
	}
	d.fired = true
	return d.short, fmt.Errorf("%s: %w", d.op, d.err)
}

func (d *badDisk) Open(name string, flag int) (writer.Handle, error) {
	h, err := d.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &badHandle{Handle: h, disk: d, name: name}, nil
}

func (d *badDisk) Mkdir(name string) error {
	if _, err := d.step("mkdir", name); err != nil {
		return err
	}
	return d.OS.Mkdir(name)
}

func (d *badDisk) SyncDir(name string) error {
	what := "volume"
	if strings.HasSuffix(name, ".orphans") {
		what = "orphans"
	}
	if _, err := d.step("syncdir", what); err != nil {
		return err
	}
	return d.OS.SyncDir(name)
}

type badHandle struct {
	writer.Handle
	disk *badDisk
	name string
}

func (h *badHandle) Write(b []byte) (int, error) {
	if short, err := h.disk.step("write", h.name); err != nil {
		n, failed := h.Handle.Write(b[:min(short, len(b))])
		return n, errors.Join(err, failed)
	}
	return h.Handle.Write(b)
}

func (h *badHandle) WriteAt(b []byte, off int64) (int, error) {
	if _, err := h.disk.step("write", h.name); err != nil {
		return 0, err
	}
	return h.Handle.WriteAt(b, off)
}

func (h *badHandle) Truncate(size int64) error {
	if _, err := h.disk.step("truncate", h.name); err != nil {
		return err
	}
	return h.Handle.Truncate(size)
}

func (h *badHandle) Sync() error {
	if _, err := h.disk.step("sync", h.name); err != nil {
		return err
	}
	return h.Handle.Sync()
}

func (h *badHandle) Datasync() error {
	if _, err := h.disk.step("datasync", h.name); err != nil {
		return err
	}
	return h.Handle.Datasync()
}

// on are the options of an agent on that disk.
func (s *site) on(disk *badDisk, source fleet.Source) fleet.Options {
	opts := s.calm(source)
	opts.Open = func(agent string) (*writer.File, error) {
		return writer.Open(writer.Options{Path: s.path, Agent: agent, Wait: 5 * time.Second, FS: disk})
	}
	return opts
}

// leftover is what a dead holder left behind head.
func (s *site) leftover(turn int) {
	s.t.Helper()
	s.put("", fmt.Appendf(s.read(), "#turn %d agent-9 lines=2 byt", turn))
}

// A disk that does not confirm: nothing is acknowledged, nobody writes any more, and a
// person who has looked at it lets the fleet go on.
func TestADiskThatDoesNotConfirmHaltsTheFleet(t *testing.T) {
	for _, disk := range []*badDisk{
		{op: "datasync data.txt", nth: 1}, // a turn's
		{op: "datasync data.txt", nth: 3},
		{op: "sync data.txt", nth: 1}, // the cut of a leftover's
	} {
		t.Run(fmt.Sprint(disk.op, disk.nth), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			s.turns("before", 2)
			if disk.op == "sync data.txt" {
				s.leftover(3)
			}
			disk.err = syscall.EIO
			source := &script{name: "mine", count: 4}
			err := s.run(s.on(disk, source))
			if !disk.fired || !errors.Is(err, writer.ErrSync) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("fired %v, got %v", disk.fired, err)
			}
			if want := 4 - (disk.nth - 1); source.Pending() != want {
				t.Errorf("%d records are not acknowledged, want %d", source.Pending(), want)
			}
			s.wantHaltAndResume("input/output error")
			if err := s.run(s.calm(source)); err != nil {
				t.Fatal(err)
			}
			s.verify()
			s.wantOnce(&script{name: "before", count: 2}, source)
		})
	}
}

// The very first turn's disk.
func TestADiskThatDoesNotConfirmTheBeginningHaltsTheFleet(t *testing.T) {
	for _, op := range []string{"sync data.txt.fence", "datasync data.txt", "syncdir volume"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			disk := &badDisk{op: op, nth: 1, err: syscall.EIO}
			source := &script{name: "mine", count: 2}
			if err := s.run(s.on(disk, source)); !disk.fired || !errors.Is(err, writer.ErrSync) || source.Pending() != 2 {
				t.Fatalf("fired %v, got %v, %d pending", disk.fired, err, source.Pending())
			}
			s.wantHaltAndResume("input/output error")
			if err := s.run(s.calm(source)); err != nil {
				t.Fatal(err)
			}
			s.verify()
			s.wantOnce(source)
		})
	}
}

// wantHaltAndResume: the fleet is halted for that reason, and another agent changes
// nothing; then the halt is lifted.
func (s *site) wantHaltAndResume(why string) {
	s.t.Helper()
	sess := s.onlooker()
	if halt := s.look(sess).Halt; halt == nil || !strings.Contains(halt.Why, why) {
		s.t.Fatalf("the halt is %+v, want %q", halt, why)
	}
	before := s.everything()
	if err := s.run(s.calm(&script{name: "other", count: 1})); !errors.Is(err, filelock.ErrHalted) {
		s.t.Errorf("another agent: %v", err)
	}
	s.wantUnchanged(before)
	if _, err := filelock.Resume(s.t.Context(), sess, s.root); err != nil {
		s.t.Fatal(err)
	}
}

// A disk that is full, or does not take a write: nothing is committed or acknowledged,
// nothing committed is cut, and when there is room the same records are written once.
func TestAWriteThatFailsLosesNothingAndHaltsNobody(t *testing.T) {
	for _, disk := range []*badDisk{
		{op: "write data.txt", nth: 2, err: syscall.ENOSPC, short: 0},
		{op: "write data.txt", nth: 2, err: syscall.ENOSPC, short: 1},
		{op: "write data.txt", nth: 2, err: syscall.ENOSPC, short: 40},
		{op: "write data.txt", nth: 2, err: syscall.ENOSPC, short: 1 << 20}, // all of it, and an error
		{op: "write data.txt", nth: 1, err: syscall.EIO, short: 40},
		{op: "write data.txt.fence", nth: 1, err: syscall.EIO},
		{op: "mkdir data.txt.orphans", nth: 1, err: syscall.ENOSPC},
		{op: "write orphan", nth: 1, err: syscall.ENOSPC, short: 5},
		{op: "sync orphan", nth: 1, err: syscall.ENOSPC},
		{op: "truncate data.txt", nth: 1, err: syscall.EIO},
	} {
		t.Run(fmt.Sprint(disk.op, " ", disk.nth, " ", disk.short, " ", disk.err), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, zktest.Shared(t))
			s.turns("before", 2)
			committed := s.read()
			if strings.Contains(disk.op, "orphan") || strings.HasPrefix(disk.op, "truncate") {
				s.leftover(3)
			}
			whole := s.read()
			source := &script{name: "mine", count: 3}
			err := s.run(s.on(disk, source))
			if !disk.fired || !errors.Is(err, disk.err) || errors.Is(err, writer.ErrSync) || errors.Is(err, writer.ErrRefused) {
				t.Fatalf("fired %v, got %v", disk.fired, err)
			}
			sess := s.onlooker()
			status := s.look(sess)
			if status.Halt != nil || status.Holder != nil {
				t.Errorf("halted: %+v, holder: %+v", status.Halt, status.Holder)
			}
			acknowledged := source.count - source.Pending()
			if int(status.Head.Turn) != 2+acknowledged {
				t.Errorf("head is at turn %d, %d were acknowledged", status.Head.Turn, 2+acknowledged)
			}
			now := s.read()
			if !strings.HasPrefix(string(now), string(committed)) {
				t.Error("what was committed is not there any more")
			}
			if len(whole) > len(committed) && string(now) != string(whole) {
				t.Error("the leftover was cut, and is nowhere")
			}
			if err := s.run(s.calm(source)); err != nil {
				t.Fatal(err)
			}
			s.verify()
			s.wantOnce(&script{name: "before", count: 2}, source)
			if tail := string(whole[len(committed):]); tail != "" && !allAre(s.orphans(), tail) {
				t.Errorf("set aside: %q, want %q", s.orphans(), tail)
			}
		})
	}
}

// allAre tells whether there are some, each the same. (What was copied and then not cut
// is copied again.)
func allAre(texts []string, want string) bool {
	return len(texts) > 0 && !slices.ContainsFunc(texts, func(text string) bool { return text != want })
}
