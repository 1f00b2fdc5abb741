// Package writer is the volume's side of Turnstile: it opens the shared file as its
// volume needs it, tells whether it is the fleet's, measures where it ends, and writes
// committed turns by position.
//
// # Why it is safe
//
// A byte of the file has one possible value, fixed by the commit before anybody writes
// it. So every write by anybody at any time is right: late, twice, by an agent whose turn
// is long over, from another machine. Nothing is ever cut off, and no lock is needed.
//
// What remains to be shown is that it is the right file (Attach), and that nobody else
// has written where a turn belongs (Fits).
//
// # What it does not promise
//
// All that is asked of the volume is that a positional write touches its range and
// nothing else, that it can be made durable, and that a read can be made fresh. How that
// is had differs from volume to volume; see Mode.
package writer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// Mode says how the volume's files are written, and read for checks.
type Mode string

const (
	// Plain is for a file system of one kernel: one page cache, made durable by fdatasync.
	Plain Mode = "plain"
	// Direct is O_DIRECT with O_DSYNC, for NFS, SMB and CephFS, whose clients have a page
	// cache each and may write more of a page than was asked for.
	Direct Mode = "direct"
	// Sync is O_SYNC, for GlusterFS.
	Sync Mode = "sync"
)

// Flags are what a file of the mode is opened with, beside os.O_RDWR and the like.
func (m Mode) Flags() int {
	switch m {
	case Direct:
		return unix.O_DIRECT | unix.O_DSYNC
	case Sync:
		return unix.O_SYNC
	}
	return 0
}

// Patience is how long what looks wrong is looked at again before it is refused: the
// caches of other volumes may hide a change for that long. On a volume of one kernel
// there is only an adoption to wait for, which is between two steps.
func (m Mode) Patience() time.Duration {
	if m == Plain {
		return 3 * time.Second
	}
	return 90 * time.Second
}

// ErrRefused is wrapped by every *RefusedError.
var ErrRefused = errors.New("refused")

