package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mount is what the kernel says of one mounted file system.
type mount struct {
	id     uint64
	point  string // where it is mounted
	kind   string // ext4, nfs4, fuse.s3fs
	source string // a device, a server's path, or a name that the file system chose
	// options are those of the mount and those of the file system, as in
	// rw, relatime, vers=4.2, wsize=65536.
	options []string
}

// parseMounts reads /proc/self/mountinfo. A line that it does not understand is an
// error: if that line were the one that matters, another would be taken for it.
func parseMounts(table string) ([]mount, error) {
	var all []mount
	for line := range strings.Lines(table) {
		m, ok := parseMount(strings.TrimSuffix(line, "\n"))
		if !ok {
			return nil, fmt.Errorf("mountinfo has a line of an unknown form: %q", line)
		}
		all = append(all, m)
	}
	return all, nil
}

// parseMount reads one line. Any number of optional fields stands before the dash:
//
//	36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//
// The line is split at single spaces, because the source may be empty.
func parseMount(line string) (mount, bool) {
	front, back, found := strings.Cut(line, " - ")
	fields, more := strings.Split(front, " "), strings.Split(back, " ")
	if !found || len(fields) < 6 || len(more) < 3 {
		return mount{}, false
	}
	id, err := strconv.ParseUint(fields[0], 10, 64)
	m := mount{id: id, point: unescape(fields[4]), kind: unescape(more[0]), source: unescape(more[1])}
	m.options = append(strings.Split(fields[5], ","), strings.Split(more[2], ",")...)
	return m, err == nil && strings.HasPrefix(m.point, "/")
}

// unescape undoes what the kernel does to spaces, tabs, newlines and backslashes in
// names: \040 is a space.
func unescape(name string) string {
	var plain strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+3 < len(name) {
			if n, err := strconv.ParseUint(name[i+1:i+4], 8, 8); err == nil {
				plain.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		plain.WriteByte(name[i])
	}
	return plain.String()
}

// option returns the value of a key=value option, or "".
func (m mount) option(key string) string {
	for _, o := range m.options {
		if value, ok := strings.CutPrefix(o, key+"="); ok {
			return value
		}
	}
	return ""
}

// holding finds the mount that path, absolute and without symbolic links, is on: the
// one with the longest mount point, and of several on one point the last, which covers
// the others.
func holding(all []mount, path string) (best mount, found bool) {
	for _, m := range all {
		if under(path, m.point) && len(m.point) >= len(best.point) {
			best, found = m, true
		}
	}
	return best, found
}

func under(path, point string) bool {
	rest, ok := strings.CutPrefix(path, point)
	return ok && (rest == "" || rest[0] == '/' || point == "/")
}

// mountOf finds the mount that a directory is on. A mount that is in nobody's list, as
// of a directory outside a chroot, is empty.
func mountOf(dir string) (mount, error) {
	// It is opened first, so that what is mounted on demand is mounted.
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return mount{}, err
	}
	defer d.Close()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mount{}, fmt.Errorf("find the volume of %s: %w", dir, err)
	}
	all, err := parseMounts(string(table))
	if err != nil {
		return mount{}, err
	}
	if id, ok := mountID(d); ok {
		for _, m := range all {
			if m.id == id {
				return m, nil
			}
		}
	}
	return mountByPath(all, dir)
}

// mountID is the number of the mount that an open file is on. It is right where paths
// are not: a mount over a parent hides the longer mount points beneath it. Not every
// kernel tells it; gVisor does not.
func mountID(f *os.File) (uint64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut("\n"+string(text), "\nmnt_id:")
	line, _, _ := strings.Cut(rest, "\n")
	id, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	return id, err == nil
}

func mountByPath(all []mount, dir string) (mount, error) {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return mount{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return mount{}, err
	}
	m, _ := holding(all, path)
	return m, nil
}
