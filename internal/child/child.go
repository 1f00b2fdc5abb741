// Package child runs one command so that all of it can be ended: its process group, what
// left the group, and both even when the process that runs it is killed itself.
//
//	we ── guard     leader of the process group; does nothing but wait for our end
//	   └─ command   in the guard's group, with whatever it starts
//
// # What it promises
//
//   - Kill ends the command and all its descendants, those included that left the process
//     group (setsid, double fork): we are the subreaper, so orphans become our children,
//     and all our children are killed until there are none.
//   - When we die, however that happens, the guard sees a pipe's end and kills the process
//     group; the kernel kills the command itself (PR_SET_PDEATHSIG).
//   - When we are stopped, or the machine was suspended, the guard kills the group as soon
//     as the time that Command.Safe gave is over, by a clock that counts suspend. It knows
//     of that before the command begins.
//   - The group's ID belongs to no other group as long as signals are sent to it: the
//     guard leads the group, and is there or not yet reaped.
//
// # What it does not promise
//
// That a process dies at once: one that waits for a disk in the kernel dies when the disk
// answers. That a process which has changed its user (sudo) can be killed. That what left
// the process group ends when we are killed ourselves.
//
// A process runs one command in this manner and has no other children: all are reaped.
package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnguarded says that the command was not started because its guard could not be.
var ErrUnguarded = errors.New("start the command's guard")

// Command is what to run. Its standard streams are ours, untouched.
type Command struct {
	Path string   // of the file to execute
	Args []string // argv
	Env  []string
	// Guard is the argv of a process of this same program that calls Guard.
	Guard []string
	// Safe tells for how long, from now, the command may run without our saying so again
	// (Renew); nil means for ever.
	Safe func() time.Duration
}

// Process is a command that was started. It ends with Kill or Release.
type Process struct {
	command int // its process ID
	guard   int // and the guard's, which is the group's
	safe    func() time.Duration
	control *os.File
	tty     *terminal

	done chan struct{} // closed when the command has ended
	code int           // its exit code then
	gone chan struct{} // closed when no descendant is left

	mu        sync.Mutex
	grouped   bool // the guard was not reaped yet: the group's ID is ours
	killing   bool
	unguarded bool // the guard ended by itself, and so the command
	released  bool
	until     time.Duration // when the guard kills, by bootTime; 0 means never
}

// Start starts a command. When it fails nothing runs: the error is ErrUnguarded, or
// says what is wrong with c.Path.
func Start(c Command) (*Process, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("%w: become the subreaper: %w", ErrUnguarded, err)
	}
	p := &Process{safe: c.Safe, done: make(chan struct{}), gone: make(chan struct{})}
	started := make(chan error)
	go func() { // ends when no child is left, or with the process
		// The kernel takes the end of the thread that started the command for our end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.start(c)
		started <- err
		if err == nil {
			p.reap()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Process) start(c Command) (err error) {
	if err := p.startGuard(c.Guard); err != nil {
		return fmt.Errorf("%w: %w", ErrUnguarded, err)
	}
	defer func() {
		if err != nil {
			p.control.Close() // and so end the guard
			_, _ = unix.Wait4(p.guard, nil, 0, nil)
			p.tty.close()
		}
	}()
	if p.safe != nil { // before anything runs: we may be stopped right after that
		p.Renew()
	}
	sys := &syscall.SysProcAttr{Setpgid: true, Pgid: p.guard, Pdeathsig: syscall.SIGKILL}
	p.tty = openTerminal()
	if p.tty.wholly() {
		sys.Foreground, sys.Ctty = true, p.tty.fd
		p.tty.given = true
	}
	process, err := os.StartProcess(c.Path, c.Args, &os.ProcAttr{
		Env: c.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Sys: sys,
	})
	if err != nil {
		p.tty.takeBack()
		return err
	}
	p.command = process.Pid
	return process.Release() // reap waits for it
}

// Done is closed when the command has ended; what it started may still run.
func (p *Process) Done() <-chan struct{} { return p.done }

// Code is the exit code of the command, which has ended; 128 and its number when that was
// by a signal, as shells have it.
func (p *Process) Code() int { return p.code }

// Unguarded tells, once the command has ended, whether it was killed because its guard was.
func (p *Process) Unguarded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unguarded
}

// Gone is closed when Kill has left nothing.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Signal sends a signal to the process group.
func (p *Process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal(sig)
}

func (p *Process) signal(sig syscall.Signal) {
	if p.grouped {
		_ = unix.Kill(-p.guard, sig) // an error says that it has ended
	}
}

// Renew asks Command.Safe again, and has the guard kill the group when the time that it
// returns is over, unless Renew is called again or Release is.
func (p *Process) Renew() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := bootTime() // before we ask, for we may be stopped in between
	left := p.safe()
	p.until = max(1, now+left)
	p.tell(p.until)
	return left
}

// Overdue tells whether the time that Command.Safe gave is over.
func (p *Process) Overdue() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until > 0 && bootTime() >= p.until
}

// Kill begins to kill all that runs; Gone tells when that is done.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killing = true
	p.signal(unix.SIGKILL)
	killChildren() // from here on those whose parents die are killed as they are reaped
}

// Release takes the terminal back and sends the guard away. What the command left behind
// runs on. It does nothing after Kill but for the terminal.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tty.takeBack()
	p.released = true
	p.tell(goodbye)
	p.control.Close()
}

// reap waits for every child, and in the end kills each that is left.
func (p *Process) reap() {
	for {
		// Wait first, without reaping: what is reaped must be noted before anybody
		// signals it.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || !p.reapOne() { // ECHILD: nobody is left
			close(p.gone)
			return
		}
	}
}

func (p *Process) reapOne() (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grouped && p.guardEnded() && !p.released {
		p.unguarded = !p.killing
		p.killing = true // its own doing, or a signal to all: nobody guards the rest
		p.signal(unix.SIGKILL)
	}
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WUNTRACED, nil)
	switch {
	case err != nil:
		return errors.Is(err, unix.EINTR)
	case pid == p.command && status.Stopped():
		p.stopped(status.StopSignal())
	case pid == p.command:
		p.code = exitCode(status)
		close(p.done)
	case pid == p.guard && !status.Stopped():
		p.grouped = false
	}
	if p.killing {
		killChildren()
	}
	return true
}

// guardEnded tells whether the guard is dead and not yet reaped.
func (p *Process) guardEnded() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, p.guard, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == int32(unix.SIGCHLD)
}

func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// bootTime goes on while the machine is suspended.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
