package child

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// killChildren kills our children, whatever group they are in. Those of theirs become
// ours when they die. It must not run beside what reaps them.
func killChildren() {
	us := os.Getpid()
	for _, pid := range processes() {
		if parent(pid) == us {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// processes lists the machine's, as far as they can be seen.
func processes() (pids []int) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parent is the process ID of a process's parent, 0 when there is no such process. See
// proc_pid_stat(5): it is the second field after the name, which is in parentheses and may
// hold some.
func parent(pid int) int {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(fields[1]))
	return ppid
}
