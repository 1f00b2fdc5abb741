// Package lifeline tells the processes of one machine of each other's death, at once
// and without asking again and again.
//
// A process holds a FIFO open for writing, in a directory that all can see. When it
// dies, however that happens, the kernel closes its descriptors, and whoever has the
// FIFO open for reading sees its end. That works across containers that share the
// directory: a FIFO belongs to the kernel, not to a container.
//
// # What it promises
//
// That somebody died is said only when no process has the FIFO open for writing. A
// process that is merely stopped, or slow, is alive. Where there is no FIFO (an unknown
// name, another directory, a file system without FIFOs, somebody removed it) nothing is
// known, which is not the same as death. A name is for one process's life and is never
// used again.
//
// # What it does not promise
//
// That a death is noticed: somebody else may have opened the FIFO for writing. It
// makes waiting shorter and must not be needed by what has to be right.
package lifeline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the directory with the FIFOs of a fleet, one for each life. Only a machine's
// own processes see each other through it.
type Dir string

// unfinished begins the name of a FIFO that its process does not hold yet.
const unfinished = "."

// tries bounds how often Hold begins again because others tidy up: each of them does
// so once.
const tries = 100

// Hold makes the FIFO called name, and the directory if need be, and holds it until
// release is called or the process ends. As soon as others can see the name it is
// held.
func (d Dir) Hold(name string) (release func(), err error) {
	if err := check(name); err != nil {
		return nil, err
	}
	final := filepath.Join(string(d), name)
	for range tries {
		var fd int
		fd, err = d.hold(filepath.Join(string(d), unfinished+name), final)
		if err == nil {
			return sync.OnceFunc(func() {
				_ = os.Remove(final) // one that stays is swept by another
				unix.Close(fd)
			}), nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			break // else somebody swept it before we held it
		}
	}
	return nil, fmt.Errorf("hold a lifeline: %w", err)
}

// hold takes a plain descriptor: an *os.File nobody refers to any more is closed.
func (d Dir) hold(temp, final string) (fd int, err error) {
	if err := os.Mkdir(string(d), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return -1, err
	}
	if info, err := os.Lstat(string(d)); err != nil {
		return -1, err
	} else if !info.IsDir() {
		return -1, fmt.Errorf("%s is not a directory", d)
	}
	if err := unix.Mkfifo(temp, 0o644); err != nil && !errors.Is(err, os.ErrExist) {
		return -1, &os.PathError{Op: "mkfifo", Path: temp, Err: err}
	}
	fd, err = openFIFO(temp, unix.O_RDWR) // on Linux that does not wait for a reader
	if err != nil {
		return -1, err
	}
	if err := os.Rename(temp, final); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Watch closes died when the process that holds the FIFO called name has let go of it.
// It looks until stop is called, once; after that nothing of it is left and died is
// closed by nobody. An error says that nothing can be known.
func (d Dir) Watch(name string) (died <-chan struct{}, stop func(), err error) {
	if err := check(name); err != nil {
		return nil, nil, err
	}
	path := filepath.Join(string(d), name)
	fd, err := openFIFO(path, unix.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	if err := file.SetReadDeadline(time.Time{}); err != nil { // then Read would not wait either
		file.Close()
		return nil, nil, err
	}
	gone, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends with the FIFO, or with stop
		defer close(ended)
		// What strangers write into it is thrown away.
		if _, err := io.Copy(io.Discard, file); err == nil {
			close(gone)
		}
	}()
	return gone, func() { file.Close(); <-ended }, nil
}

// Sweep removes the FIFOs that nobody holds, but those that keep names. It asks keep
// after it has found out which they are, so that who died before is still known to
// those who have a use for it; and not at all when there are none.
func (d Dir) Sweep(keep func() ([]string, error)) error {
	let, err := d.letGo()
	if err != nil || len(let) == 0 {
		return err
	}
	kept, err := keep()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range let {
		if slices.Contains(kept, name) {
			continue
		}
		if err := os.Remove(filepath.Join(string(d), name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// letGo lists the FIFOs that nobody holds. One with a stranger's bytes in it is left
// for later.
func (d Dir) letGo() (names []string, err error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if check(strings.TrimPrefix(e.Name(), unfinished)) != nil {
			continue
		}
		fd, err := openFIFO(filepath.Join(string(d), e.Name()), unix.O_RDONLY)
		if err != nil {
			continue // gone meanwhile, or none of ours
		}
		n, err := unix.Read(fd, make([]byte, 1))
		unix.Close(fd)
		if n == 0 && err == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// openFIFO opens a FIFO and nothing else, without waiting for its other end.
func openFIFO(path string, mode int) (fd int, err error) {
	fd, err = unix.Open(path, mode|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is not a FIFO", path)
	}
	return fd, nil
}

// maxName is more than a UUID has.
const maxName = 64

// check keeps a name, which may be anybody's, inside the directory.
func check(name string) error {
	if name == "" || len(name) > maxName || strings.Trim(name, "0123456789abcdefghijklmnopqrstuvwxyz-") != "" {
		return fmt.Errorf("%q is not the name of a lifeline", name)
	}
	return nil
}
