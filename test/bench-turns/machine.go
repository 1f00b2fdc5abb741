package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine says where it is measured, and when.
func machine(o common) []string {
	memory := textField("/proc/meminfo", "MemTotal:", "\n")
	var kib float64
	_, _ = fmt.Sscan(memory, &kib) // 0 shows that it is not known
	load, _, _ := strings.Cut(textField("/proc/loadavg", "", "\n"), " ")
	return []string{
		"`" + strings.TrimSpace(o.typed) + "`",
		fmt.Sprintf("%s, load %s at the beginning", time.Now().UTC().Format("2006-01-02 15:04 MST"), load),
		fmt.Sprintf("%d processors (%s), %.0f GiB of memory", runtime.NumCPU(), strings.Trim(textField("/proc/cpuinfo", "model name", "\n"), "\t :"), kib/(1<<20)),
		fmt.Sprintf("Linux %s, %s, files on %s", release(), strings.Trim(textField("/etc/os-release", "PRETTY_NAME=", "\n"), `"`), fileSystem(o.dir)),
		fmt.Sprintf("Turnstile %s, %s", o.commit, runtime.Version()),
	}
}

// about is machine's, of the sides.
func (r results) about(o options) (lines []string) {
	for _, s := range o.sides {
		if version := r.versions[s.name]; version != "" {
			lines = append(lines, s.name+": "+s.words+"; "+version)
		} else {
			lines = append(lines, s.name+": "+s.words+"; did not run")
		}
	}
	for _, s := range sides {
		if !contains(o.sides, s.name) {
			lines = append(lines, s.name+": left out by --peers")
		}
	}
	return lines
}

func contains(all []side, name string) bool {
	for _, s := range all {
		if s.name == name {
			return true
		}
	}
	return false
}

// textField is what stands in a file between the first before and the end after it.
func textField(path, before, end string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	_, after, _ := bytes.Cut(text, []byte(before))
	value, _, _ := bytes.Cut(after, []byte(end))
	return strings.TrimSpace(string(value))
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// fileSystem names the kind of file system that dir is on.
func fileSystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	switch int64(s.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs (which syncs nothing)"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", s.Type)
}
