package writer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
)

// memFS is a file system in memory that keeps a log of what was done, fails where
// it is told to, and can lose its power (memfs_power_test.go). Every call of the
// writer is one step.
type memFS struct {
	mu     sync.Mutex
	live   map[string]*memNode // by path: what processes see
	safe   map[string]*memNode // the entries that are on disk
	log    []string            // "write data.txt"
	faults []*fault
	nextID uint64
	dieAt  int // the step at which the process dies, 0: never
	tear   int // how many bytes of a write at that step still arrive
}

type memNode struct {
	id         uint64
	dir        bool
	links      uint64
	live, safe []byte // what processes see; what is on disk
	lock       *memHandle
}

// fault makes the nth step whose name is op fail with err; of a write, short bytes
// arrive.
type fault struct {
	op    string // "write data.txt"
	nth   int    // from 1
	err   error
	short int
	fired bool
}

// errDead is what a process gets that is no more.
var errDead = errors.New("the process is dead")

const memDir = "/volume"

func newMemFS() *memFS {
	root := &memNode{dir: true, links: 1}
	return &memFS{live: map[string]*memNode{memDir: root}, safe: map[string]*memNode{memDir: root}}
}

func (m *memFS) fail(op string, nth int, err error, short int) *fault {
	f := &fault{op: op, nth: nth, err: err, short: short}
	m.faults = append(m.faults, f)
	return f
}

// step notes an operation and tells whether it fails, and what of a write arrives
// all the same.
func (m *memFS) step(op, name string) (short int, err error) {
	label := path.Base(name)
	if strings.HasSuffix(path.Dir(name), ".orphans") {
		label = "orphan"
	}
	what := op + " " + label
	if m.dieAt > 0 && len(m.log) >= m.dieAt {
		return 0, errDead
	}
	m.log = append(m.log, what)
	if len(m.log) == m.dieAt {
		return m.tear, errDead
	}
	for _, f := range m.faults {
		if f.op != what || f.fired {
			continue
		}
		if f.nth--; f.nth == 0 {
			f.fired = true
			return f.short, fmt.Errorf("%s: %w", what, f.err)
		}
	}
	return 0, nil
}

func (m *memFS) Open(name string, flag int) (Handle, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("open", name); err != nil {
		return nil, err
	}
	node := m.live[name]
	switch {
	case node == nil && flag&os.O_CREATE == 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	case node == nil && (m.live[path.Dir(name)] == nil || !m.live[path.Dir(name)].dir):
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	case node == nil:
		m.nextID++
		node = &memNode{id: m.nextID, links: 1}
		m.live[name] = node
	case flag&os.O_EXCL != 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrExist}
	case node.dir:
		return nil, &os.PathError{Op: "open", Path: name, Err: errors.New("is a directory")}
	}
	return &memHandle{fs: m, node: node, name: name, append: flag&os.O_APPEND != 0}, nil
}

func (m *memFS) Lstat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("lstat", name); err != nil {
		return Info{}, err
	}
	if node := m.live[name]; node != nil {
		return node.info(), nil
	}
	return Info{}, &os.PathError{Op: "lstat", Path: name, Err: os.ErrNotExist}
}

func (m *memFS) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("mkdir", name); err != nil {
		return err
	}
	if m.live[name] == nil {
		m.live[name] = &memNode{dir: true, links: 1}
	}
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("remove", name); err != nil {
		return err
	}
	delete(m.live, name)
	return nil
}

func (m *memFS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step("syncdir", name); err != nil {
		return err
	}
	if m.live[name] == nil {
		return &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	for _, entries := range []map[string]*memNode{m.live, m.safe} {
		for p := range entries {
			if path.Dir(p) != name {
				continue
			}
			if node := m.live[p]; node != nil {
				m.safe[p] = node
			} else {
				delete(m.safe, p)
			}
		}
	}
	return nil
}

func (n *memNode) info() Info {
	return Info{Dev: 1, Ino: n.id, Links: n.links, Size: int64(len(n.live)), Regular: !n.dir}
}

// memHandle is an open file description: the flock is its own.
type memHandle struct {
	fs     *memFS
	node   *memNode
	name   string
	append bool
	closed bool
}

// do is one step on an open file.
func (h *memHandle) do(op string, f func() error) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	if _, err := h.fs.step(op, h.name); err != nil {
		return err
	}
	return f()
}

// put writes b at off, of which on a failing step only a part arrives.
func (h *memHandle) put(b []byte, off func() int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return 0, os.ErrClosed
	}
	short, err := h.fs.step("write", h.name)
	if err != nil {
		if len(b) == sector && !h.append {
			short -= short % sector // a kill or a power loss does not tear a sector
		}
		b = b[:min(short, len(b))]
	}
	if len(b) == 0 {
		return 0, err
	}
	at, n := int(off()), h.node
	n.live = append(n.live, make([]byte, max(0, at+len(b)-len(n.live)))...)
	return copy(n.live[at:], b), err
}

func (h *memHandle) Write(b []byte) (int, error) {
	// The position of a file opened without O_APPEND is its end too: such a one is
	// only ever written from empty on.
	return h.put(b, func() int64 { return int64(len(h.node.live)) })
}

func (h *memHandle) WriteAt(b []byte, off int64) (int, error) {
	if h.append {
		return 0, errors.New("WriteAt on a file opened with O_APPEND")
	}
	return h.put(b, func() int64 { return off })
}

func (h *memHandle) ReadAt(b []byte, off int64) (n int, err error) {
	return n, h.do("read", func() error {
		if off < 0 {
			return errors.New("negative offset")
		}
		if off < int64(len(h.node.live)) {
			n = copy(b, h.node.live[off:])
		}
		if n < len(b) {
			return io.EOF
		}
		return nil
	})
}

func (h *memHandle) Truncate(size int64) error {
	return h.do("truncate", func() error {
		n := h.node
		n.live = append(slices.Clone(n.live[:min(size, int64(len(n.live)))]), make([]byte, max(0, size-int64(len(n.live))))...)
		return nil
	})
}

func (h *memHandle) sync() error {
	h.node.safe = slices.Clone(h.node.live)
	return nil
}

func (h *memHandle) Sync() error { return h.do("sync", h.sync) }

func (h *memHandle) Datasync() error { return h.do("datasync", h.sync) }

func (h *memHandle) Stat() (info Info, err error) {
	return info, h.do("stat", func() error { info = h.node.info(); return nil })
}

func (h *memHandle) TryLock() error {
	return h.do("lock", func() error {
		if h.node.lock != nil && h.node.lock != h {
			return ErrLocked
		}
		h.node.lock = h
		return nil
	})
}

func (h *memHandle) release() error {
	if h.node.lock == h {
		h.node.lock = nil
	}
	return nil
}

func (h *memHandle) Unlock() error { return h.do("unlock", h.release) }

func (h *memHandle) Close() error {
	return h.do("close", func() error { h.closed = true; return h.release() })
}

// steps counts the operations, by what they were.
func (m *memFS) steps(t testing.TB, since int) []string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log[since:])
}
