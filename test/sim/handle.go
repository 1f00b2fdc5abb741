package sim

import (
	"io"
	"syscall"

	"github.com/turnstile-fleet/turnstile/internal/writer"
	"golang.org/x/sys/unix"
)

// handle is an open file of a process.
type handle struct {
	p *proc
	*inode
	flag   int
	failed int // of the inode's failures, how many it was told of
}

func (h *handle) Stat() (writer.Info, error) {
	h.p.asksVolume("measuring the file")
	info := h.info()
	info.Size = h.cache().size(h.inode)
	return info, h.sickness(false)
}

// sickness is what ails the host, as reads or writes see it.
func (h *handle) sickness(write bool) error {
	if sick := h.p.host.sick; sick != nil && (write || sick == syscall.EIO || sick == syscall.ESTALE) {
		return sick
	}
	return nil
}

func (h *handle) ReadAt(b []byte, off int64) (n int, err error) {
	h.p.asksVolume("reading the file")
	if err := h.sickness(false); err != nil {
		return 0, err
	}
	n = h.cache().read(h.inode, b, int(off))
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) WriteAt(b []byte, off int64) (int, error) {
	w, at := h.p.w, int(off)
	late := func() { w.lands(h, b, at) }
	h.p.writing("writing", late)
	w.tell("%s writes %d bytes at byte %d", h.p.name, len(b), at)
	if err := h.sickness(true); err != nil && !(err == syscall.ENOSPC && at+len(b) <= len(h.live)) {
		return 0, err
	}
	if w.breaks(diskWrite) {
		n := w.tape.pick(len(b))
		h.cache().write(h, b[:n], at)
		w.seen("a write by " + h.p.name)
		if w.tape.chance(4) {
			return n, nil // cut short, and no error says why
		}
		return n, []error{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.ESTALE}[w.tape.pick(4)]
	}
	h.cache().write(h, b, at)
	w.seen("a write by " + h.p.name)
	if h.flag&unix.O_DSYNC == 0 {
		return len(b), nil
	}
	h.p.writing("having what it wrote put on disk", late)
	if w.breaks(diskSync) {
		return 0, syscall.EIO
	}
	late() // a server that has started anew is sent it again
	return len(b), nil
}

// lands lets a write that is durable when it is done arrive.
func (w *world) lands(h *handle, b []byte, at int) {
	h.put(b, at)
	h.keep(at, len(b))
	w.seen("a write by " + h.p.name)
	w.kept()
}

func (h *handle) Datasync() error {
	h.p.syncing()
	w := h.p.w
	if err := h.sickness(true); err != nil && err != syscall.ENOSPC {
		return err
	}
	if w.breaks(diskSync) {
		h.failToFlush(w.tape)
	}
	h.cache().flush(h.inode)
	h.inode.flush(func() bool { return true })
	w.seen("a sync by " + h.p.name)
	w.kept()
	if h.failed < h.inode.failed {
		h.failed, h.told = h.inode.failed, true
		return syscall.EIO
	}
	return nil
}

func (h *handle) Close() error { h.p.asksVolume("closing the file"); return nil }
