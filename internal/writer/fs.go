package writer

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is what the writer needs of a file system, and no more, so that tests can
// make every single operation fail, and power go out between any two of them.
type FS interface {
	// Open opens name, never following a symbolic link in the last element. flag is
	// os.O_RDWR or os.O_RDONLY, with what the mode asks for, and os.O_CREATE as wanted.
	Open(name string, flag int) (Handle, error)
	// Lstat describes name itself, not what a link there points to.
	Lstat(name string) (Info, error)
	// SyncDir must not return nil until the directory's entries are on disk.
	SyncDir(name string) error
}

// Handle is one open file.
type Handle interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (Info, error)
	// Datasync must not return nil until the file's data and size are on disk.
	Datasync() error
}

// Info says which file it is. Two Infos with equal Dev and Ino are of one file.
type Info struct {
	Dev, Ino uint64
	Links    uint64
	Size     int64
	Regular  bool
}

// OS is the real file system.
type OS struct{}

// Open is FS's.
func (OS) Open(name string, flag int) (Handle, error) {
	if flag&os.O_RDWR == 0 {
		flag |= unix.O_NONBLOCK // a FIFO would make us wait for somebody who writes
	}
	f, err := os.OpenFile(name, flag|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Lstat is FS's.
func (OS) Lstat(name string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return Info{}, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return info(&st), nil
}

// SyncDir is FS's.
func (OS) SyncDir(name string) error {
	dir, err := os.Open(filepath.Clean(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

type osFile struct{ *os.File }

func (f osFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Info{}, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return info(&st), nil
}

// Datasync may run beside the other methods, Close among them.
func (f osFile) Datasync() error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		for { // what a signal interrupted did not fail
			if failed = unix.Fdatasync(int(fd)); !errors.Is(failed, unix.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, failed)
}

func info(st *unix.Stat_t) Info {
	return Info{
		Dev: uint64(st.Dev), Ino: st.Ino, Links: uint64(st.Nlink), Size: st.Size,
		Regular: st.Mode&unix.S_IFMT == unix.S_IFREG,
	}
}
