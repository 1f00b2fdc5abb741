package volume

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// disk is what is tried of a file system. Tests put one that lies in its place.
type disk interface {
	open(name string, flag int) (file, error)
	lstat(name string) (os.FileInfo, error)
	// move renames without replacing: a name that is taken is os.ErrExist.
	move(from, to string) error
	// syncDir must not return nil until the directory's entries are on the disk.
	syncDir(name string) error
	mkfifo(name string) error
	// listen opens a FIFO for reading, without waiting for somebody who writes.
	listen(name string) (listener, error)
	// attach opens a FIFO for writing; somebody must be reading.
	attach(name string) (io.Closer, error)
}

// file is one open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (os.FileInfo, error)
	// Datasync must not return nil until what was written is on the disk.
	Datasync() error
}

// listener is a FIFO's reading end.
type listener interface {
	// HungUp waits, at most so long, until the last one who wrote is gone.
	HungUp(wait time.Duration) (bool, error)
	io.Closer
}

// osDisk is the real file system.
type osDisk struct{}

func (osDisk) open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

func (f osFile) Datasync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (osDisk) lstat(name string) (os.FileInfo, error) { return os.Lstat(name) }

// move links and unlinks where rename has no such flag, as on NFS.
func (osDisk) move(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return moveByLink(from, to)
	}
	return err
}

func moveByLink(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

func (osDisk) syncDir(name string) error {
	dir, err := os.Open(filepath.Clean(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (osDisk) mkfifo(name string) error { return unix.Mkfifo(name, 0o600) }

func (osDisk) listen(name string) (listener, error) {
	fd, err := openFIFO(name, unix.O_RDONLY)
	return pipe(fd), err
}

func (osDisk) attach(name string) (io.Closer, error) {
	fd, err := openFIFO(name, unix.O_WRONLY)
	return pipe(fd), err
}

func openFIFO(name string, flag int) (fd int, err error) {
	for {
		fd, err = unix.Open(name, flag|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// pipe is a descriptor that the runtime's poller does not know, for poll itself is what
// is tried.
type pipe int

func (p pipe) Close() error { return unix.Close(int(p)) }

func (p pipe) HungUp(wait time.Duration) (bool, error) {
	for end := time.Now().Add(wait); ; {
		fds := []unix.PollFd{{Fd: int32(p), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, int(max(0, time.Until(end)).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, os.NewSyscallError("poll the FIFO", err)
		}
		return fds[0].Revents&unix.POLLHUP != 0, nil
	}
}
