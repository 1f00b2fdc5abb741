package volume

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// liar is the real file system, but for what a test has it lie about. A nil function
// tells the truth. name is a file's last element.
type liar struct {
	osDisk
	clock *clock

	on     string // the line of mountinfo; "" is a local file system
	volume string // the setting

	openErr    error // of files opened with flags
	opened     func(name string, flag int)
	names      func(name string) string
	moved      func(from, to string) error
	mkfifoErr  error
	syncDirErr error
	hungUp     func(truth bool) (bool, error)
	write      func(f *lyingFile, b []byte, off int64) (int, error)
	read       func(f *lyingFile, b []byte)
	sync       func() error
	cost       time.Duration // of a datasync, on the clock
}

const local = "27 1 254:0 / /v rw,relatime - ext4 /dev/vda rw"

func (l *liar) mountOf(string) (mount, error) {
	line := l.on
	if line == "" {
		line = local
	}
	m, _ := parseMount(line)
	return m, nil
}

// open leaves O_DIRECT and the like out: not every file system has them.
func (l *liar) open(name string, flag int) (file, error) {
	plain := flag & (os.O_RDWR | os.O_CREATE | os.O_EXCL)
	if l.opened != nil {
		l.opened(filepath.Base(name), flag&^plain)
	}
	if flag != plain && l.openErr != nil {
		return nil, l.openErr
	}
	f, err := l.osDisk.open(name, plain)
	if err != nil {
		return nil, err
	}
	return &lyingFile{file: f, liar: l, name: filepath.Base(name)}, nil
}

func (l *liar) lstat(name string) (os.FileInfo, error) {
	if l.names != nil {
		name = filepath.Join(filepath.Dir(name), l.names(filepath.Base(name)))
	}
	return l.osDisk.lstat(name)
}

func (l *liar) move(from, to string) error {
	if l.moved != nil {
		return l.moved(from, to)
	}
	return l.osDisk.move(from, to)
}

func (l *liar) mkfifo(name string) error {
	if l.mkfifoErr != nil {
		return l.mkfifoErr
	}
	return l.osDisk.mkfifo(name)
}

func (l *liar) syncDir(name string) error {
	if l.syncDirErr != nil {
		return l.syncDirErr
	}
	return l.osDisk.syncDir(name)
}

func (l *liar) listen(name string) (listener, error) {
	r, err := l.osDisk.listen(name)
	return lyingListener{r, l}, err
}

type lyingListener struct {
	listener
	liar *liar
}

func (r lyingListener) HungUp(wait time.Duration) (bool, error) {
	if r.liar.hungUp == nil {
		return r.listener.HungUp(wait)
	}
	truth, err := r.listener.HungUp(0)
	if err != nil {
		return truth, err
	}
	return r.liar.hungUp(truth)
}

type lyingFile struct {
	file
	liar *liar
	name string
}

func (f *lyingFile) WriteAt(b []byte, off int64) (int, error) {
	f.liar.clock.add(5 * time.Microsecond)
	if f.liar.write != nil {
		return f.liar.write(f, b, off)
	}
	return f.file.WriteAt(b, off)
}

func (f *lyingFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.file.ReadAt(b, off)
	if f.liar.read != nil {
		f.liar.read(f, b[:n])
	}
	return n, err
}

func (f *lyingFile) Datasync() error {
	f.liar.clock.add(f.liar.cost)
	if f.liar.sync != nil {
		return f.liar.sync()
	}
	return nil
}

// thread is a process that is none: what it has open is closed when it is killed.
type thread struct{ *worker }

func (p thread) ask(ctx context.Context, r request) (answer, error) {
	a := p.do(ctx, r)
	return a, a.err()
}

func (p thread) kill() { p.close() }

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
func newLiar() *liar { return &liar{clock: &clock{}, volume: Auto, cost: 200 * time.Microsecond} }

// judge checks a directory on the liar's file system. Nothing may be left behind.
func (l *liar) judge(t testing.TB) (Report, error) {
	t.Helper()
	dir := t.TempDir()
	c := &checker{
		Options: Options{Dir: dir, Volume: l.volume, For: 20 * time.Millisecond},
		disk:    l, mount: l.mountOf, now: l.clock.now, space: 256 << 10,
	}
	c.spawn = func(context.Context) (process, error) { return thread{newWorker(l)}, nil }
	r, err := c.check(t.Context())
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
