package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

const (
	volume = "/v"
	sector = 512
)

// disk is the volume: what processes see, and what would be left after a power loss.
type disk struct {
	w          *world
	live, safe map[string]*inode // the directory entries; safe are those on disk
	inodes     uint64
}

type inode struct {
	id         uint64
	live, safe []byte
	given      []bool // sectors that the disk gave up on: a sync that failed forgets them
	lock       *handle
}

func newDisk(w *world) *disk {
	return &disk{w: w, live: map[string]*inode{}, safe: map[string]*inode{}}
}

// procFS is the disk as one process sees it.
type procFS struct {
	p *proc
	*disk
}

func (d procFS) Open(name string, flag int) (writer.Handle, error) {
	d.p.step("opening " + path.Base(name))
	file := d.live[name]
	switch {
	case file == nil && flag&os.O_CREATE == 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	case file != nil && flag&os.O_EXCL != 0:
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrExist}
	case file == nil:
		if d.w.breaks(diskWrite) {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
		}
		d.inodes++
		file = &inode{id: d.inodes}
		d.live[name] = file
	}
	h := &handle{p: d.p, inode: file, name: path.Base(name), append: flag&os.O_APPEND != 0, data: name == dataFile}
	d.p.handles = append(d.p.handles, h)
	return h, nil
}

func (d procFS) Lstat(name string) (writer.Info, error) {
	d.p.stopIfDead()
	if file := d.live[name]; file != nil {
		return file.info(), nil
	}
	return writer.Info{}, &os.PathError{Op: "lstat", Path: name, Err: os.ErrNotExist}
}

// Mkdir makes no entry: directories are there when something is in them.
func (d procFS) Mkdir(string) error { d.p.stopIfDead(); return nil }

func (d procFS) Remove(name string) error {
	d.p.step("removing " + path.Base(name))
	delete(d.live, name)
	return nil
}

func (d procFS) SyncDir(name string) error {
	d.p.step("syncing the directory " + path.Base(name))
	if d.w.breaks(diskSync) {
		return syscall.EIO
	}
	for p, file := range d.live {
		if path.Dir(p) == name {
			d.safe[p] = file
		}
	}
	for p := range d.safe {
		if path.Dir(p) == name && d.live[p] == nil {
			delete(d.safe, p)
		}
	}
	return nil
}

func (n *inode) info() writer.Info {
	return writer.Info{Dev: 1, Ino: n.id, Links: 1, Size: int64(len(n.live)), Regular: true}
}

// handle is an open file of a process.
type handle struct {
	p *proc
	*inode
	name   string
	append bool
	data   bool // it is the data file
}

func (h *handle) Stat() (writer.Info, error) { h.p.stopIfDead(); return h.info(), nil }

