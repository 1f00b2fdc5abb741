package volume

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// careless are mount options that let a sync return before the disk has the data.
var careless = []string{"volatile", "fsync=volatile", "nobarrier", "barrier=0", "fsync_mode=nobarrier"}

// fileSystem finds out what the directory is on.
func (c *checker) fileSystem(_ context.Context, r *Report) (Finding, error) {
	name, trusted, err := c.fs.Kind(c.work)
	if err != nil {
		return Finding{}, err
	}
	m := mountOf(c.work)
	r.FileSystem = name
	return judgeMount(name, trusted, m), nil
}

func judgeMount(name string, trusted bool, m mount) Finding {
	if !trusted {
		if m.kind != "" {
			name = fmt.Sprintf("%s, %s", m.kind, name)
		}
		return failed(fmt.Sprintf("it is %s: no lock there is known to keep others out, on this machine or on another that has it mounted too, so agents refuse it", name),
			"put data.file on a local file system (ext4, xfs, btrfs, tmpfs, overlay, zfs) or a Docker named volume")
	}
	for _, option := range m.options {
		if slices.Contains(careless, option) {
			return warning(fmt.Sprintf("%s, mounted %q: a sync does not wait for the disk", name, option),
				fmt.Sprintf("acknowledged records may be gone after a power loss: mount %s without it", m.point))
		}
	}
	text := name
	if m.source != "" {
		text += fmt.Sprintf(" on %s, mounted at %s", m.source, m.point)
	}
	return ok("%s: local to this machine", text)
}

// mount is what the kernel says of where a file is.
type mount struct {
	kind, source, point string
	options             []string
}

// mountOf looks a file's mount up; what cannot be known is left empty, for it only
// adds to what the file system's own number says.
func mountOf(path string) mount {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return mount{}
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mount{}
	}
	defer table.Close()
	for lines := bufio.NewScanner(table); lines.Scan(); {
		if id, m, err := parseMount(lines.Text()); err == nil && id == st.Mnt_id {
			return m
		}
	}
	return mount{}
}

// parseMount reads a line of /proc/self/mountinfo:
//
//	36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMount(line string) (id uint64, m mount, err error) {
	front, back, found := strings.Cut(line, " - ")
	fields, more := strings.Fields(front), strings.Fields(back)
	if !found || len(fields) < 6 || len(more) < 3 {
		return 0, m, errors.New("no line of mountinfo")
	}
	id, err = strconv.ParseUint(fields[0], 10, 64)
	m = mount{kind: more[0], source: more[1], point: fields[4]}
	m.options = append(strings.Split(fields[5], ","), strings.Split(more[2], ",")...)
	return id, m, err
}
