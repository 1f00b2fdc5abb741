package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Copy is the copy that an adoption works on, beside the file that it is of. Its methods
// must not be called at the same time.
type Copy struct {
	a      *Adoption
	source *File
	file   *File
}

// Copy copies the file, up to an offset, or all of it when that is negative. It shares the
// file's blocks where the file system can. Agents may write to the file meanwhile.
func (a *Adoption) Copy(ctx context.Context, limit int64, tell func(done, total int64)) (*Copy, error) {
	source, err := a.open(a.Path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	c := &Copy{a: a, source: source}
	if err := c.make(ctx, limit, tell); err != nil {
		return nil, errors.Join(fmt.Errorf("copy %s: %w", a.Path, err), c.Discard())
	}
	return c, nil
}

func (c *Copy) make(ctx context.Context, limit int64, tell func(done, total int64)) error {
	a := c.a
	if err := a.fs.Create(a.Next(), a.Path); err != nil {
		return err
	}
	cloned := limit < 0 && a.fs.Clone(a.Path, a.Next()) == nil
	file, err := a.open(a.Next(), os.O_RDWR)
	if err != nil {
		return errors.Join(err, a.fs.Remove(a.Next()))
	}
	c.file = file
	if cloned {
		return nil
	}
	return c.Extend(ctx, 0, limit, tell)
}

// Extend copies the file again from one offset up to another, or to its end when that is
// negative.
func (c *Copy) Extend(ctx context.Context, from, limit int64, tell func(done, total int64)) error {
	end, err := c.source.End()
	if err != nil {
		return err
	}
	if limit < 0 || limit > end {
		limit = end
	}
	return copyRange(ctx, c.file, c.source, Range{from, limit}, from, tell)
}

// SourceEnd measures the file.
func (c *Copy) SourceEnd() (int64, error) { return c.source.End() }

// End measures the copy.
func (c *Copy) End() (int64, error) { return c.file.End() }

// ReadAt is io.ReaderAt.
func (c *Copy) ReadAt(b []byte, at int64) (int, error) { return c.file.data.ReadAt(b, at) }

// Line reads a line of the copy, as [File.Line] does.
func (c *Copy) Line(at int64) ([]byte, error) { return c.file.Line(at) }

// Write writes b at an offset.
func (c *Copy) Write(b []byte, at int64) error { return c.file.WriteAt(b, at) }

// Fits tells whether b can be what belongs at an offset: there is nothing else than b,
// parts of it, or zeros.
func (c *Copy) Fits(b []byte, at int64) (bool, error) {
	err := c.file.Fits(b, at)
	if errors.Is(err, ErrRefused) {
		return false, nil
	}
	return err == nil, err
}

// Follows tells whether a turn belongs where it says: what stands before it, and ends
// there, is the frame that it names, or the line of its incarnation.
func (c *Copy) Follows(t frame.Turn) (bool, error) {
	if t.Number == 0 {
		return true, nil // it begins a file
	}
	line, err := c.Line(t.Before)
	if err != nil {
		return false, err
	}
	end := t.Before + int64(len(line)) + 1
	if h, err := frame.ParseHeader(line); err == nil {
		return h.Sum == t.Prev && end+int64(h.Bytes) == t.Offset, nil
	}
	i, err := frame.ParseIncarnation(line)
	return err == nil && i.ID == t.Incarnation && end == t.Offset, nil
}

// Sync makes the copy and its name durable.
func (c *Copy) Sync() error {
	if err := c.file.Syncer()(); err != nil {
		return err
	}
	return c.a.SyncDir()
}

// Stands refuses when the file or the copy is not what its name leads to any more. Whoever
// publishes asks this as holder of a turn.
func (c *Copy) Stands() error {
	if err := c.file.Same(); err != nil {
		return err
	}
	return c.source.Same()
}

// SaveForeign writes parts of the file, one after the other, to a file of its own, and
// makes that durable, but for its name.
func (c *Copy) SaveForeign(ctx context.Context, parts []Range) (name string, err error) {
	name = c.a.Foreign()
	if err := c.a.fs.Create(name, c.a.Path); err != nil {
		return "", fmt.Errorf("save %s: %w", name, err)
	}
	return name, c.a.fill(name, func(f *File) error {
		at := int64(0)
		for _, r := range parts {
			if err := copyRange(ctx, f, c.source, r, at, nil); err != nil {
				return err
			}
			at += r.To - r.From
		}
		return nil
	})
}

// Holds tells whether the copy has, up to an offset, what the file has in a range. Zeros,
// which a power loss leaves, need not be in it.
func (c *Copy) Holds(ctx context.Context, r Range, upTo int64) (bool, error) {
	var room, copied [step]byte
	for at := r.From; at < r.To && ctx.Err() == nil; {
		view := room[:min(step, r.To-at)]
		n, err := c.source.data.ReadAt(view, at)
		if n == 0 || err != nil && !errors.Is(err, io.EOF) {
			return n == 0 && errors.Is(err, io.EOF), noEOF(err)
		}
		has, err := c.file.data.ReadAt(copied[:max(0, min(int64(n), upTo-at))], at)
		if noEOF(err) != nil {
			return false, err
		}
		for i, b := range view[:n] {
			if b != 0 && (i >= has || b != copied[i]) {
				return false, nil
			}
		}
		at += int64(n)
	}
	return true, context.Cause(ctx)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Close lets the files go.
func (c *Copy) Close() {
	c.source.Detach()
	if c.file != nil {
		c.file.Detach()
	}
}

// Discard closes the copy and removes it. head must not speak of it, nor come to.
func (c *Copy) Discard() error {
	c.Close()
	if c.file == nil || c.file.Same() != nil {
		return nil
	}
	return c.a.fs.Remove(c.a.Next())
}
