package writer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// AdoptFS is what an adoption needs of a file system beside [FS].
type AdoptFS interface {
	FS
	// Create makes an empty file with the mode and the owner of another one. The error is
	// os.ErrExist when the name is taken.
	Create(name, like string) error
	// Clone gives the file to, which is empty, the content of from, by sharing it. On an
	// error the content has to be copied.
	Clone(from, to string) error
	// Move renames without replacing: the error is os.ErrExist when to is there, and
	// errors.ErrUnsupported when the file system cannot promise that.
	Move(from, to string) error
	// Rename renames, and replaces what is there.
	Rename(from, to string) error
	// Link gives a file a second name. The error is os.ErrExist when to is there.
	Link(from, to string) error
	Remove(name string) error
	// Names lists a directory.
	Names(dir string) ([]string, error)
}

// Create is AdoptFS's.
func (OS) Create(name, like string) (err error) {
	var want unix.Stat_t
	if err := unix.Lstat(like, &want); err != nil {
		return &os.PathError{Op: "lstat", Path: like, Err: err}
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(name) // empty, and made just now
		}
	}()
	var has unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &has); err != nil {
		return &os.PathError{Op: "fstat", Path: name, Err: err}
	}
	if has.Uid != want.Uid || has.Gid != want.Gid {
		if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return &RefusedError{
				Why:  fmt.Sprintf("%s belongs to user %d, group %d, and what user %d makes cannot be given to them (%v)", like, want.Uid, want.Gid, os.Geteuid(), err),
				Next: fmt.Sprintf("nothing was changed; run it as user %d", want.Uid),
			}
		}
	}
	return f.Chmod(os.FileMode(want.Mode & 0o777))
}

// Clone is AdoptFS's.
func (OS) Clone(from, to string) error {
	src, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())), dst.Close())
}

// Move is AdoptFS's.
func (OS) Move(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = errors.ErrUnsupported
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Rename is AdoptFS's.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Link is AdoptFS's.
func (OS) Link(from, to string) error { return os.Link(from, to) }

// Remove is AdoptFS's.
func (OS) Remove(name string) error { return os.Remove(name) }

// Names is AdoptFS's.
func (OS) Names(dir string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Clean(dir))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}
