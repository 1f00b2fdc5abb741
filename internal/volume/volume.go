// Package volume tells which kind of volume a directory is on (see [Of]), and finds out
// by trying whether it keeps what Turnstile builds on (see [Check], and [CheckJointly] for
// several machines that try it at the same time): that a write by
// position touches its range only and is seen by other processes, that fdatasync waits
// for the disk, that a rename replaces nothing and a path tells which file it names, that
// directories can be synced.
//
// The kind comes from /proc/self/mountinfo, because statfs has one number for all FUSE
// file systems. What is tried is tried with several processes where one alone proves
// nothing (see [Serve]), in a new directory that is removed again. What was tried and
// held can still fail one day; what did not hold here will not hold in a fleet.
//
// # What it cannot find out
//
// On one machine, what the caches of a second one do: for that there is [CheckJointly],
// and where nobody ran it the table of kinds decides. And whether the disk keeps what it
// confirmed when the power goes: only a confirmation that comes too soon gives that away.
package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options for Check. All but Begin and Found are required.
type Options struct {
	Dir    string
	Volume string            // the setting data.volume: Auto, or a Mode that is vouched for
	For    time.Duration     // how long the checks may take together, roughly
	Child  []string          // the command line of a process that runs Serve
	Begin  func(what string) // told what is tried now
	Found  func(Finding)     // told each finding, in the order of the report's
}

// UnusableError says why nothing can be tried in the directory, and what to do.
type UnusableError struct {
	Dir  string
	Err  error
	Next string
}

func (e *UnusableError) Error() string { return fmt.Sprintf("%s: %v; %s", e.Dir, e.Err, e.Next) }

func (e *UnusableError) Unwrap() error { return e.Err }

// SpaceError says that the volume was too full to be judged.
type SpaceError struct {
	Dir    string
	Free   uint64 // bytes
	Inodes uint64 // free ones
	Err    error
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%v in %s (%s and %d inodes are free): nothing can be judged; make room for %s, then check again",
		e.Err, e.Dir, size(e.Free), e.Inodes, size(budget))
}

func (e *SpaceError) Unwrap() error { return e.Err }

const (
	processes = 2               // as many write at once
	budget    = 32e6            // bytes that a check may have on the volume at a time
	patience  = 5 * time.Second // for what should happen at once
	tooSlow   = time.Second     // what is no fault and yet worth a warning
)

// checker tries one directory. Tests put a file system, processes and a clock of their
// own in it.
type checker struct {
	Options
	disk  disk
	mount func(dir string) (mount, error)
	spawn func(context.Context) (process, error)
	now   func() time.Time

	mode  Mode   // how files are opened, known from the first check on
	work  string // the directory to try things in, ours alone
	space uint64 // bytes that a check may have there at a time
}

// Check tries the directory and judges it. It removes what it made, though ctx ended.
// The errors are [*UnusableError], [*SpaceError], ctx's cause, one for a setting that is
// none, and those of processes that could not be started; with one of them there is no
// verdict.
func Check(ctx context.Context, opts Options) (Report, error) {
	if _, err := (Kind{Mode: Plain}).Resolve(opts.Volume); err != nil {
		return Report{}, err
	}
	c := &checker{Options: opts, disk: osDisk{}, mount: mountOf, now: time.Now, space: budget}
	c.spawn = func(ctx context.Context) (process, error) { return startChild(ctx, opts.Child) }
	return c.check(ctx)
}

func (c *checker) check(ctx context.Context) (r Report, err error) {
	if err := c.makeWork(); err != nil {
		return r, err
	}
	defer func() {
		if gone := os.RemoveAll(c.work); gone != nil {
			err = errors.Join(err, fmt.Errorf("remove what the check made: %w; remove %s by hand", gone, c.work))
		}
	}()
	r = Report{Directory: c.Dir, Findings: []Finding{}}
	for _, step := range []struct {
		what string
		try  func(context.Context, *Report) (Finding, error)
	}{
		{"file system", c.fileSystem},
		{"files", c.files},
		{"writes", c.writes},
		{"fdatasync", c.fdatasync},
		{"fifo", c.fifo},
	} {
		if c.Begin != nil {
			c.Begin(step.what)
		}
		f, err := step.try(ctx, &r)
		if err != nil {
			if f, err = c.blame(ctx, err); err != nil {
				return r, fmt.Errorf("check %s: %w", step.what, err)
			}
		}
		f.Check = step.what
		r.add(f)
		if c.Found != nil {
			c.Found(f)
		}
	}
	return r, nil
}

// makeWork makes the directory to try things in, which shows whether it can be used.
func (c *checker) makeWork() error {
	unusable := func(err error, next string) error {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return &UnusableError{c.Dir, err, next}
	}
	info, err := os.Stat(c.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return unusable(err, "create it, or give the directory that the shared file is to be in")
	case err != nil:
		return unusable(err, "give a directory that user "+fmt.Sprint(os.Getuid())+" can read and write")
	case !info.IsDir():
		return unusable(syscall.ENOTDIR, "give the directory that the shared file is in")
	}
	c.work, err = os.MkdirTemp(c.Dir, ".turnstile-check-")
	switch {
	case errors.Is(err, syscall.EROFS):
		return unusable(err, "mount it for writing: agents must write there")
	case errors.Is(err, os.ErrPermission):
		return unusable(err, fmt.Sprintf("make it writable for user %d, as agents need it", os.Getuid()))
	case isFull(err):
		return c.full(err)
	case err != nil:
		return unusable(err, "no file can be created in it: give a directory of a volume that keeps files")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(c.work, &st); err != nil {
		return errors.Join(fmt.Errorf("ask for the free space: %w", err), os.Remove(c.work))
	}
	c.space = min(c.space, st.Bavail*uint64(st.Bsize)/4)
	return nil
}

// blame makes of an error what it says of the volume, or gives it back when it says
// nothing.
func (c *checker) blame(ctx context.Context, err error) (Finding, error) {
	switch {
	case ctx.Err() != nil:
		return Finding{}, context.Cause(ctx)
	case isFull(err):
		return Finding{}, c.full(err)
	case errors.Is(err, errProcess):
		return Finding{}, err
	}
	return failed(err.Error(), "an agent would meet the same error: see the kernel's log (dmesg), or take another volume"), nil
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (c *checker) full(err error) error {
	full := &SpaceError{Dir: c.Dir, Err: syscall.ENOSPC}
	if errors.Is(err, syscall.EDQUOT) {
		full.Err = syscall.EDQUOT
	}
	var st unix.Statfs_t
	if err := unix.Statfs(c.Dir, &st); err == nil {
		full.Free, full.Inodes = st.Bavail*uint64(st.Bsize), st.Ffree
	}
	return full
}

func (c *checker) path(name string) string { return filepath.Join(c.work, name) }

// create makes a new file to try things on, opened as an agent opens it.
func (c *checker) create(name string) (file, error) {
	return c.disk.open(c.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL|c.mode.Flags())
}
