package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Adoption is the file's side of `agent adopt`. It works on a copy that stands beside the
// file, under the name data.txt.next-<incarnation>. Once head speaks of the copy, Step by
// Step the file gets the name data.txt.was-<incarnation>, and the copy the file's.
//
// # Why it is safe
//
// Until head is published nobody knows of the copy: whatever fails, it is of no use to
// anybody, and the file is as it was. From then on each Step is chosen from what stands
// in the directory, and is one system call that does nothing when it comes late: a name
// that is taken is not taken again, and one that has gone cannot be moved. So it may be
// killed anywhere, and be done by two processes at once. It never takes the last name
// from a file.
type Adoption struct {
	Options
	ID uuid.UUID // the new incarnation's
	fs AdoptFS
}

// NewAdoption is the adoption of a file that begins an incarnation. opts.FS, if it is
// given, must be an AdoptFS.
func NewAdoption(opts Options, id uuid.UUID) *Adoption {
	if opts.Mode == "" {
		opts.Mode = Plain
	}
	if opts.FS == nil {
		opts.FS = OS{}
	}
	return &Adoption{Options: opts, ID: id, fs: opts.FS.(AdoptFS)}
}

// Next is the copy's name, Was that of the old file once the copy has taken its place,
// and Lost and Foreign those of what found no place in it.
func (a *Adoption) Next() string    { return a.name("next") }
func (a *Adoption) Was() string     { return a.name("was") }
func (a *Adoption) Lost() string    { return a.name("lost") }
func (a *Adoption) Foreign() string { return a.name("foreign") }

func (a *Adoption) name(kind string) string {
	return fmt.Sprintf("%s.%s-%s", a.Path, kind, a.ID)
}

// Leftovers names the copies of adoptions that came to nothing. They are not needed: all
// that is in them is in the file, or in ZooKeeper.
func (a *Adoption) Leftovers() (names []string, err error) {
	all, err := a.fs.Names(filepath.Dir(a.Path))
	for _, name := range all {
		full := filepath.Join(filepath.Dir(a.Path), name)
		if strings.HasPrefix(name, filepath.Base(a.Path)+".next-") && full != filepath.Clean(a.Next()) {
			names = append(names, full)
		}
	}
	return names, err
}

// Exists tells whether there is something of that name.
func (a *Adoption) Exists(name string) (bool, error) {
	_, there, err := a.look(name)
	return there, err
}

func (a *Adoption) look(name string) (info Info, there bool, err error) {
	info, err = a.fs.Lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return info, false, nil
	}
	return info, err == nil, err
}

// open opens a file for an adoption, which nobody else may know by a second name.
func (a *Adoption) open(name string, flag int) (*File, error) {
	f := &File{Options: a.Options}
	f.Path = name
	if _, err := f.lstat(); err != nil {
		return nil, err
	}
	h, err := a.fs.Open(name, flag|a.Mode.Flags())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	f.data = h
	if f.id, err = h.Stat(); err == nil {
		err = f.Same()
	}
	f.end = f.id.Size // from where on End looks
	if err != nil {
		f.Detach()
		return nil, err
	}
	return f, nil
}

// Begins tells whether a file has the incarnation's line at an offset.
func (a *Adoption) Begins(name string, at int64) (bool, error) {
	ours, _, err := a.lineIn(name, at)
	return ours, err
}

// EndsWith tells whether the file ends with the incarnation's line, from one offset to
// another.
func (a *Adoption) EndsWith(from, to int64) (bool, error) {
	ours, end, err := a.lineIn(a.Path, from)
	return ours && end == to, err
}

// lineIn tells whether a file, which need not be there, has the incarnation's line at an
// offset, and where the file ends.
func (a *Adoption) lineIn(name string, at int64) (ours bool, end int64, err error) {
	h, err := a.fs.Open(name, a.Mode.Flags())
	if errors.Is(err, os.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("open %s: %w", name, err)
	}
	f := &File{Options: a.Options, data: h}
	defer f.Detach()
	f.Path = name
	line, err := f.Line(at)
	if err != nil {
		return false, 0, err
	}
	i, err := frame.ParseIncarnation(line)
	f.end = at // from where on End looks
	end, err2 := f.End()
	return err == nil && i.ID == a.ID, end, err2
}

