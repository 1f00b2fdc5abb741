// Package writer is the volume's side of Turnstile: it appends one turn's frame to
// the shared file, and keeps everybody out whose turn is over.
//
// Beside the file data.txt lie
//
//	data.txt.fence      flock target; the highest token admitted and the last
//	                    commit known (the receipt)
//	data.txt.orphans/   uncommitted tails of dead holders, one file each, kept
//
// # Why it is safe
//
// Every step that touches the file happens under the fence's flock, and only after
// the holder's token was found no lower than the highest one admitted before, and
// written there. So from the moment a newer holder is admitted, no older one can
// change a byte, however long it was paused and wherever it was paused. The flock
// is held for local I/O only and never across a call to ZooKeeper: a process that
// holds it and is stopped delays the others, but nothing else.
//
// What lies beyond head.Offset is not committed. If it can only be the frame of a
// dead holder it is copied to the orphans and cut off; whatever else it might be,
// the writer refuses and changes nothing.
//
// # What it does not promise
//
// The flock must exclude. It does on a file system of one host's kernel; Open
// refuses others. The fence file is not synced at each turn: after a power loss an
// older token may stand there, which is harmless, for no holder of before the
// power loss is alive. (One record is one write of one 512-byte sector.)
package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

var (
	// ErrFenced says that a holder with a higher token was admitted: our turn is
	// over. Nothing was changed.
	ErrFenced = errors.New("fenced off: a newer turn was admitted to the file")
	// ErrRefused is wrapped by every *RefusedError.
	ErrRefused = errors.New("refused")
	// ErrBusy says that another process kept the fence's flock for too long.
	ErrBusy = errors.New("the fence is locked by another process")
	// ErrSync says that the disk did not confirm a write. What is on disk is
	// unknown, asking again would prove nothing, and nobody may go on.
	ErrSync = errors.New("the disk did not confirm the write")
)

