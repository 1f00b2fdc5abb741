package volume

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// liar is the real file system, but for what a test has it lie about. A nil function
// tells the truth. name is a file's last element.
type liar struct {
	OS
	clock *clock

	kind     func() (string, bool)
	lstat    func(name string, truth writer.Info) writer.Info
	opened   func(name string, truth writer.Info)
	follow   bool // symbolic links
	remove   func(name string) (done bool)
	link     error
	mkfifo   error
	syncDir  error
	hungUp   func(truth bool) (bool, error)
	lock     func(h *lyingHandle) error
	unlock   func() (done bool)
	write    func(h *lyingHandle, b []byte) (int, error)
	read     func(h *lyingHandle, b []byte)
	truncate func() (done bool)
	sync     func() error
	cost     time.Duration // of a datasync, on the clock
	immortal bool          // what a killed process had open stays open
}

func (l *liar) Kind(dir string) (string, bool, error) {
	if l.kind != nil {
		name, trusted := l.kind()
		return name, trusted, nil
	}
	return "ext4", true, nil
}

func (l *liar) Open(name string, flag int) (writer.Handle, error) {
	base := filepath.Base(name)
	if target, err := os.Readlink(name); err == nil && l.follow {
		name = target
	}
	h, err := l.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	if l.opened != nil {
		info, err := h.Stat()
		if err != nil {
			return nil, err
		}
		l.opened(base, info)
	}
	return &lyingHandle{Handle: h, liar: l, name: base}, nil
}

func (l *liar) Lstat(name string) (writer.Info, error) {
	path := name
	if target, err := os.Readlink(name); err == nil && l.follow {
		path = target
	}
	info, err := l.OS.Lstat(path)
	if err == nil && l.lstat != nil {
		info = l.lstat(filepath.Base(name), info)
	}
	return info, err
}

func (l *liar) Remove(name string) error {
	if l.remove != nil && !l.remove(filepath.Base(name)) {
		return nil
	}
	return l.OS.Remove(name)
}

func (l *liar) Link(from, to string) error {
	if l.link != nil {
		return l.link
	}
	return l.OS.Link(from, to)
}

func (l *liar) Mkfifo(name string) error {
	if l.mkfifo != nil {
		return l.mkfifo
	}
	return l.OS.Mkfifo(name)
}

func (l *liar) SyncDir(name string) error {
	if l.syncDir != nil {
		return l.syncDir
	}
	return l.OS.SyncDir(name)
}

func (l *liar) Listen(name string) (Listener, error) {
	r, err := l.OS.Listen(name)
	return lyingListener{r, l}, err
}

type lyingListener struct {
	Listener
	liar *liar
}

func (r lyingListener) HungUp(wait time.Duration) (bool, error) {
	if r.liar.hungUp == nil {
		return r.Listener.HungUp(wait)
	}
	truth, err := r.Listener.HungUp(0)
	if err != nil {
		return truth, err
	}
	return r.liar.hungUp(truth)
}

type lyingHandle struct {
	writer.Handle
	liar *liar
	name string
}

func (h *lyingHandle) TryLock() error {
	if h.liar.lock != nil {
		return h.liar.lock(h)
	}
	return h.Handle.TryLock()
}

func (h *lyingHandle) Unlock() error {
	if h.liar.unlock != nil && !h.liar.unlock() {
		return nil
	}
	return h.Handle.Unlock()
}

func (h *lyingHandle) Write(b []byte) (int, error) {
	h.liar.clock.add(5 * time.Microsecond)
	if h.liar.write != nil {
		return h.liar.write(h, b)
	}
	return h.Handle.Write(b)
}

func (h *lyingHandle) ReadAt(b []byte, off int64) (int, error) {
	n, err := h.Handle.ReadAt(b, off)
	if h.liar.read != nil {
		h.liar.read(h, b[:n])
	}
	return n, err
}

func (h *lyingHandle) Truncate(size int64) error {
	if h.liar.truncate != nil && !h.liar.truncate() {
		return nil
	}
	return h.Handle.Truncate(size)
}

func (h *lyingHandle) Datasync() error {
	h.liar.clock.add(h.liar.cost)
	if h.liar.sync != nil {
		return h.liar.sync()
	}
	return nil
}

// thread is a process that is none: what it has open is closed when it is killed.
type thread struct {
	*worker
	immortal bool
}

func (p thread) ask(ctx context.Context, r request) (answer, error) {
	a := p.do(ctx, r)
	return a, a.err()
}

func (p thread) kill() {
	if !p.immortal {
		p.close()
	}
}

// clock is told how the time passes; beside that each look at it takes a while.
type clock struct {
	mu   sync.Mutex
	at   time.Time
	look time.Duration
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (c *clock) now() time.Time {
	c.add(c.look)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// newLiar tells the truth: a disk that needs a while to confirm.
func newLiar() *liar { return &liar{clock: &clock{}, cost: 200 * time.Microsecond} }

// judge checks a directory on the liar's file system. Nothing may be left behind.
func (l *liar) judge(t testing.TB) (Report, error) {
	t.Helper()
	dir := t.TempDir()
	c := &checker{Options: Options{Dir: dir, For: 20 * time.Millisecond}, fs: l, now: l.clock.now, space: 256 << 10}
	var threads []thread
	c.spawn = func(context.Context) (process, error) {
		p := thread{newWorker(l), l.immortal}
		threads = append(threads, p)
		return p, nil
	}
	r, err := c.check(t.Context())
	for _, p := range threads {
		p.close()
	}
	mustBeEmpty(t, dir)
	return r, err
}

func mustBeEmpty(t testing.TB, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

// of is the finding of a check.
func (r Report) of(t testing.TB, check string) Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Check == check })
	if i < 0 {
		t.Fatalf("no finding for %s in %+v", check, r.Findings)
	}
	return r.Findings[i]
}
