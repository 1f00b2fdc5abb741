package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

const nextFiles = "agents could not tell the shared file from another: take another volume"

// files finds out whether a file is renamed without replacing another, whether a path
// then tells which file it names, and whether a directory can be synced.
func (c *checker) files(context.Context, *Report) (Finding, error) {
	f, err := c.renames()
	if err != nil || f.Result == Failed {
		return f, err
	}
	if err := c.disk.syncDir(c.work); err != nil {
		return failed(fmt.Sprintf("a directory cannot be synced: %v", err), "a new file could be gone after a power loss: take another volume"), nil
	}
	return f, nil
}

// renames does what `agent adopt` does: the file gets another name, and one that was
// made beside it takes its place.
func (c *checker) renames() (Finding, error) {
	old, err := c.create("file")
	if err != nil {
		return Finding{}, err
	}
	defer old.Close()
	next, err := c.create("next")
	if err != nil {
		return Finding{}, err
	}
	defer next.Close()
	switch err := c.disk.move(c.path("next"), c.path("file")); {
	case err == nil:
		return failed("a rename that must not replace a file did, or nothing was renamed", nextFiles), nil
	case !errors.Is(err, os.ErrExist) && isUnsupported(err):
		return warning(fmt.Sprintf("a file cannot be renamed without replacing: %v", err), "agents run all the same; `agent adopt` cannot work here"), nil
	case !errors.Is(err, os.ErrExist):
		return Finding{}, fmt.Errorf("rename: %w", err)
	}
	for _, m := range [][2]string{{"file", "was"}, {"next", "file"}} {
		if err := c.disk.move(c.path(m[0]), c.path(m[1])); err != nil {
			return Finding{}, fmt.Errorf("rename: %w", err)
		}
	}
	return c.named(map[string]file{"was": old, "file": next})
}

// named compares paths with the open files that they must name.
func (c *checker) named(want map[string]file) (Finding, error) {
	for name, open := range want {
		there, err := c.disk.lstat(c.path(name))
		if err != nil {
			return Finding{}, err
		}
		is, err := open.Stat()
		if err != nil {
			return Finding{}, err
		}
		if !os.SameFile(there, is) {
			return failed("a path does not tell which file it names: one that was renamed cannot be told from another", nextFiles), nil
		}
	}
	return ok("a rename replaces nothing it must not; a path tells which file it names; directories can be synced"), nil
}

func isUnsupported(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.ENOTSUP, syscall.ENOSYS, syscall.EINVAL, syscall.EMLINK} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
