package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Begin starts a new incarnation when there is no head: the file must be missing,
// empty, or what a Begin that crashed left of it. On a nil error the file holds the
// incarnation's line, all is on disk, and the head returned is to be published.
func (f *File) Begin(ctx context.Context, token frame.Token) (frame.Head, error) {
	var head frame.Head
	if err := f.makeFence(); err != nil {
		return head, err
	}
	err := f.inside(ctx, func() error {
		r, err := f.readFence()
		if errors.Is(err, errBlank) {
			r, err = record{Incarnation: uuid.New()}, nil
		}
		switch {
		case err != nil:
			return err
		case token < r.Token:
			return fmt.Errorf("%w: ours is %v, %s has %v", ErrFenced, token, r.Agent, r.Token)
		case r.Turn > 0:
			return &RefusedError{fmt.Sprintf("turn %d of %s was committed, but ZooKeeper has no head: it was wiped, or this is another fleet", r.Turn, f.path), nextAdopt}
		}
		line := []byte(frame.Incarnation{ID: r.Incarnation, From: 1}.Line() + "\n")
		if err := f.openData(os.O_RDWR | os.O_APPEND | os.O_CREATE); err != nil {
			return err
		}
		if err := f.mustBeNew(line, r.Token != 0); err != nil {
			return err
		}
		// The fence first: it tells a later Begin that what it finds is ours.
		r.Token = token
		if err := f.writeFenceSynced(r); err != nil {
			return err
		}
		if err := f.data.Truncate(0); err != nil {
			return err
		}
		head, err = f.writeIncarnation(frame.Incarnation{ID: r.Incarnation, From: 1}, nil, 0, token)
		return err
	})
	return head, err
}

// mustBeNew refuses a file that holds anything but what a crashed Begin of ours
// can have left.
func (f *File) mustBeNew(line []byte, begun bool) error {
	content := make([]byte, len(line)+1)
	n, err := f.data.ReadAt(content, 0)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case begun && isTornPrefix(content[:n], line):
		return nil
	}
	return &RefusedError{fmt.Sprintf("%s holds data, but ZooKeeper has no head for it", f.path), nextAdopt}
}

// Adopt goes on with a file that was verified by itself up to end, where the chain
// stands at prev (nil when nothing precedes) and the next turn is i.From. What
// lies after end is put aside like any uncommitted tail. On a nil error the file
// ends with the line of the new incarnation i, fence and file are on disk, and the
// head returned is to be published.
func (f *File) Adopt(ctx context.Context, token frame.Token, i frame.Incarnation, prev *frame.Sum, end int64) (frame.Head, error) {
	var head frame.Head
	if err := f.makeFence(); err != nil {
		return head, err
	}
	err := f.inside(ctx, func() error {
		if err := f.openData(os.O_RDWR | os.O_APPEND | os.O_CREATE); err != nil {
			return err
		}
		info, err := f.data.Stat()
		if err != nil {
			return err
		}
		if info.Size < end {
			return &RefusedError{fmt.Sprintf("%s shrank while it was adopted", f.path), nextAdopt}
		}
		// Whatever the old fence says is void: ZooKeeper's tokens may have begun anew.
		if err := f.writeFenceSynced(record{Incarnation: i.ID, Line: end, Token: token, Turn: i.From - 1, Offset: end}); err != nil {
			return err
		}
		if info.Size > end {
			if _, err := f.quarantine(token, frame.Head{Turn: i.From - 1, Offset: end}, info.Size); err != nil {
				return err
			}
		}
		head, err = f.writeIncarnation(i, prev, end, token)
		return err
	})
	return head, err
}

// writeIncarnation appends i's line at the file's end and syncs file and directory.
func (f *File) writeIncarnation(i frame.Incarnation, prev *frame.Sum, at int64, token frame.Token) (frame.Head, error) {
	line := i.Line() + "\n"
	if err := f.write([]byte(line)); err != nil {
		return frame.Head{}, err
	}
	if err := f.fs.SyncDir(filepath.Dir(f.path)); err != nil {
		return frame.Head{}, fmt.Errorf("%w: %w", ErrSync, err)
	}
	return frame.Head{
		Incarnation: i.ID,
		Turn:        i.From - 1,
		Offset:      at + int64(len(line)),
		Sum:         i.Seal(prev),
		Token:       token,
		Agent:       f.agent,
		At:          time.Now().UTC().Truncate(time.Millisecond),
	}, nil
}

// makeFence creates the fence file if it is missing.
func (f *File) makeFence() error {
	if f.fence != nil {
		return nil
	}
	h, err := f.fs.Open(f.fencePath(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return fmt.Errorf("create the fence: %w", err)
	}
	f.fence = h
	return nil
}

func (f *File) writeFenceSynced(r record) error {
	if err := f.writeFence(r); err != nil {
		return err
	}
	if err := f.fence.Sync(); err != nil {
		return fmt.Errorf("%w: the fence: %w", ErrSync, err)
	}
	return f.fs.SyncDir(filepath.Dir(f.path))
}
