package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/child"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// errLost says that the command was ended because what it ran under was lost.
var errLost = errors.New("it was lost")

const (
	// evicted is the grace when somebody removed our node: another may have the lock.
	evicted = 100 * time.Millisecond
	// dying is how long to wait for what was killed, which dies at once unless a disk
	// does not answer.
	dying = 10 * time.Second
)

// guarded is what a command runs under: something that is ours until it is lost.
type guarded struct {
	what  string // "lock nightly"
	sess  *session.Session
	held  context.Context // done when it is lost
	grace time.Duration   // how long the command has to end by itself then
	log   *zap.Logger
	told  bool // to stop, by a signal
}

// checkGrace fills in the grace: a part of the session's timeout, of which ZooKeeper granted
// perhaps another than was asked for. A server that is lost without a word is noticed after
// 2/3 of it, and the session may go on with the next.
func checkGrace(sess *session.Session, asked time.Duration, isSet bool) (time.Duration, error) {
	granted := sess.Timeout()
	if !isSet {
		return granted * 3 / 20, nil
	}
	if most := granted * 2 / 5; asked > most {
		return 0, usageError{fmt.Errorf("--grace %v: with a session timeout of %v give at most %v, or raise --session-timeout", asked, granted, most)}
	}
	return asked, nil
}

// run runs the command until it ends or what it runs under is lost: then the error is errLost,
// and all that it started is dead. Other errors say that it could not be started.
func (g *guarded) run(file string, argv, env []string, signals chan os.Signal) (code int, err error) {
	p, err := child.Start(child.Command{
		Path: file, Args: argv, Env: env, Guard: []string{"agent", lockGuard},
		Safe: g.sess.Remaining,
	})
	if err != nil {
		return 0, err
	}
	defer p.Release()
	pulse := time.NewTimer(0)
	defer pulse.Stop()
	for {
		select {
		case sig := <-signals:
			g.told = g.told || sig == unix.SIGINT || sig == unix.SIGTERM || sig == unix.SIGHUP
			p.Signal(sig.(syscall.Signal))
		case <-pulse.C:
			next := g.pulse(p)
			if next <= 0 {
				return 0, g.end(p, g.grace, signals, fmt.Errorf("ZooKeeper is silent, and would give it to another in %v", g.sess.Remaining().Round(time.Millisecond)))
			}
			pulse.Reset(next)
		case <-g.held.Done():
			return 0, g.end(p, g.graceAfter(), signals, context.Cause(g.held))
		case <-p.Done():
			// Whether it ended before the loss cannot be known any more then.
			if g.sess.Err() != nil || g.held.Err() != nil || p.Overdue() {
				return 0, g.end(p, 0, signals, g.whyLost())
			}
			if p.Unguarded() {
				return 0, fmt.Errorf("%w: it was killed, and the command had to be too", child.ErrUnguarded)
			}
			return p.Code(), nil
		}
	}
}

// pulse tells the guard how long the command may run without our saying so again, and
// returns when to say so; not above zero when the command has to be told to end.
func (g *guarded) pulse(p *child.Process) time.Duration {
	return min(p.Renew()-g.grace, g.sess.Timeout()/3)
}

// graceAfter is how long the command has to end by itself when the hold has ended.
func (g *guarded) graceAfter() time.Duration {
	if errors.Is(context.Cause(g.held), queue.ErrLost) {
		return min(evicted, g.grace)
	}
	return 0 // the session is over, and the command should have ended before that
}

func (g *guarded) whyLost() error {
	switch {
	case g.held.Err() != nil:
		return context.Cause(g.held)
	case g.sess.Err() != nil:
		return g.sess.Err()
	}
	return errors.New("we were stopped for longer than the session surely lasts")
}

// end tells the command to end, gives it some time, and kills what is left. It is never
// taken back: what was told to end has done half of its work at best.
func (g *guarded) end(p *child.Process, grace time.Duration, signals chan os.Signal, why error) error {
	g.log.Warn(g.what+" is lost: ending the command", zap.Duration("grace", grace), zap.Error(why))
	p.Signal(unix.SIGTERM)
	p.Signal(unix.SIGCONT) // who is stopped hears nothing
	timer := time.NewTimer(min(grace, g.sess.Remaining()))
	defer timer.Stop()
	over := g.sess.Done() // earlier than the timer when the machine was suspended
	for ended := false; !ended; {
		select {
		case sig := <-signals:
			p.Signal(sig.(syscall.Signal))
		case <-p.Done():
			ended = true
		case <-over:
			ended = true
		case <-timer.C:
			ended = true
		}
	}
	p.Kill()
	select {
	case <-p.Gone():
	case <-time.After(dying):
		g.log.Error("something that the command started does not die", zap.String("under", g.what))
	}
	return fmt.Errorf("%s: %w, and the command was ended: %w", g.what, errLost, why)
}

// stay keeps what the command ran under for the rest of a time, which began at began, so that
// nobody else does the same work meanwhile. A signal ends it, and so does the loss.
func (g *guarded) stay(began time.Time, least time.Duration, signals chan os.Signal) {
	left := least - time.Since(began)
	if left <= 0 || g.told {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-g.held.Done():
			g.log.Warn(g.what+" was lost after the command had ended, and before --at-least was over", zap.Error(context.Cause(g.held)))
			return
		case sig := <-signals:
			switch sig {
			case unix.SIGWINCH, unix.SIGTSTP:
			default:
				return
			}
		}
	}
}

// concluded is how a process ends that ran a command.
func concluded(cmd *cobra.Command, command string, code int, err error, lostCode, failedCode int) error {
	switch {
	case errors.Is(err, errLost):
		return said(cmd, lostCode, err)
	case errors.Is(err, child.ErrUnguarded):
		return said(cmd, failedCode, err)
	case err != nil:
		return cannotRun(cmd, command, err)
	case code != 0:
		return silentError{code}
	}
	return nil
}

// commandAfterDash wants one argument or none, and after -- a command or nothing.
func commandAfterDash(arguments int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		at := cmd.ArgsLenAtDash()
		if at < 0 {
			at = len(args)
		} else if len(args) == at {
			return errors.New("give a command after --, or leave that out")
		}
		switch {
		case at != arguments && arguments == 0:
			return errors.New("give no argument but a command after --")
		case at != arguments:
			return errors.New("give one name, and nothing else but a command after --")
		}
		return nil
	}
}

// lookUp finds the file of a command; "" when there is none to run.
func lookUp(cmd *cobra.Command, argv []string) (file string, err error) {
	if len(argv) == 0 {
		return "", nil
	}
	if file, err = exec.LookPath(argv[0]); err != nil {
		return "", cannotRun(cmd, argv[0], err)
	}
	return file, nil
}

// runGuarded runs a command under what was taken already, with our own exit codes.
func runGuarded(cmd *cobra.Command, g *guarded, file string, argv, env []string) (err error) {
	signals := catchSignals()
	defer signal.Stop(signals)
	if err := toldBefore(cmd); err != nil {
		return err
	}
	if g.grace, err = checkGrace(g.sess, 0, false); err != nil {
		return err
	}
	code, err := g.run(file, argv, env, signals)
	return concluded(cmd, argv[0], code, err, exitLost, exitFailed)
}
