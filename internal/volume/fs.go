package volume

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// FS is what is tried: the writer's operations, and those that others may do to its
// files.
type FS interface {
	writer.FS
	// Kind names a directory's file system and tells whether its flock is trusted.
	Kind(dir string) (name string, trusted bool, err error)
	Rename(from, to string) error
	Link(from, to string) error
	Symlink(target, name string) error
	Mkfifo(name string) error
	// Listen opens a FIFO for reading, without waiting for somebody who writes.
	Listen(name string) (Listener, error)
	// Attach opens a FIFO for writing; somebody must be reading.
	Attach(name string) (io.Closer, error)
}

// Listener is a FIFO's reading end.
type Listener interface {
	// HungUp waits, at most so long, until the last one who wrote is gone.
	HungUp(wait time.Duration) (bool, error)
	io.Closer
}

// OS is the real file system.
type OS struct{ writer.OS }

func (OS) Kind(dir string) (string, bool, error) { return writer.Kind(dir) }

func (OS) Rename(from, to string) error { return os.Rename(from, to) }

func (OS) Link(from, to string) error { return os.Link(from, to) }

func (OS) Symlink(target, name string) error { return os.Symlink(target, name) }

func (OS) Mkfifo(name string) error {
	if err := unix.Mkfifo(name, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: name, Err: err}
	}
	return nil
}

func (OS) Listen(name string) (Listener, error) {
	fd, err := openFIFO(name, unix.O_RDONLY)
	return listener(fd), err
}

func (OS) Attach(name string) (io.Closer, error) {
	fd, err := openFIFO(name, unix.O_WRONLY)
	return listener(fd), err
}

func openFIFO(name string, flag int) (fd int, err error) {
	for {
		fd, err = unix.Open(name, flag|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return -1, &os.PathError{Op: "open the FIFO", Path: name, Err: err}
	}
	return fd, nil
}

// listener is a descriptor that the runtime's poller does not know, for poll itself is
// what is tried.
type listener int

func (l listener) Close() error { return unix.Close(int(l)) }

func (l listener) HungUp(wait time.Duration) (bool, error) {
	for end := time.Now().Add(wait); ; {
		fds := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
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