// RefusedError says that file, head and fence do not agree, or that the file
// cannot be trusted to keep others out. Nothing was changed.
type RefusedError struct {
	Why  string // what was found
	Next string // what to do about it
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%v: %s; %s", ErrRefused, e.Why, e.Next) }

func (e *RefusedError) Unwrap() error { return ErrRefused }

const (
	nextAdopt = "nothing was changed. If this is another file than the fleet's, give it a fleet of its own (--fleet) or the right path (--data); if it is the fleet's, find out what happened, then `agent adopt` verifies it and goes on from what it holds"
	nextPath  = "nothing was changed; give data.file the path of the file itself"
)

// Options for Open. Path is required.
type Options struct {
	Path  string
	Agent string           // stands in the frames, and in the fence for people
	Wait  time.Duration    // how long to wait for the fence's flock
	FS    FS               // nil means OS
	Now   func() time.Time // the wall clock, for people to read; nil means time.Now
	Log   *zap.Logger      // nil means silence
}

// File is the shared file with its fence. Its methods must not be called at the
// same time.
type File struct {
	path, agent, host string
	run               uuid.UUID // tells this File from all others

	wait time.Duration
	fs   FS
	log  *zap.Logger
	now  func() time.Time

	data, fence Handle // opened at the first turn, kept since
	frame       []byte // reused
}

// Open checks that the path can be a shared file and that its file system's locks
// can be trusted. It creates nothing.
func Open(opts Options) (*File, error) {
	if err := frame.CheckAgent(opts.Agent); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	f := &File{path: opts.Path, agent: opts.Agent, host: host, run: uuid.New(), wait: opts.Wait, fs: opts.FS, log: opts.Log, now: opts.Now}
	if f.now == nil {
		f.now = time.Now
	}
	if f.log == nil {
		f.log = zap.NewNop()
	}
	if f.fs == nil {
		f.fs = OS{}
		if err := checkVolume(filepath.Dir(opts.Path)); err != nil {
			return nil, err
		}
	}
	if _, err := f.lstat(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return f, nil
}

// Rename goes on under another agent's name. It remains the same holder.
func (f *File) Rename(agent string) error {
	if err := frame.CheckAgent(agent); err != nil {
		return err
	}
	f.agent = agent
	return nil
}

// Close closes the descriptors, and thereby drops a flock that is still held.
func (f *File) Close() error {
	var errs []error
	for _, h := range []Handle{f.data, f.fence} {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	f.data, f.fence = nil, nil
	return errors.Join(errs...)
}

// Appended is what Append did.
type Appended struct {
	Start  int64        // where the frame begins in the file
	Head   frame.Head   // to be committed
	Header frame.Header // of the frame written
	Orphan string       // the file in which a dead holder's tail was put aside, or empty
}

// Append writes one frame of records behind the committed part of the file. On a
// nil error it is on disk, and Head says what to commit. Records that no commit
// follows are put aside by the next holder.
//
// ctx is the hold's: when it has ended before the first byte is written, nothing
// is. The errors are ErrFenced, ErrRefused, ErrBusy, ErrSync (halt the fleet), and
// those of the file system, after which the frame may be there in part; nothing
// committed is ever touched.
func (f *File) Append(ctx context.Context, token frame.Token, head frame.Head, records [][]byte) (Appended, error) {
	var out Appended
	if err := checkRecords(records); err != nil {
		return out, err
	}
	err := f.inTurn(ctx, func() error {
		// First everything is looked at, then the fence is closed behind us, and
		// only then is the file changed: a refusal leaves all as it was.
		noted, err := f.admit(token, head)
		if err != nil {
			return err
		}
		start, tail, err := f.compare(noted, token, head)
		if err != nil {
			return err
		}
		if err := f.writeFence(noted.after(token, head, start)); err != nil {
			return err
		}
		if tail > 0 {
			if out.Orphan, err = f.quarantine(token, head, tail); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		header := frame.Header{Turn: head.Turn + 1, Agent: f.agent, Token: token, At: f.now().UTC().Truncate(time.Millisecond)}
		f.frame, out.Header = frame.Append(f.frame[:0], head.Sum, header, records)
		out.Start = head.Offset
		out.Head = head.After(out.Header, len(f.frame))
		return f.write(f.frame)
	})
	return out, err
}

func checkRecords(records [][]byte) error {
	size := 0
	for i, r := range records {
		if err := frame.CheckRecord(r); err != nil {
			return fmt.Errorf("record %d: %w", i+1, err)
		}
		size += len(r) + 1
	}
	if size == 0 || size > frame.MaxBytes {
		return fmt.Errorf("a turn of %d records, %d bytes: it has at least one record and at most %d bytes", len(records), size, frame.MaxBytes)
	}
	return nil
}

// write appends b to the file and syncs it, on one descriptor: an error of the
// disk is reported once, to the descriptor that wrote.
func (f *File) write(b []byte) error {
	if _, err := f.data.Write(b); err != nil {
		return fmt.Errorf("append to %s: %w", f.path, err)
	}
	if err := f.data.Datasync(); err != nil {
		return fmt.Errorf("%w: fdatasync %s: %w", ErrSync, f.path, err)
	}
	return nil
}

// HeaderAt reads the header of the frame that begins at offset. Within the
// committed part this needs no turn, for it never changes.
func (f *File) HeaderAt(offset int64) (frame.Header, error) {
	if err := f.openData(os.O_RDWR | os.O_APPEND); err != nil {
		return frame.Header{}, err
	}
	line, err := f.lineAt(offset)
	if err != nil {
		return frame.Header{}, err
	}
	h, err := frame.ParseHeader(line)
	if err != nil {
		return h, &RefusedError{fmt.Sprintf("there is no turn at byte %d of %s, where one was written: %v", offset, f.path, err), nextAdopt}
	}
	return h, nil
}

// lstat describes name and refuses what is not a plain file with one name: a lock
// on it would not be a lock on what others open.
func (f *File) lstat(name string) (Info, error) {
	info, err := f.fs.Lstat(name)
	switch {
	case err != nil:
		return info, err
	case !info.Regular:
		return info, &RefusedError{fmt.Sprintf("%s is not a regular file but a directory, a symbolic link or a device", name), nextPath}
	case info.Links != 1:
		return info, &RefusedError{fmt.Sprintf("%s has %d names (hard links)", name, info.Links), nextPath}
	}
	return info, nil
}

// openData opens the file if it is not open yet, and makes sure that what is open
// is still what the path names.
func (f *File) openData(flag int) error {
	if f.data == nil {
		h, err := f.open(f.path, flag)
		if err != nil {
			return err
		}
		f.data = h
	}
	return f.same(f.path, f.data)
}

// open opens the file or the fence, which must be there, unless flag creates it, and
// be what they should be.
func (f *File) open(name string, flag int) (Handle, error) {
	if _, err := f.lstat(name); errors.Is(err, os.ErrNotExist) && flag&os.O_CREATE == 0 {
		return nil, &RefusedError{name + " is missing", nextAdopt}
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	h, err := f.fs.Open(name, flag)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return h, nil
}

// same refuses when name does not name the open file any more.
func (f *File) same(name string, open Handle) error {
	there, err := f.lstat(name)
	if errors.Is(err, os.ErrNotExist) {
		return &RefusedError{fmt.Sprintf("%s was removed", name), nextAdopt}
	}
	if err != nil {
		return err
	}
	ours, err := open.Stat()
	if err != nil {
		return err
	}
	if there.Dev != ours.Dev || there.Ino != ours.Ino {
		return &RefusedError{fmt.Sprintf("%s was replaced by another file", name), nextAdopt + "; running agents must be restarted"}
	}
	return nil
}

// lineAt reads the line that begins at offset, without its newline; nothing when
// there is no complete line, or one longer than any of ours.
func (f *File) lineAt(offset int64) ([]byte, error) {
	var room [frame.MaxLine]byte
	n, err := f.data.ReadAt(room[:], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s at byte %d: %w", f.path, offset, err)
	}
	line, _, complete := bytes.Cut(room[:n], []byte("\n"))
	if !complete {
		return nil, nil
	}
	return line, nil
}
