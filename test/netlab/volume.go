package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// mount mounts the volume, or a directory of it, on a machine.
func (l *lab) mount(ctx context.Context, m *machine, dir, inside string) error {
	options := l.kind.options
	switch {
	case l.kind.onHost:
		options = fmt.Sprintf(options, l.smbPort)
		// Past the cache a read sees more than the length that is remembered for a second:
		// to tail -F that is a file that was cut short, which it prints again.
		if m.role == reader {
			options += ",actimeo=0"
		}
	case strings.Contains(options, "%s"):
		options = fmt.Sprintf(options, fmt.Sprintf("10.9.0.%d", strings.Index("SABC", m.role)+1))
	}
	source := l.kind.source + inside
	if l.kind.onHost && inside != "" {
		source = l.kind.source + "/" + inside
		options += ",prefixpath=" + inside
	}
	return m.ask(ctx, "Mount", wire.Mount{Source: source, Dir: dir, Type: l.kind.fs, Options: options}, &struct{}{})
}

// readVolume reads a file of the volume where the volume is: past all clients.
func (l *lab) readVolume(ctx context.Context, name string) ([]byte, error) {
	if l.kind.onHost {
		return os.ReadFile(filepath.Join(l.smbDir, name))
	}
	return l.machines[server].read(ctx, "/disk/export/"+name)
}

// restartServer stops the server of the volume for a while.
func (l *lab) restartServer(ctx context.Context) error {
	if l.kind.onHost {
		if err := l.smb.stop(); err != nil {
			return err
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
		return l.startSMB(ctx)
	}
	s := l.machines[server]
	if err := s.ask(ctx, "Serve", false, &struct{}{}); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	return s.ask(ctx, "Serve", true, &struct{}{})
}

// daemon is a process that serves SMB, with those that it starts.
type daemon struct {
	cmd  *exec.Cmd
	done chan error
}

// startSMB starts the server of SMB and waits until it serves.
func (l *lab) startSMB(ctx context.Context) (err error) {
	log := filepath.Join(l.dir, "smbd")
	if l.smb, err = startDaemon(l.smbCommand, log); err != nil {
		return err
	}
	err = until(ctx, 20*time.Second, func() (bool, error) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.smbPort))
		if err == nil {
			conn.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("smbd does not serve: %w: %s", err, tail(log))
	}
	return nil
}

func startDaemon(command []string, log string) (*daemon, error) {
	if len(command) == 0 {
		return nil, fmt.Errorf("--smbd is empty: scripts/netlab.sh gives it")
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	d := &daemon{cmd: exec.Command(command[0], command[1:]...), done: make(chan error, 1)}
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { d.done <- d.cmd.Wait() }()
	return d, nil
}

// stop kills it and all that it started.
func (d *daemon) stop() error {
	err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.done
	return err
}
