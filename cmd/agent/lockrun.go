package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/child"
	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// errLockLost says that the command was ended because the lock was lost.
var errLockLost = errors.New("the lock was lost")

const (
	// evicted is the grace when somebody removed our node: another may have the lock.
	evicted = 100 * time.Millisecond
	// dying is how long to wait for what was killed, which dies at once unless a disk
	// does not answer.
	dying = 10 * time.Second
)

// run runs the command until it ends or the lock is lost: then the error is errLockLost,
// and all that it started is dead. Other errors say that it could not be started.
func (t *taking) run(file string, argv []string, signals chan os.Signal) (code int, err error) {
	p, err := child.Start(child.Command{
		Path: file, Args: argv, Env: lockEnv(os.Environ(), t.c, t.name, t.held), Guard: []string{"agent", lockGuard},
		Safe: t.sess.Remaining,
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
			p.Signal(sig.(syscall.Signal))
		case <-pulse.C:
			next := t.pulse(p)
			if next <= 0 {
				return 0, t.end(p, t.opts.grace, signals, fmt.Errorf("ZooKeeper is silent, and would give it to another in %v", t.sess.Remaining().Round(time.Millisecond)))
			}
			pulse.Reset(next)
		case <-t.held.Context().Done():
			return 0, t.end(p, t.graceAfter(t.held.Context()), signals, context.Cause(t.held.Context()))
		case <-p.Done():
			// Whether it ended before the lock was lost cannot be known any more then.
			if t.sess.Err() != nil || t.held.Context().Err() != nil || p.Overdue() {
				return 0, t.end(p, 0, signals, t.whyLost())
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
func (t *taking) pulse(p *child.Process) time.Duration {
	return min(p.Renew()-t.opts.grace, t.sess.Timeout()/3)
}

// graceAfter is how long the command has to end by itself when the hold has ended.
func (t *taking) graceAfter(held context.Context) time.Duration {
	if errors.Is(context.Cause(held), queue.ErrLost) {
		return min(evicted, t.opts.grace)
	}
	return 0 // the session is over, and the command should have ended before that
}

func (t *taking) whyLost() error {
	switch {
	case t.held.Context().Err() != nil:
		return context.Cause(t.held.Context())
	case t.sess.Err() != nil:
		return t.sess.Err()
	}
	return errors.New("we were stopped for longer than the session surely lasts")
}

// end tells the command to end, gives it some time, and kills what is left. It is never
// taken back: what was told to end has done half of its work at best.
func (t *taking) end(p *child.Process, grace time.Duration, signals chan os.Signal, why error) error {
	t.log.Warn("the lock is lost: ending the command", zap.String("lock", t.name), zap.Duration("grace", grace), zap.Error(why))
	p.Signal(unix.SIGTERM)
	p.Signal(unix.SIGCONT) // who is stopped hears nothing
	timer := time.NewTimer(min(grace, t.sess.Remaining()))
	defer timer.Stop()
	over := t.sess.Done() // earlier than the timer when the machine was suspended
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
		t.log.Error("something that the command started does not die", zap.String("lock", t.name))
	}
	return fmt.Errorf("lock %s: %w, and the command was ended: %w", t.name, errLockLost, why)
}
