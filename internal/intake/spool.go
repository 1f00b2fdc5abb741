package intake

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Spool is a directory that keeps what was read from an input and not written, so that the next
// run begins with it. It holds these files:
//
//	unwritten    what a run left
//	taken        what the run that goes on now began with; it goes when that ends
//	in-doubt-N   what may be written, or some of it: what a run began with that was killed, or
//	             what was being committed when a run had to end
//	lock         held by the run that goes on now
type Spool struct {
	dir  string
	lock *os.File

	Text    []byte // what the run before left
	InDoubt string // a file that was left by a run that was killed; "" when there is none
}

// OpenSpool takes a directory, which it makes if need be, for this process alone.
func OpenSpool(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s is in use by another process: give each agent a directory of its own", dir)
	}
	err = s.setAside()
	if err == nil {
		err = s.take()
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Spool) path(name string) string { return filepath.Join(s.dir, name) }

// setAside keeps what a run that was killed had begun with. It must not be read again, for what
// of it is written would be written twice.
func (s *Spool) setAside() error {
	if _, err := os.Lstat(s.path("taken")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.InDoubt = s.doubtful()
	return os.Rename(s.path("taken"), s.InDoubt)
}

// doubtful is the name of a new file for lines in doubt.
func (s *Spool) doubtful() string {
	for n := 1; ; n++ {
		name := s.path(fmt.Sprintf("in-doubt-%d", n))
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

func (s *Spool) take() (err error) {
	s.Text, err = os.ReadFile(s.path("unwritten"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Rename(s.path("unwritten"), s.path("taken"))
	}
	return errors.Join(err, s.sync())
}

// Close must not return nil until what is left is on disk, and what is in doubt beside it, in the
// file that it names. Where it fails, or these are not all there was, what the run began with is
// in doubt.
func (s *Spool) Close(left, doubt []byte, all bool) (inDoubt string, err error) {
	defer s.lock.Close()
	if len(doubt) > 0 {
		inDoubt = s.doubtful()
		if err := s.keep(inDoubt, doubt); err != nil {
			return "", err
		}
	}
	if len(left) > 0 {
		if err := s.keep(s.path("unwritten"), left); err != nil {
			return "", err
		}
	}
	if !all {
		return inDoubt, nil
	}
	if err := os.Remove(s.path("taken")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return inDoubt, s.sync()
}

// keep writes a file whole, or not at all.
func (s *Spool) keep(name string, text []byte) error {
	f, err := os.CreateTemp(s.dir, "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing, once it has its name
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(f.Name(), name), s.sync())
}

func (s *Spool) sync() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
