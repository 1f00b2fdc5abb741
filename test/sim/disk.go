package sim

import (
	"fmt"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

const (
	volume = "/v"
	sector = 512
)

// disk is the volume: what processes see, and what would be left after a power loss. On a
// volume of one kernel what they see is the page cache; else it is what the server has,
// and every host may have a page cache of its own before it (cache.go).
type disk struct {
	w          *world
	live, safe map[string]*inode // the directory entries; safe are those on disk
	inodes     uint64
	flights    []*step // writes of processes that were killed, on their way to the server
}

type inode struct {
	id         uint64
	live, safe []byte
	given      []bool // sectors that the disk gave up on: a sync that failed forgets them
	failed     int    // how often writing to the disk has failed
	told       bool   // somebody was told of the last time
}

func newDisk(w *world) *disk {
	return &disk{w: w, live: map[string]*inode{}, safe: map[string]*inode{}}
}

// network tells whether the volume is another machine's.
func (d *disk) network() bool { return len(d.w.hosts) > 1 }

// procFS is the disk as one process sees it.
type procFS struct {
	p *proc
	*disk
}

func (d procFS) Open(name string, flag int) (writer.Handle, error) {
	d.p.onVolume("opening " + path.Base(name))
	fail := func(err error) (writer.Handle, error) {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	if sick := d.p.host.sick; sick == syscall.EIO || sick == syscall.EROFS && flag&os.O_RDWR != 0 {
		return fail(sick)
	}
	file := d.live[name]
	switch {
	case file == nil && flag&os.O_CREATE == 0:
		return fail(os.ErrNotExist)
	case file == nil:
		if d.p.host.sick != nil {
			return fail(d.p.host.sick)
		}
		if d.w.breaks(diskWrite) {
			return fail(syscall.ENOSPC)
		}
		d.inodes++
		file = &inode{id: d.inodes}
		d.live[name] = file
		if d.network() {
			d.safe[name] = file
		}
	}
	h := &handle{p: d.p, inode: file, flag: flag, failed: file.failed}
	if file.failed > 0 && !file.told {
		h.failed-- // as Linux has it: what nobody was told yet the next one is
	}
	h.cache().refresh(file)
	return h, nil
}

func (d procFS) Lstat(name string) (writer.Info, error) {
	d.p.asksVolume("looking at the path")
	if file := d.live[name]; file != nil {
		return file.info(), nil
	}
	return writer.Info{}, &os.PathError{Op: "lstat", Path: name, Err: os.ErrNotExist}
}

func (d procFS) SyncDir(name string) error {
	d.p.onVolume("syncing the directory " + path.Base(name))
	if d.p.host.sick == syscall.EIO {
		return syscall.EIO
	}
	if d.w.breaks(diskSync) {
		return syscall.EIO
	}
	d.syncDir()
	return nil
}

func (d *disk) syncDir() {
	d.safe = map[string]*inode{}
	for p, file := range d.live {
		d.safe[p] = file
	}
}

func (n *inode) info() writer.Info {
	return writer.Info{Dev: 1, Ino: n.id, Links: 1, Size: int64(len(n.live)), Regular: true}
}

// put changes what processes see.
func (n *inode) put(b []byte, at int) {
	n.resize(max(len(n.live), at+len(b)))
	copy(n.live[at:], b)
	for i := at / sector; i*sector < at+len(b); i++ {
		n.given[i] = false
	}
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

// keep puts what processes see of a range on disk.
func (n *inode) keep(at, size int) {
	n.safe = append(n.safe, make([]byte, max(0, at+size-len(n.safe)))...)
	copy(n.safe[at:at+size], n.live[at:])
}

// flush puts the sectors on disk that are chosen, and were not given up.
func (n *inode) flush(chosen func() bool) {
	for i, given := range n.given {
		if from := i * sector; !given && from < len(n.live) && n.dirty(i) && chosen() {
			n.keep(from, min(sector, len(n.live)-from))
		}
	}
}

// dirty tells whether a sector is not on disk.
func (n *inode) dirty(i int) bool {
	from, to := i*sector, min((i+1)*sector, len(n.live))
	return to > len(n.safe) || string(n.live[from:to]) != string(n.safe[from:to])
}

// failToFlush is a writeback that fails. The kernel takes the pages for clean, though they
// are not on disk, and the next sync has nothing to do for them. Every descriptor that is
// open now is told of it once.
func (n *inode) failToFlush(t *tape) {
	for i := range n.given {
		n.given[i] = n.given[i] || t.chance(2)
	}
	n.failed, n.told = n.failed+1, false
}

// forget drops the pages that were given up: what is on disk is read again.
func (n *inode) forget() (any bool) {
	for i, given := range n.given {
		if from := i * sector; given && from < len(n.live) {
			part := n.live[from:min(from+sector, len(n.live))]
			clear(part)
			copy(part, n.safe[min(from, len(n.safe)):])
			n.given[i], any = false, true
		}
	}
	return any
}

// losePower leaves what is on disk, and of the rest each sector, each length and each
// entry or not. Who has a file open on another machine, has it open still.
func (d *disk) losePower() {
	entries := map[string]*inode{}
	for _, name := range d.names() {
		file := d.live[name]
		if file != d.safe[name] && !d.w.tape.chance(2) {
			file = d.safe[name]
		}
		if file != nil {
			file.live = d.mixed(file)
			entries[name] = file
		}
	}
	d.settle(entries)
}

// settle makes entries all that is there, and on disk.
func (d *disk) settle(entries map[string]*inode) {
	d.live, d.safe = map[string]*inode{}, map[string]*inode{}
	for name, file := range entries {
		file.safe, file.given, file.failed = slices.Clone(file.live), nil, 0
		file.resize(len(file.live))
		d.live[name], d.safe[name] = file, file
	}
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

// snapshot is a backup of the volume.
func (d *disk) snapshot() map[string]*inode {
	entries := map[string]*inode{}
	for name, file := range d.live {
		entries[name] = d.copyOf(file)
	}
	return entries
}

func (d *disk) copyOf(file *inode) *inode {
	d.inodes++
	return &inode{id: d.inodes, live: slices.Clone(file.live)}
}

// content is the data file's, as processes see it, durable what is on disk of it.
func (d *disk) content() []byte {
	if file := d.live[dataFile]; file != nil {
		return file.live
	}
	return nil
}

func (d *disk) durable() []byte {
	if file := d.safe[dataFile]; file != nil {
		return file.safe
	}
	return nil
}

func (d *disk) String() string {
	return fmt.Sprintf("%d bytes, of which %d on disk", len(d.content()), len(d.durable()))
}
