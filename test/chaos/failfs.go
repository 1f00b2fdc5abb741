package main

import (
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// failFS is the real file system with failpoints around the operations that matter,
// and with a disk that keeps only what was synced, where a kind asks for one.
type failFS struct {
	writer.FS
	points *failpoints
	disk   *disk // nil: not kept
}

func (fs *failFS) Open(name string, flag int) (writer.Handle, error) {
	const point = "data.open"
	if err := fs.points.reach(point + ".before"); err != nil {
		return nil, err
	}
	h, err := fs.FS.Open(name, flag)
	if err == nil {
		err = fs.points.reach(point + ".after")
	}
	if err != nil {
		return nil, err
	}
	return &failHandle{Handle: h, fs: fs, name: name, dirty: -1}, nil
}

func (fs *failFS) SyncDir(name string) error {
	return fs.around("dir.sync", func() error {
		if err := fs.FS.SyncDir(name); err != nil {
			return err
		}
		return fs.disk.syncDir(name)
	})
}

// around puts the failpoints before and after an operation.
func (fs *failFS) around(point string, do func() error) error {
	if err := fs.points.reach(point + ".before"); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return fs.points.reach(point + ".after")
}

type failHandle struct {
	writer.Handle
	fs    *failFS
	name  string
	dirty int64 // from here on the disk may have other bytes; -1: nothing written yet
}

func (h *failHandle) WriteAt(b []byte, at int64) (int, error) {
	if h.dirty < 0 || at < h.dirty {
		h.dirty = at
	}
	return h.write(b, func(b []byte) (int, error) {
		n, err := h.Handle.WriteAt(b, at)
		at += int64(n)
		return n, err
	})
}

// write writes b, or half of it and then what the failpoint says.
func (h *failHandle) write(b []byte, write func([]byte) (int, error)) (n int, err error) {
	const step = "data.write"
	points := h.fs.points
	if err := points.reach(step + ".before"); err != nil {
		return 0, err
	}
	if f := points.take(step + ".torn"); f != nil {
		if n, err = write(b[:len(b)/2]); err == nil {
			err = points.do(*f, event{})
		}
		if err != nil {
			return n, err
		}
		b = b[n:]
	}
	m, err := write(b)
	if err == nil {
		err = points.reach(step + ".after")
	}
	return n + m, err
}

func (h *failHandle) Datasync() error {
	return h.fs.around("data.datasync", func() error { return h.synced(h.Handle.Datasync()) })
}

// synced brings the file to the disk, now that the real one has it.
func (h *failHandle) synced(err error) error {
	if err == nil {
		err = h.fs.disk.sync(h.name, h.dirty)
	}
	if err == nil {
		h.dirty = -1
	}
	return err
}
