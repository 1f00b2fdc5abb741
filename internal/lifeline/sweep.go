package lifeline

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sweep removes the FIFOs that nobody holds, but those of the lives that keep lists. It asks keep
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
		if slices.ContainsFunc(kept, func(life string) bool { return nameOf(life) == name }) {
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

// markerAge is how old a plain file is at least before it is swept: more than the longest
// session that can be asked for, which is five minutes.
const markerAge = 10 * time.Minute

// SweepMarkers removes the plain files that Hold made where the file system takes no
// FIFOs, but those of the lives that keep lists. Whether somebody holds one cannot be seen,
// so keep must list all who may; and one that is younger than markerAge, by the clock of
// the volume, stays: its owner may not be listed yet. An owner that was not listed for so
// long, as one without a session is not, finds its marker gone and makes it again.
func (d Dir) SweepMarkers(keep func() ([]string, error)) error {
	plain, err := d.plain()
	if err != nil || len(plain) == 0 {
		return err
	}
	now, err := d.now()
	if err != nil {
		return err
	}
	kept, err := keep()
	if err != nil {
		return err
	}
	var errs []error
	for name, made := range plain {
		if now.Sub(made) < markerAge || slices.ContainsFunc(kept, func(life string) bool { return nameOf(life) == name }) {
			continue
		}
		if err := os.Remove(filepath.Join(string(d), name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// plain lists the plain files that may be markers, and when they were made: with nothing
// in them.
func (d Dir) plain() (map[string]time.Time, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	made := map[string]time.Time{}
	for _, e := range entries {
		if check(strings.TrimPrefix(e.Name(), unfinished)) != nil || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			made[e.Name()] = info.ModTime()
		}
	}
	return made, nil
}

// now is the time by the clock of the volume, which may be another machine's.
func (d Dir) now() (time.Time, error) {
	file, err := os.CreateTemp(string(d), unfinished+"now-*") // one that stays is swept
	if err != nil {
		return time.Time{}, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
