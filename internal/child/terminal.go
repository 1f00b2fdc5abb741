package child

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is the one that controls us. It lets only one process group read from it, and
// that is to be the command's while it runs, for its Ctrl-C and its questions. A nil
// terminal is none.
type terminal struct {
	fd    int
	given bool // to the command's group
}

func openTerminal() *terminal {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return &terminal{fd: fd}
}

func (t *terminal) close() {
	if t != nil {
		unix.Close(t.fd)
	}
}

// ours tells whether we have the terminal: we were not started in the background.
func (t *terminal) ours() bool {
	if t == nil {
		return false
	}
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// wholly tells whether we have it for ourselves. In a pipeline others of our group may
// read from it (agent lock … | less), so that the command gets it only when it asks.
func (t *terminal) wholly() bool {
	return t.ours() && isTerminal(os.Stdin) && isTerminal(os.Stdout)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (t *terminal) give(group int) {
	t.given = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group) == nil
}

// takeBack makes the terminal ours again, if we gave it.
func (t *terminal) takeBack() {
	if t == nil || !t.given {
		return
	}
	signal.Ignore(unix.SIGTTOU) // else asking for it stops who does not have it
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, unix.Getpgrp())
	t.given = false
}

// stopped is called when the command was stopped: by Ctrl-Z, or because it wants the
// terminal. Then we give it that, or stop too, so that the shell that we were started
// from goes on.
func (p *Process) stopped(sig syscall.Signal) {
	if p.tty == nil {
		return // there is no shell to give way to
	}
	if (sig == unix.SIGTTIN || sig == unix.SIGTTOU) && p.tty.ours() {
		p.tty.give(p.guard)
		p.signal(unix.SIGCONT)
		return
	}
	had := p.tty.given
	p.tty.takeBack()
	if session, _ := unix.Getsid(0); session != os.Getpid() && os.Getpid() != 1 {
		stopUs() // else nobody would continue us
	}
	if p.until > 0 && bootTime() >= p.until {
		return // the guard kills it
	}
	if had && p.tty.ours() {
		p.tty.give(p.guard)
	}
	p.signal(unix.SIGCONT)
}

// stopUs stops our process group, and returns when we were continued.
func stopUs() {
	again := make(chan os.Signal, 1)
	signal.Notify(again, unix.SIGCONT)
	defer signal.Stop(again)
	if unix.Kill(0, unix.SIGSTOP) == nil {
		<-again
	}
}