// Step does one thing of those that give the copy the file's name; done says that there
// was none left to do, and that the directory is on disk. head must have been published.
func (a *Adoption) Step() (done bool, err error) {
	next, pending, err := a.look(a.Next())
	if err == nil && !pending {
		return true, a.SyncDir()
	}
	was, kept, err2 := a.look(a.Was())
	file, there, err3 := a.look(a.Path)
	if err := errors.Join(err, err2, err3); err != nil {
		return false, err
	}
	switch {
	case !there:
		err = a.move(a.Next(), a.Path)
	case same(file, next): // it was linked
		err = a.fs.Remove(a.Next())
	case !file.Regular:
		err = &RefusedError{Why: a.Path + " is not a regular file any more", Next: a.clear()}
	case !kept:
		err = a.move(a.Path, a.Was())
	case same(file, was): // it was linked, so that it is not lost
		err = a.fs.Rename(a.Next(), a.Path)
	default:
		err = &RefusedError{Why: fmt.Sprintf("somebody made a new %s while it was adopted", a.Path), Next: a.clear()}
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
		err = nil // another process was quicker: look again
	}
	return false, err
}

func (a *Adoption) clear() string {
	return fmt.Sprintf("give it another name (mv), then `agent adopt` goes on: the fleet's file is %s", a.Next())
}

func same(a, b Info) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// move gives a file another name. Where nothing can be renamed without replacing, it has
// both names afterwards, and the next Step goes on from there.
func (a *Adoption) move(from, to string) error {
	err := a.fs.Move(from, to)
	if errors.Is(err, errors.ErrUnsupported) {
		err = a.fs.Link(from, to)
	}
	return err
}

// SyncDir must not return nil until the directory's entries are on disk.
func (a *Adoption) SyncDir() error { return a.fs.SyncDir(filepath.Dir(a.Path)) }

// SetAside gives a file that is not needed any more the name to, if it is there.
func (a *Adoption) SetAside(name, to string) (moved bool, err error) {
	if there, err := a.Exists(name); err != nil || !there {
		return false, err
	}
	err = a.fs.Move(name, to)
	if errors.Is(err, errors.ErrUnsupported) {
		err = a.fs.Rename(name, to)
	}
	return err == nil, err
}

// Range is the bytes of a file from one offset up to another.
type Range struct{ From, To int64 }

// Save writes content to a new file with the mode of the adopted one, and makes it
// durable, but for its name: see SyncDir. What is saved already is not saved again; a
// name that has something else gets a number.
func (a *Adoption) Save(name string, content []byte) (saved string, err error) {
	saved = name
	for n := 2; ; n++ {
		err = a.fs.Create(saved, a.like())
		if !errors.Is(err, os.ErrExist) {
			break
		}
		if has, err := a.has(saved, content); err != nil || has {
			return saved, err
		}
		saved = fmt.Sprintf("%s-%d", name, n)
	}
	if err != nil {
		return "", fmt.Errorf("save %s: %w", saved, err)
	}
	return saved, a.fill(saved, func(f *File) error { return f.WriteAt(content, 0) })
}

// like is the file whose mode and owner the others take: the adopted one, or the copy.
func (a *Adoption) like() string {
	if there, err := a.Exists(a.Path); err == nil && there {
		return a.Path
	}
	return a.Next()
}

func (a *Adoption) has(name string, content []byte) (bool, error) {
	f, err := a.open(name, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer f.Detach()
	there := make([]byte, len(content)+1)
	n, err := f.data.ReadAt(there, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.Equal(there[:n], content), nil
}

// fill writes a file that was made just now, and removes it when that fails.
func (a *Adoption) fill(name string, write func(*File) error) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("save %s: %w", name, err), a.fs.Remove(name))
		}
	}()
	f, err := a.open(name, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Detach()
	if err := write(f); err != nil {
		return err
	}
	return f.Syncer()()
}

// copyRange copies bytes from one file to another, each at offset to.
func copyRange(ctx context.Context, dst, src *File, r Range, to int64, tell func(done, total int64)) error {
	room := make([]byte, min(1<<20, max(r.To-r.From, 0)))
	for at := r.From; at < r.To; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece := room[:min(int64(len(room)), r.To-at)]
		if err := src.Read(piece, at); err != nil {
			return fmt.Errorf("%w (it became shorter?)", err)
		}
		if err := dst.WriteAt(piece, to+at-r.From); err != nil {
			return err
		}
		at += int64(len(piece))
		if tell != nil {
			tell(at-r.From, r.To-r.From)
		}
	}
	return nil
}
