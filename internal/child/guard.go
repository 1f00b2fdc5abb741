package child

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The guard's standard input brings messages of eight bytes: until when nothing need be
// done, by bootTime in nanoseconds, or goodbye. Its standard output says once, with one
// byte, that it is there.
const (
	message = 8
	goodbye = 0
)

// deaf is what the guard ignores, because it is meant for the command: all that ends or
// stops a process and is not the sign of a bug.
var deaf = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGPIPE, unix.SIGALRM, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGVTALRM, unix.SIGIO, unix.SIGPWR, unix.SIGSTKFLT,
}

// startGuard starts the leader of the process group and waits until it guards.
func (p *Process) startGuard(argv []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	theirs, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	ready, saying, err := os.Pipe()
	if err != nil {
		ours.Close()
		return err
	}
	defer ready.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		ours.Close()
		saying.Close()
		return err
	}
	defer null.Close()
	// Its standard error is not ours, or whoever reads ours to its end would wait for it.
	process, err := os.StartProcess(self, argv, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{theirs, saying, null}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	saying.Close()
	if err != nil {
		ours.Close()
		return err
	}
	p.guard, p.grouped, p.control = process.Pid, true, ours
	_ = process.Release() // reap waits for it
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		ours.Close()
		_, _ = unix.Wait4(p.guard, nil, 0, nil)
		return errors.New("it ended at once")
	}
	return nil
}

// tell sends a message. That the guard is dead is for reap to see.
func (p *Process) tell(until time.Duration) {
	_, _ = p.control.Write(binary.BigEndian.AppendUint64(nil, uint64(until)))
}

// Guard is what the guard does. It returns only an error: that it was not started by
// Start.
func Guard() error {
	signal.Ignore(deaf...)
	if unix.Getpgrp() != os.Getpid() {
		return errors.New("a guard leads a process group of its own")
	}
	clock, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a clock that counts suspend: %w", err)
	}
	go func() { // ends with the process
		var fired [8]byte
		for {
			if n, err := unix.Read(clock, fired[:]); n == len(fired) || !errors.Is(err, unix.EINTR) {
				killGroup()
			}
		}
	}()
	if _, err := os.Stdout.Write([]byte{'.'}); err != nil {
		return err
	}
	os.Stdout.Close()
	for {
		var b [message]byte
		if _, err := io.ReadFull(os.Stdin, b[:]); err != nil {
			killGroup() // whoever started us is dead
		}
		until := int64(binary.BigEndian.Uint64(b[:]))
		if until == goodbye {
			os.Exit(0)
		}
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(until)}
		if err := unix.TimerfdSettime(clock, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
			killGroup()
		}
	}
}

// killGroup kills the guard too.
func killGroup() {
	for {
		_ = unix.Kill(0, unix.SIGKILL)
	}
}
