package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is what would be left of a volume after a power loss: a directory beside it, to
// which a file's bytes come when the file is synced, and its name when its directory
// is. A nil disk keeps nothing.
//
// It is kept by whoever syncs. One that is killed while it does so
// leaves half a sync, as a power loss would: its sync had not returned.
type disk struct {
	volume, dir string
}

// nameless marks a file whose name is not on the disk yet.
const nameless = ".nameless"

func (d *disk) path(name string) (string, error) {
	rel, err := filepath.Rel(d.volume, name)
	return filepath.Join(d.dir, rel), err
}

// sync brings the file to the disk: all from dirty on (-1: nothing was written by who
// asks), what the disk does not have yet, and the file's size.
func (d *disk) sync(name string, dirty int64) error {
	if d == nil {
		return nil
	}
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		path += nameless
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := unix.Flock(int(to.Fd()), unix.LOCK_EX); err != nil { // others sync too
		return err
	}
	source, err := from.Stat()
	if err != nil {
		return err
	}
	kept, err := to.Stat()
	if err != nil {
		return err
	}
	at := kept.Size()
	if dirty >= 0 {
		at = min(at, dirty)
	}
	at = min(at, source.Size())
	_, err = io.Copy(io.NewOffsetWriter(to, at), io.NewSectionReader(from, at, source.Size()-at))
	return errors.Join(err, to.Truncate(source.Size()))
}

// syncDir gives the directory's files their names on the disk.
func (d *disk) syncDir(name string) error {
	if d == nil {
		return nil
	}
	dir, err := d.path(name)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := d.nameAll(name, dir); err != nil {
		return err
	}
	for _, e := range entries {
		if final, ok := strings.CutSuffix(e.Name(), nameless); ok {
			if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, final)); err != nil {
				return err
			}
		}
	}
	return nil
}

// nameAll gives the disk an empty file for each that has a name and was never synced.
func (d *disk) nameAll(name, dir string) error {
	real, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range real {
		path := filepath.Join(dir, e.Name())
		if _, err := os.Stat(path + nameless); err == nil || !e.Type().IsRegular() {
			continue
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// powerLoss makes of a volume on which nobody writes what a power loss may have left:
// what was synced, and of what was not some sectors.
func (d *disk) powerLoss(data string, rng *rand.Rand) error {
	kept, err := d.read(data)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(data)
	if err != nil {
		return err
	}
	if len(now) > len(kept) {
		tail := append([]byte(nil), now[len(kept):][:rng.IntN(len(now)-len(kept)+1)]...)
		for at := 0; at < len(tail); { // sectors of the file, not of the tail
			sector := 512 - (len(kept)+at)%512
			if rng.IntN(2) == 0 {
				clear(tail[at:min(at+sector, len(tail))])
			}
			at += sector
		}
		kept = append(kept, tail...)
	}
	return d.comesBack(data, kept)
}

// comesBack makes content what volume and disk have under a name.
func (d *disk) comesBack(name string, content []byte) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(name, content, 0o644), os.WriteFile(path, content, 0o644))
}

// read is what the disk has under a name; nothing when it does not have the name.
func (d *disk) read(name string) ([]byte, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return content, err
}
