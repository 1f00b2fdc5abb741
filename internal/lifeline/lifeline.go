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
// On a network volume the FIFO's name is seen by all machines, but its pipe lives in the
// kernel that opened it: from elsewhere a living process's looks dead. Two mounts of one
// kernel have two pipes, too. So Hold gives a life, which is the name and the FIFO's
// device and inode as its owner sees them, and Watch says nothing of a FIFO that is
// another by these. Whether it is the same kernel is for the caller to know (boot id).
//
// # What it does not promise
//
// That a death is noticed: somebody else may have opened the FIFO for writing. It
// makes waiting shorter and must not be needed by what has to be right.
package lifeline

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

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

// mkfifo is a variable, so that a test can have a file system that takes no FIFOs.
var mkfifo = unix.Mkfifo

// Hold makes the FIFO called name, and the directory if need be, and holds it until
// release is called or the process ends. As soon as others can see the name it is
// held, and its entry is on disk. life is what Watch, Stands and Sweep know it by.
//
// Where the file system takes no FIFOs it makes a plain file: then nobody is told of the
// death, but that the name is there shows who shares the directory.
func (d Dir) Hold(name string) (life string, release func(), err error) {
	if err := check(name); err != nil {
		return "", nil, err
	}
	final := filepath.Join(string(d), name)
	for range tries {
		var fd int
		fd, err = d.hold(filepath.Join(string(d), unfinished+name), final)
		if err == nil {
			if life, err = lifeOf(name, fd); err == nil {
				err = syncDir(string(d))
			}
			if err != nil {
				unix.Close(fd)
				break
			}
			return life, sync.OnceFunc(func() {
				_ = os.Remove(final) // one that stays is swept by another
				unix.Close(fd)
			}), nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			break // else somebody swept it before we held it
		}
	}
	return "", nil, fmt.Errorf("hold a lifeline: %w", err)
}

// lifeOf is name, and the FIFO's device and inode, or name alone when fd is no FIFO.
func lifeOf(name string, fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return name, nil
	}
	return fmt.Sprintf("%s.%x.%x", name, st.Dev, st.Ino), nil
}

// nameOf is the name in a life.
func nameOf(life string) string {
	name, _, _ := strings.Cut(life, ".")
	return name
}

// Path is where the name of a life is.
func (d Dir) Path(life string) string { return filepath.Join(string(d), nameOf(life)) }

// Stands tells whether the name of a life is there. What can be no name is nowhere.
func (d Dir) Stands(life string) (bool, error) {
	if check(nameOf(life)) != nil {
		return false, nil
	}
	_, err := os.Lstat(d.Path(life))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Tells tells whether the end of a life is told to anybody: it is not where the file system
// takes no FIFOs.
func (d Dir) Tells(life string) bool { return life != nameOf(life) }

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// hold takes a plain descriptor: an *os.File nobody refers to any more is closed.
func (d Dir) hold(temp, final string) (fd int, err error) {
	if err := os.Mkdir(string(d), 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return -1, err
	}
	if info, err := os.Lstat(string(d)); err != nil {
		return -1, err
	} else if !info.IsDir() {
		return -1, fmt.Errorf("%s is not a directory", d)
	}
	switch made := mkfifo(temp, 0o666); {
	case made == nil || errors.Is(made, os.ErrExist):
		fd, err = openFIFO(temp, unix.O_RDWR) // on Linux that does not wait for a reader
	case errors.Is(made, unix.EPERM) || errors.Is(made, unix.EOPNOTSUPP) || errors.Is(made, unix.ENOSYS):
		fd, err = unix.Open(temp, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o666)
	default:
		return -1, &os.PathError{Op: "mkfifo", Path: temp, Err: made}
	}
	if err != nil {
		return -1, err
	}
	if err := os.Rename(temp, final); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
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
