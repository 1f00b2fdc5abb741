package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
)

// containers are a compose project's agents, by the host name that they have: the
// container's short id.
type containers struct {
	direct bool
	told   chan error // what came of docker kill

	mu   sync.Mutex
	pids map[string]int // of the main process, as this host sees it
}

func docker(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// volume is where the host has the project's file.
func volume(ctx context.Context, project string) (path string, err error) {
	dir, err := docker(ctx, "volume", "inspect", "-f", "{{.Mountpoint}}", project+"_shared-data")
	return filepath.Join(dir, "data.txt"), err
}

func newContainers(ctx context.Context, c config) (*containers, error) {
	ids, err := docker(ctx, "ps", "-q", "--filter", "label=com.docker.compose.project="+c.project,
		"--filter", "label=com.docker.compose.service=agent")
	if err != nil {
		return nil, err
	}
	d := &containers{direct: c.direct, pids: map[string]int{}}
	for _, id := range strings.Fields(ids) {
		if err := d.note(ctx, id); err != nil {
			return nil, err
		}
	}
	if len(d.pids) != c.agents {
		return nil, fmt.Errorf("project %s has %d agents running, not %d", c.project, len(d.pids), c.agents)
	}
	return d, nil
}

func (d *containers) note(ctx context.Context, id string) error {
	text, err := docker(ctx, "inspect", "-f", "{{.State.Pid}}", id)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(text)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pids[id] = pid
	return err
}

func (d *containers) pid(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pids[id]
}

func (d *containers) who(e filelock.Entry) string {
	if d.pid(e.Host) == 0 {
		return ""
	}
	return e.Host
}

// kill takes the main process's end for the moment in which it was killed: when Docker
// sends the signal, only Docker knows.
func (d *containers) kill(ctx context.Context, id string) (issued, killed time.Time, err error) {
	pidfd, err := unix.PidfdOpen(d.pid(id), 0)
	if err != nil {
		return issued, killed, fmt.Errorf("look at its process: %w", err)
	}
	defer unix.Close(pidfd)
	issued = time.Now()
	if d.direct {
		return issued, issued, unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
	d.told = make(chan error, 1)
	go func() { // revive waits for it
		_, err := docker(ctx, "kill", id)
		d.told <- err
	}()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(stand.Milliseconds()))
		killed = time.Now()
		switch {
		case n == 1:
			return issued, killed, nil
		case err != unix.EINTR:
			return issued, killed, fmt.Errorf("docker kill has not ended it: %v", err)
		}
	}
}

// revive starts the container again, once Docker knows that it has ended.
func (d *containers) revive(ctx context.Context, id string) error {
	if d.told != nil {
		if err := <-d.told; err != nil {
			return err
		}
	}
	if _, err := docker(ctx, "wait", id); err != nil {
		return err
	}
	if _, err := docker(ctx, "start", id); err != nil {
		return err
	}
	return d.note(ctx, id)
}

func (d *containers) end() {}
