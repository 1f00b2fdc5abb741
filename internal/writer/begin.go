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
	err := f.inTurn(ctx, func() error {
		r, err := f.readFence()
		if errors.Is(err, errBlank) {
			r, err = record{Incarnation: uuid.New()}, nil
		}
		if err == nil {
			err = f.outranks(r, token)
		}
		switch {
		case err != nil:
			return err
		case r.Turn > 0:
			return &RefusedError{fmt.Sprintf("turn %d of %s was committed, but ZooKeeper has no head: it was wiped, or this is another fleet", r.Turn, f.path), nextAdopt}
		}
		first := frame.Incarnation{ID: r.Incarnation, From: 1}
		line := []byte(first.Line() + "\n")
		if err := f.openData(os.O_RDWR | os.O_APPEND | os.O_CREATE); err != nil {
			return err
		}
		if err := f.mustBeNew(line, r.Token != 0); err != nil {
			return err
		}
		// The fence first: it tells a later Begin that what it finds is ours.
		r = record{Incarnation: r.Incarnation, Token: token, Start: int64(len(line)), Offset: int64(len(line)), Sum: first.Seal(nil)}
		if err := f.writeFenceSynced(r); err != nil {
			return err
		}
		if err := f.data.Truncate(0); err != nil {
			return err
		}
		head, err = f.writeIncarnation(first, nil, 0)
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
	case begun && isTorn(content[:n], line):
		return nil
	}
	return &RefusedError{fmt.Sprintf("%s holds data, but ZooKeeper has no head for it", f.path), nextAdopt}
}

// Seen is what the fence said at one moment.
type Seen string

// Seen reads the fence as it is, without a turn. Whoever is admitted to the file
// changes it.
func (f *File) Seen() (Seen, error) {
	h, err := f.fs.Open(f.fencePath(), os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open the fence: %w", err)
	}
	defer h.Close()
	return readSeen(h)
}

func readSeen(fence Handle) (Seen, error) {
	var room [sector]byte
	n, err := fence.ReadAt(room[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the fence: %w", err)
	}
	return Seen(room[:n]), nil
}

// Basis is what an adoption goes on from, as the verifier found the file.
type Basis struct {
	Next frame.Incarnation
	Sum  *frame.Sum // where the chain stands; nil when nothing precedes
	End  int64      // what lies behind is put aside like any uncommitted tail
	Size int64      // the file's, when it was verified
}

// Adopt goes on with a file that was verified by itself. seen is what Seen gave before
// the adopter took its place in the queue and verified: nobody may have been admitted
// since, else what was found does not hold any more. (ZooKeeper may be a new one, and
// its tokens lower than the fence's; so they cannot be compared.)
//
// On a nil error the file ends with the line of the new incarnation, fence and file are
// on disk, and the head returned is to be published.
func (f *File) Adopt(ctx context.Context, token frame.Token, seen Seen, on Basis) (frame.Head, error) {
	var head frame.Head
	if err := f.makeFence(); err != nil {
		return head, err
	}
	err := f.inTurn(ctx, func() error {
		now, err := readSeen(f.fence)
		if err != nil {
			return err
		}
		if err := f.openData(os.O_RDWR | os.O_APPEND | os.O_CREATE); err != nil {
			return err
		}
		info, err := f.data.Stat()
		if err != nil {
			return err
		}
		if now != seen || info.Size != on.Size || on.End > on.Size {
			return &RefusedError{fmt.Sprintf("%s was written to while it was being adopted", f.path), "nothing was changed; stop what writes to it, then adopt it again"}
		}
		r := record{Incarnation: on.Next.ID, Line: on.End, Token: token, Turn: on.Next.From - 1, Sum: on.Next.Seal(on.Sum)}
		r.Offset = on.End + int64(len(on.Next.Line())) + 1
		r.Start = r.Offset
		if err := f.writeFenceSynced(r); err != nil {
			return err
		}
		if tail := info.Size - on.End; tail > 0 {
			if _, err := f.quarantine(token, frame.Head{Turn: on.Next.From - 1, Offset: on.End}, tail); err != nil {
				return err
			}
		}
		head, err = f.writeIncarnation(on.Next, on.Sum, on.End)
		return err
	})
	return head, err
}

// writeIncarnation appends i's line at the file's end and syncs file and directory. The
// head has no token: no turn of the incarnation is committed.
func (f *File) writeIncarnation(i frame.Incarnation, prev *frame.Sum, at int64) (frame.Head, error) {
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
		Agent:       f.agent,
		At:          f.now().UTC().Truncate(time.Millisecond),
	}, nil
}

// makeFence creates the fence file if it is missing.
func (f *File) makeFence() error {
	if f.fence != nil {
		return nil
	}
	h, err := f.open(f.fencePath(), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	f.fence = h
	return nil
}

func (f *File) writeFenceSynced(r record) error {
	if err := f.writeFence(r); err != nil {
		return err
	}
	err := f.fence.Sync()
	if err == nil {
		err = f.fs.SyncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return fmt.Errorf("%w: the fence: %w", ErrSync, err)
	}
	return nil
}
