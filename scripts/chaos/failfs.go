package main

import (
	"path/filepath"
	"strings"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// failFS is the real file system with failpoints around the operations that matter,
// and with a disk that keeps only what was synced, where a kind asks for one.
type failFS struct {
	writer.FS
	points *failpoints
	disk   *disk // nil: not kept
}

// what names the file as failpoints do.
func what(name string) string {
	switch {
	case strings.HasSuffix(name, ".fence"):
		return "fence"
	case strings.HasSuffix(filepath.Dir(name), ".orphans"):
		return "orphan"
	}
	return "data"
}

func (fs *failFS) Open(name string, flag int) (writer.Handle, error) {
	point := what(name) + ".open"
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
	return &failHandle{Handle: h, fs: fs, name: name, what: what(name), dirty: -1}, nil
}

func (fs *failFS) Mkdir(name string) error {
	if err := fs.points.reach("orphan.mkdir.before"); err != nil {
		return err
	}
	return fs.FS.Mkdir(name)
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
	what  string
	dirty int64 // from here on the disk may have other bytes; -1: nothing written yet
}

// step is the failpoints' name for an operation on this file. The fence is written
// twice a turn: when its holder enters, and with the receipt.
func (h *failHandle) step(operation string) string {
	if h.what == "fence" && h.fs.points.isReceipt() {
		return "receipt." + operation
	}
	return h.what + "." + operation
}

func (h *failHandle) Write(b []byte) (int, error) {
	info, err := h.Stat()
	if err != nil {
		return 0, err
	}
	h.touch(info.Size)
	return h.write("write", b, h.Handle.Write)
}

func (h *failHandle) WriteAt(b []byte, at int64) (int, error) {
	h.touch(at)
	return h.write("write", b, func(b []byte) (int, error) {
		n, err := h.Handle.WriteAt(b, at)
		at += int64(n)
		return n, err
	})
}

// write writes b, or half of it and then what the failpoint says.
func (h *failHandle) write(operation string, b []byte, write func([]byte) (int, error)) (n int, err error) {
	points, step := h.fs.points, h.step(operation)
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

func (h *failHandle) Truncate(size int64) error {
	h.touch(size)
	return h.fs.around(h.step("truncate"), func() error { return h.Handle.Truncate(size) })
}

func (h *failHandle) Sync() error {
	return h.fs.around(h.step("sync"), func() error { return h.synced(h.Handle.Sync()) })
}

func (h *failHandle) Datasync() error {
	return h.fs.around(h.step("datasync"), func() error { return h.synced(h.Handle.Datasync()) })
}

func (h *failHandle) TryLock() error {
	return h.fs.around(h.step("lock"), h.Handle.TryLock)
}

func (h *failHandle) Unlock() error {
	err := h.fs.around(h.step("unlock"), h.Handle.Unlock)
	if h.what == "fence" {
		h.fs.points.atReceipt(false)
	}
	return err
}

func (h *failHandle) touch(from int64) {
	if h.dirty < 0 || from < h.dirty {
		h.dirty = from
	}
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
