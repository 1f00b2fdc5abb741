package writer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"sync"
)

// memFS is a file system in memory that keeps a log of what was done, fails where it is
// told to, and can lose its power (memfs_power_test.go). It is an AdoptFS. Every call is
// one step. A handle is one process's own.
type memFS struct {
	mu      sync.Mutex
	live    map[string]*memNode // by path: what processes see
	safe    map[string]*memNode // the entries that are on disk
	entries []func(map[string]*memNode)
	log     []string // "write data.txt"
	faults  []*fault
	nextID  uint64
	dieAt   int  // the step at which the process dies, 0: never
	tear    int  // how many bytes of a write at that step still arrive
	old     bool // it cannot rename without replacing
}

type memNode struct {
	id         uint64
	dir        bool
	links      uint64
	live, safe []byte // what processes see; what is on disk
}

// fault makes the nth step whose name is op fail with err; of a write, short bytes arrive.
type fault struct {
	op    string // "write data.txt"; "write *" is of any file
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

// step notes an operation and tells whether it fails, and what of a write arrives all the
// same.
func (m *memFS) step(op, name string) (short int, err error) {
	what := op + " " + path.Base(name)
	if m.dieAt > 0 && len(m.log) >= m.dieAt {
		return 0, errDead
	}
	m.log = append(m.log, what)
	if len(m.log) == m.dieAt {
		return m.tear, errDead
	}
	for _, f := range m.faults {
		if f.op != what && f.op != op+" *" || f.fired {
			continue
		}
		if f.nth--; f.nth == 0 {
			f.fired = true
			return f.short, fmt.Errorf("%s: %w", what, f.err)
		}
	}
	return 0, nil
}

// do is one step on a name.
func (m *memFS) do(op, name string, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.step(op, name); err != nil {
		return err
	}
	if err := f(); err != nil {
		return &os.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// entry changes the directory: what processes see now, the disk with the next SyncDir.
func (m *memFS) entry(change func(map[string]*memNode)) {
	change(m.live)
	m.entries = append(m.entries, change)
}

func (m *memFS) make(name string) *memNode {
	m.nextID++
	node := &memNode{id: m.nextID, links: 1}
	m.entry(func(dir map[string]*memNode) { dir[name] = node })
	return node
}

func (m *memFS) Open(name string, flag int) (h Handle, err error) {
	err = m.do("open", name, func() error {
		node := m.live[name]
		switch {
		case node == nil && flag&os.O_CREATE == 0, m.live[path.Dir(name)] == nil:
			return os.ErrNotExist
		case node == nil:
			node = m.make(name)
		case node.dir:
			return errors.New("is a directory")
		}
		h = &memHandle{fs: m, node: node, name: name}
		return nil
	})
	return h, err
}

func (m *memFS) Lstat(name string) (info Info, err error) {
	err = m.do("lstat", name, func() error {
		if node := m.live[name]; node != nil {
			info = node.info()
			return nil
		}
		return os.ErrNotExist
	})
	return info, err
}

func (m *memFS) SyncDir(name string) error {
	return m.do("syncdir", name, func() error {
		for _, change := range m.entries {
			change(m.safe)
		}
		m.entries = nil
		return nil
	})
}

func (m *memFS) Create(name, like string) error {
	return m.do("create", name, func() error {
		switch {
		case m.live[like] == nil:
			return os.ErrNotExist
		case m.live[name] != nil:
			return os.ErrExist
		}
		m.make(name)
		return nil
	})
}

// Clone is for a file system that cannot; what it would do, a test does on a real one.
func (m *memFS) Clone(from, to string) error {
	return m.do("clone", to, func() error { return errors.ErrUnsupported })
}

func (m *memFS) Move(from, to string) error {
	return m.do("move", from, func() error {
		switch {
		case m.old:
			return errors.ErrUnsupported
		case m.live[from] == nil:
			return os.ErrNotExist
		case m.live[to] != nil:
			return os.ErrExist
		}
		m.entry(func(dir map[string]*memNode) { dir[to] = dir[from]; delete(dir, from) })
		return nil
	})
}

func (m *memFS) Rename(from, to string) error {
	return m.do("rename", from, func() error {
		if m.live[from] == nil {
			return os.ErrNotExist
		}
		if replaced := m.live[to]; replaced != nil {
			replaced.links--
		}
		m.entry(func(dir map[string]*memNode) { dir[to] = dir[from]; delete(dir, from) })
		return nil
	})
}

func (m *memFS) Link(from, to string) error {
	return m.do("link", from, func() error {
		switch {
		case m.live[from] == nil:
			return os.ErrNotExist
		case m.live[to] != nil:
			return os.ErrExist
		}
		m.live[from].links++
		m.entry(func(dir map[string]*memNode) { dir[to] = dir[from] })
		return nil
	})
}

func (m *memFS) Remove(name string) error {
	return m.do("remove", name, func() error {
		if m.live[name] == nil {
			return os.ErrNotExist
		}
		m.live[name].links--
		m.entry(func(dir map[string]*memNode) { delete(dir, name) })
		return nil
	})
}

func (m *memFS) Names(dir string) (names []string, err error) {
	err = m.do("list", dir, func() error {
		for p := range m.live {
			if path.Dir(p) == dir {
				names = append(names, path.Base(p))
			}
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

func (n *memNode) info() Info {
	return Info{Dev: 1, Ino: n.id, Links: n.links, Size: int64(len(n.live)), Regular: !n.dir}
}

// memHandle is an open file description.
type memHandle struct {
	fs     *memFS
	node   *memNode
	name   string
	closed bool
}

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

// WriteAt writes b, of which on a failing step only a part arrives.
func (h *memHandle) WriteAt(b []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return 0, os.ErrClosed
	}
	short, err := h.fs.step("write", h.name)
	if err != nil {
		b = b[:min(short, len(b))]
	}
	if len(b) == 0 {
		return 0, err
	}
	at, n := int(off), h.node
	n.live = append(n.live, make([]byte, max(0, at+len(b)-len(n.live)))...)
	return copy(n.live[at:], b), err
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

func (h *memHandle) Datasync() error {
	return h.do("datasync", func() error { h.node.safe = slices.Clone(h.node.live); return nil })
}

func (h *memHandle) Stat() (info Info, err error) {
	return info, h.do("stat", func() error { info = h.node.info(); return nil })
}

func (h *memHandle) Close() error { return h.do("close", func() error { h.closed = true; return nil }) }