// RefusedError says that file and head do not agree, or that the volume is not to be
// trusted. Nothing was changed.
type RefusedError struct {
	Why  string // what was found
	Next string // what to do about it
	// Late says that it may come right by itself: look again for Mode.Patience. Sure says
	// that this was done.
	Late, Sure bool
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%v: %s; %s", ErrRefused, e.Why, e.Next) }

func (e *RefusedError) Unwrap() error { return ErrRefused }

// NextAdopt is the next step where file and head do not agree.
const NextAdopt = "nothing was changed. If this is another file than the fleet's, give it a fleet of its own (--fleet) or the right path (--data); if it is the fleet's, find out what happened, then `agent adopt` verifies it and goes on from what it holds"

const nextPath = "nothing was changed; give data.file the path of the file itself"

// Options for Open. Path is required.
type Options struct {
	Path  string
	Mode  Mode // empty means Plain
	Chunk int  // the most bytes of one write; 0: no bound
	FS    FS   // nil means OS
}

// File is the shared file. Its methods must not be called at the same time, but what
// Syncer gives may run beside them.
type File struct {
	Options
	data   Handle // nil until Attach, and after Detach
	opened int    // how many times it was opened
	id     Info   // which file is open
	end    int64  // it ended there or later
	room   []byte // for finding the end by reading
}

// Open checks that the path can be a shared file. It creates and opens nothing.
func Open(opts Options) (*File, error) {
	if opts.Mode == "" {
		opts.Mode = Plain
	}
	if opts.FS == nil {
		opts.FS = OS{}
	}
	f := &File{Options: opts}
	var refused *RefusedError
	_, err := f.lstat()
	if errors.As(err, &refused) && refused.Late || errors.Is(err, os.ErrNotExist) {
		return f, nil // whoever attaches it looks again
	}
	return f, err
}

// Attach opens the file, or keeps it open when the path still names it, and makes sure
// that it is the one that head speaks of: it has the incarnation's line where head says.
// first is the node of the turn 0, nil when there is none: while it exists, a file that
// is missing, empty or unfinished is right, and is created. head must have been read
// behind a quorum since the file was opened last. On a nil error what is open is the file;
// opened says that it is through a new descriptor, so that what was not synced before has
// to be written again.
func (f *File) Attach(head frame.Head, first *frame.Turn) (opened bool, err error) {
	if f.data != nil && f.Same() != nil {
		f.Detach()
	}
	if f.data == nil {
		opened = true
		if err := f.open(first != nil); err != nil {
			return opened, err
		}
	}
	if err := f.identify(head, first); err != nil {
		f.Detach()
		return opened, err
	}
	return opened, nil
}

// open opens the path, which must be there unless it is to be created.
func (f *File) open(create bool) error {
	flag := os.O_RDWR | f.Mode.Flags()
	_, err := f.lstat()
	missing := errors.Is(err, os.ErrNotExist)
	switch {
	case missing && create:
		flag |= os.O_CREATE
	case missing:
		return &RefusedError{Why: f.Path + " is missing", Next: NextAdopt, Late: true}
	case err != nil:
		return err
	}
	h, err := f.FS.Open(f.Path, flag)
	if err != nil {
		return fmt.Errorf("open %s: %w", f.Path, err)
	}
	if f.id, err = h.Stat(); err != nil {
		return errors.Join(err, h.Close())
	}
	f.data, f.end = h, 0
	f.opened++
	if create { // its name must be on disk before the first acknowledgement, whoever made it
		if err := f.FS.SyncDir(filepath.Dir(f.Path)); err != nil {
			f.Detach()
			return err
		}
	}
	return f.Same()
}

// identify looks for the incarnation's line.
func (f *File) identify(head frame.Head, first *frame.Turn) error {
	if first != nil {
		return f.Fits(first.Bytes, 0)
	}
	line, err := f.Line(head.Line)
	if err != nil {
		return err
	}
	i, err := frame.ParseIncarnation(line)
	if err != nil || i.ID != head.Incarnation {
		return &RefusedError{
			Why:  fmt.Sprintf("%s does not have the line of incarnation %s at byte %d: it is another file than the fleet's, or an adoption is not finished", f.Path, head.Incarnation, head.Line),
			Next: NextAdopt, Late: true,
		}
	}
	return nil
}

// Blank refuses a file that holds anything, when ZooKeeper has no head for it.
func (f *File) Blank() error {
	if _, err := f.lstat(); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	h, err := f.FS.Open(f.Path, f.Mode.Flags())
	if err != nil {
		return fmt.Errorf("open %s: %w", f.Path, err)
	}
	defer h.Close()
	n, err := h.ReadAt(make([]byte, 1), 0)
	if n > 0 {
		return &RefusedError{Why: f.Path + " holds data, but ZooKeeper has no head for it", Next: NextAdopt}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", f.Path, err)
	}
	return nil
}

// Opened tells the descriptor that is open from all that were open before.
func (f *File) Opened() int { return f.opened }

// Attached tells whether the file is open.
func (f *File) Attached() bool { return f.data != nil }

// Detach closes the file. What was written and not synced must be written again through
// the next descriptor: the kernel tells of a failed writeback once for each.
func (f *File) Detach() {
	if f.data != nil {
		_ = f.data.Close() // what counts was synced before
		f.data = nil
	}
}

// Same refuses when the path does not name the open file any more. Before a node of
// turns/ is deleted, this is asked.
func (f *File) Same() error {
	there, err := f.lstat()
	if errors.Is(err, os.ErrNotExist) {
		return &RefusedError{Why: f.Path + " was removed", Next: NextAdopt, Late: true}
	}
	if err == nil && (there.Dev != f.id.Dev || there.Ino != f.id.Ino) {
		return &RefusedError{Why: f.Path + " was replaced by another file", Next: NextAdopt, Late: true}
	}
	return err
}

// lstat describes the path and refuses what is not a plain file with one name.
func (f *File) lstat() (Info, error) {
	info, err := f.FS.Lstat(f.Path)
	switch {
	case err != nil:
		return info, err
	case !info.Regular:
		return info, irregular(f.Path)
	case info.Links != 1:
		return info, &RefusedError{Why: fmt.Sprintf("%s has %d names (hard links)", f.Path, info.Links), Next: nextPath, Late: true}
	}
	return info, nil
}

func irregular(path string) error {
	return &RefusedError{Why: path + " is not a regular file but a directory, a symbolic link, a FIFO, a socket or a device", Next: nextPath}
}

// Fits refuses when there are bytes in the file, where a turn with the bytes b belongs,
// that are neither the turn's nor zeros: a turn that is not known to be on disk may be
// there in part, and have holes after a power loss, but nothing else can be.
func (f *File) Fits(b []byte, at int64) error {
	there := make([]byte, len(b))
	n, err := f.data.ReadAt(there, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s at byte %d: %w", f.Path, at, err)
	}
	for i, c := range there[:n] {
		if c != 0 && c != b[i] {
			return &RefusedError{
				Why:  fmt.Sprintf("%s has bytes at %d that no agent wrote (%q): something else writes to the file", f.Path, at+int64(i), clip(there[i:n])),
				Next: "stop what writes there, then `agent adopt` puts those bytes aside and goes on",
			}
		}
	}
	return nil
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }

// WriteAt writes b at an offset. On a network volume it goes in ascending pieces, each
// done before the next: a large write is split there, and shows holes.
func (f *File) WriteAt(b []byte, at int64) error {
	for len(b) > 0 {
		piece := b
		if f.Chunk > 0 && f.Mode == Direct {
			piece = b[:min(len(b), f.Chunk)]
		}
		n, err := f.data.WriteAt(piece, at)
		if err == nil && n < len(piece) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return fmt.Errorf("write %s at byte %d: %w", f.Path, at, err)
		}
		b, at = b[n:], at+int64(n)
	}
	f.end = max(f.end, at)
	return nil
}

// Syncer gives a function that must not return nil until all that was written through the
// open descriptor, before it is called, is on disk. After an error the file must be
// detached, and all since the last good sync be written again: another sync may say yes
// without having written. What it says after Detach says nothing.
func (f *File) Syncer() func() error {
	if f.Mode != Plain {
		return func() error { return nil } // each write was durable when it was done
	}
	data, path := f.data, f.Path
	return func() error {
		if err := data.Datasync(); err != nil {
			return fmt.Errorf("fdatasync %s: %w", path, err)
		}
		return nil
	}
}

// Line reads the line that begins at an offset, without its newline; nothing when there
// is no complete line, or one longer than any of ours.
func (f *File) Line(at int64) ([]byte, error) {
	var room [frame.MaxLine]byte
	n, err := f.data.ReadAt(room[:], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s at byte %d: %w", f.Path, at, err)
	}
	line, _, complete := bytes.Cut(room[:n], []byte("\n"))
	if !complete {
		return nil, nil
	}
	return line, nil
}

// Read fills b from an offset.
func (f *File) Read(b []byte, at int64) error {
	if _, err := f.data.ReadAt(b, at); err != nil {
		return fmt.Errorf("read %s at byte %d: %w", f.Path, at, err)
	}
	return nil
}
