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
	// Open opens name, never following a symbolic link in the last element.
	// flag is os.O_RDWR, with os.O_APPEND, os.O_CREATE, os.O_EXCL as wanted.
	Open(name string, flag int) (Handle, error)
	// Lstat describes name itself, not what a link there points to.
	Lstat(name string) (Info, error)
	// Mkdir makes a directory; one that is there already is no error.
	Mkdir(name string) error
	// Remove removes a file.
	Remove(name string) error
	// SyncDir must not return nil until the directory's entries are on disk.
	SyncDir(name string) error
}

// Handle is one open file.
type Handle interface {
	io.ReaderAt
	io.WriterAt
	io.Writer
	io.Closer
	Stat() (Info, error)
	Truncate(size int64) error
	// Sync must not return nil until the file's data and size are on disk.
	Sync() error
	// Datasync is Sync without what is not needed to read the data back.
	Datasync() error
	// TryLock takes the exclusive flock of this open file, or fails at once with
	// ErrLocked.
	TryLock() error
	Unlock() error
}

// Info says which file it is. Two Infos with equal Dev and Ino are of one file.
type Info struct {
	Dev, Ino uint64
	Links    uint64
	Size     int64
	Regular  bool
}

// ErrLocked is what TryLock answers when another open file has the lock.
var ErrLocked = errors.New("locked by another process")

// OS is the real file system.
type OS struct{}

func (OS) Open(name string, flag int) (Handle, error) {
	f, err := os.OpenFile(name, flag|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (OS) Lstat(name string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return Info{}, &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	return info(&st), nil
}

func (OS) Mkdir(name string) error {
	if err := os.Mkdir(name, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func (OS) Remove(name string) error { return os.Remove(name) }

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

func (f osFile) Datasync() error {
	return ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) })
}

func (f osFile) TryLock() error {
	err := ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func (f osFile) Unlock() error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// ignoringEINTR repeats what a signal interrupted: it did not fail.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func info(st *unix.Stat_t) Info {
	return Info{
		Dev: uint64(st.Dev), Ino: st.Ino, Links: uint64(st.Nlink), Size: st.Size,
		Regular: st.Mode&unix.S_IFMT == unix.S_IFREG,
	}
}