func (h *handle) ReadAt(b []byte, off int64) (n int, err error) {
	h.p.stopIfDead()
	if off < int64(len(h.live)) {
		n = copy(b, h.live[off:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) Write(b []byte) (int, error) { return h.put(b, func() int { return len(h.live) }) }

func (h *handle) WriteAt(b []byte, off int64) (int, error) {
	if h.append {
		return 0, errors.New("WriteAt on a file opened with O_APPEND")
	}
	return h.put(b, func() int { return int(off) })
}

func (h *handle) put(b []byte, at func() int) (int, error) {
	h.p.step("writing to " + h.name)
	var err error
	if h.p.w.breaks(diskWrite) {
		err = []error{syscall.ENOSPC, syscall.EIO}[h.p.w.tape.pick(2)]
		if len(b) == sector && !h.append {
			b = nil // a sector is written or not
		} else {
			b = b[:h.p.w.tape.pick(len(b))]
		}
	}
	from := at()
	if h.data {
		h.p.w.changing(h.p, from, b)
	}
	h.resize(max(len(h.live), from+len(b)))
	copy(h.live[from:], b)
	for i := from / sector; i*sector < from+len(b); i++ {
		h.given[i] = false
	}
	return len(b), err
}

func (n *inode) resize(size int) {
	if size > len(n.live) {
		n.live = append(n.live, make([]byte, size-len(n.live))...)
	}
	n.live = n.live[:size]
	for len(n.given)*sector < size {
		n.given = append(n.given, false)
	}
}

func (h *handle) Truncate(size int64) error {
	h.p.step("truncating " + h.name)
	if h.data {
		h.p.w.cutting(h.p, int(size))
	}
	clear(h.live[min(int(size), len(h.live)):])
	h.resize(int(size))
	return nil
}

func (h *handle) Sync() error { return h.flush() }

func (h *handle) Datasync() error { return h.flush() }

func (h *handle) flush() error {
	h.p.step("syncing " + h.name)
	if h.p.w.breaks(diskSync) {
		// The kernel takes the pages for clean, though they are not on disk, and the next
		// sync has nothing to do for them.
		for i := range h.given {
			h.given[i] = h.given[i] || h.p.w.tape.chance(2)
		}
		return syscall.EIO
	}
	h.inode.flush()
	return nil
}

func (n *inode) flush() {
	safe := make([]byte, len(n.live))
	copy(safe, n.safe)
	for i, given := range n.given {
		if from := i * sector; !given && from < len(n.live) {
			copy(safe[from:min(from+sector, len(safe))], n.live[from:])
		}
	}
	n.safe = safe
}

func (h *handle) TryLock() error {
	h.p.step("locking " + h.name)
	if h.lock != nil && h.lock != h {
		return writer.ErrLocked
	}
	h.lock = h
	return nil
}

func (h *handle) Unlock() error {
	h.p.step("unlocking " + h.name)
	h.drop()
	return nil
}

func (h *handle) Close() error {
	h.p.stopIfDead()
	h.drop()
	return nil
}

func (h *handle) drop() {
	if h.lock == h {
		h.lock = nil
	}
}

// losePower leaves what is on disk, and of the rest each sector, each length and each
// entry or not.
func (d *disk) losePower() {
	entries := map[string]*inode{}
	for _, name := range d.names() {
		file := d.live[name]
		if file != d.safe[name] && !d.w.tape.chance(2) {
			file = d.safe[name]
		}
		if file != nil {
			entries[name] = &inode{id: file.id, live: d.mixed(file)}
		}
	}
	d.restore(entries)
}

func (d *disk) names() []string {
	var names []string
	for _, entries := range []map[string]*inode{d.live, d.safe} {
		for name := range entries {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

func (d *disk) mixed(file *inode) []byte {
	out := make([]byte, len(file.safe))
	if d.w.tape.chance(2) {
		out = make([]byte, len(file.live))
	}
	copy(out, file.safe)
	for from := 0; from < min(len(out), len(file.live)); from += sector {
		to := min(from+sector, len(out), len(file.live))
		if !slices.Equal(out[from:to], file.live[from:to]) && !file.given[from/sector] && d.w.tape.chance(2) {
			copy(out[from:to], file.live[from:to])
		}
	}
	return out
}

// restore makes entries all that is there, and on disk.
func (d *disk) restore(entries map[string]*inode) {
	d.live, d.safe = map[string]*inode{}, map[string]*inode{}
	for name, file := range entries {
		fresh := &inode{id: file.id, live: slices.Clone(file.live), safe: slices.Clone(file.live)}
		fresh.resize(len(fresh.live))
		d.live[name], d.safe[name] = fresh, fresh
	}
}

// snapshot is a backup of the volume.
func (d *disk) snapshot() map[string]*inode {
	entries := map[string]*inode{}
	for name, file := range d.live {
		entries[name] = &inode{id: file.id, live: slices.Clone(file.live)}
	}
	return entries
}

// content is the data file's, as processes see it.
func (d *disk) content() []byte {
	if file := d.live[dataFile]; file != nil {
		return file.live
	}
	return nil
}

// kept tells whether bytes are on disk in a file of the orphans.
func (d *disk) kept(b []byte) bool {
	for name, file := range d.safe {
		if strings.HasPrefix(name, dataFile+".orphans/") && string(file.safe) == string(b) {
			return true
		}
	}
	return false
}

func (d *disk) String() string {
	return fmt.Sprintf("%d bytes, of which %d on disk", len(d.content()), len(d.live[dataFile].safe))
}
