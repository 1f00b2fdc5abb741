package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

const nextFiles = "the fence could not tell one file from another: take another volume"

// files finds out whether a path tells which file it names, as the fence needs it, and
// whether files and directories do what the writer does to them.
func (c *checker) files(context.Context, *Report) (Finding, error) {
	for _, try := range []func() (wrong string, err error){c.identity, c.replaced, c.links, c.cut} {
		wrong, err := try()
		if err != nil {
			return Finding{}, err
		}
		if wrong != "" {
			return failed(wrong, nextFiles), nil
		}
	}
	if err := c.fs.SyncDir(c.work); err != nil {
		return failed(fmt.Sprintf("a directory cannot be synced: %v", err), "a new file could be gone after a power loss, so agents halt: take another volume"), nil
	}
	return ok("a path tells which file it names, when it is replaced, removed or linked; directories can be synced"), nil
}

// identity: what is open, what the path says, and what is opened again are one file.
func (c *checker) identity() (wrong string, err error) {
	f, err := c.create("one")
	if err != nil {
		return "", err
	}
	defer f.Close()
	first, err := f.Stat()
	if err != nil {
		return "", err
	}
	for range 3 {
		if _, err := f.Write([]byte("x")); err != nil {
			return "", err
		}
		there, err := c.fs.Lstat(c.path("one"))
		if err != nil {
			return "", err
		}
		again, err := c.statAgain("one")
		if err != nil {
			return "", err
		}
		now, err := f.Stat()
		if err != nil {
			return "", err
		}
		for _, i := range []writer.Info{there, again, now} {
			if !sameFile(i, first) || !i.Regular || i.Links != 1 {
				return fmt.Sprintf("one file looks like several: device %d inode %d when it was made, device %d inode %d later (%d names)", first.Dev, first.Ino, i.Dev, i.Ino, i.Links), nil
			}
		}
		if now.Size != there.Size || now.Size != again.Size {
			return fmt.Sprintf("one file has several sizes: %d, %d and %d bytes", now.Size, there.Size, again.Size), nil
		}
	}
	return "", c.fs.Remove(c.path("one"))
}

func (c *checker) statAgain(name string) (writer.Info, error) {
	f, err := c.fs.Open(c.path(name), os.O_RDWR)
	if err != nil {
		return writer.Info{}, err
	}
	defer f.Close()
	return f.Stat()
}

func sameFile(a, b writer.Info) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// replaced: a rename over an open file, and its removal, can be seen.
func (c *checker) replaced() (wrong string, err error) {
	old, err := c.create("old")
	if err != nil {
		return "", err
	}
	defer old.Close()
	next, err := c.create("new")
	if err != nil {
		return "", err
	}
	defer next.Close()
	if err := c.fs.Rename(c.path("new"), c.path("old")); err != nil {
		return "", err
	}
	was, err := old.Stat()
	if err != nil {
		return "", err
	}
	is, err := next.Stat()
	if err != nil {
		return "", err
	}
	there, err := c.fs.Lstat(c.path("old"))
	if err != nil {
		return "", err
	}
	if sameFile(there, was) || !sameFile(there, is) {
		return "a file that was renamed over another cannot be told from it", nil
	}
	if err := c.fs.Remove(c.path("old")); err != nil {
		return "", err
	}
	if _, err := c.fs.Lstat(c.path("old")); !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("a file that was removed is still there (%v)", err), nil
	}
	return "", nil
}

// links: a second name and a symbolic link can be seen, unless there are none here.
func (c *checker) links() (wrong string, err error) {
	f, err := c.create("linked")
	if err != nil {
		return "", err
	}
	defer f.Close()
	switch err := c.fs.Link(c.path("linked"), c.path("also")); {
	case err == nil:
		there, err := c.fs.Lstat(c.path("linked"))
		if err != nil {
			return "", err
		}
		if there.Links != 2 {
			return fmt.Sprintf("a file with two names is said to have %d", there.Links), nil
		}
	case !isUnsupported(err):
		return "", err
	}
	switch err := c.fs.Symlink(c.path("linked"), c.path("symbolic")); {
	case err == nil:
		there, err := c.fs.Lstat(c.path("symbolic"))
		if err != nil {
			return "", err
		}
		h, err := c.fs.Open(c.path("symbolic"), os.O_RDWR)
		if err == nil {
			h.Close()
		}
		if there.Regular || err == nil {
			return "a symbolic link cannot be told from the file that it points to", nil
		}
	case !isUnsupported(err):
		return "", err
	}
	return "", nil
}

func isUnsupported(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EMLINK)
}

// cut: what was cut off a file is gone, and an append goes on behind the cut.
func (c *checker) cut() (wrong string, err error) {
	f, err := c.create("cut")
	if err != nil {
		return "", err
	}
	defer f.Close()
	other, err := c.fs.Open(c.path("cut"), os.O_RDWR|os.O_APPEND)
	if err != nil {
		return "", err
	}
	defer other.Close()
	if _, err := f.Write([]byte("kept, and cut")); err != nil {
		return "", err
	}
	if err := other.Truncate(4); err != nil {
		return "", err
	}
	if err := other.Sync(); err != nil {
		return "", err
	}
	if _, err := f.Write([]byte("!")); err != nil {
		return "", err
	}
	info, err := other.Stat()
	if err != nil {
		return "", err
	}
	content := make([]byte, info.Size)
	if _, err := other.ReadAt(content, 0); err != nil {
		return "", err
	}
	if string(content) != "kept!" {
		return fmt.Sprintf("a file that was cut and appended to holds %q, not %q", content, "kept!"), nil
	}
	return "", nil
}
