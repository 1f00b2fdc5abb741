package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
)

// runLock takes the lock and runs the command under it.
func runLock(cmd *cobra.Command, c config.Config, name string, argv []string, opts lockOptions) error {
	file, err := lookUp(cmd, argv)
	if err != nil {
		return err
	}
	// The command's end, and not ours, is what ends us once it runs.
	ctx, log := context.WithoutCancel(cmd.Context()), newLog(c.Log, cmd.ErrOrStderr())
	signals := catchSignals()
	defer signal.Stop(signals)
	if err := toldBefore(cmd); err != nil {
		return err
	}
	t := &taking{c: c, name: name, opts: opts, log: log}
	if t.above, t.aboveToken, err = heldAbove(os.Environ(), c, name); err != nil {
		return err
	}
	if t.who, err = thisMember(c); err != nil {
		return err
	}
	t.who.Label = opts.label
	if c.Agent.Name == "" { // arguments are left out: there may be secrets in them
		t.who.Agent = fmt.Sprintf("%.40s-%d", filepath.Base(argv[0]), os.Getpid())
	}
	t.life = commandLife(log, c.Fleet, name)
	defer t.life.End()
	t.who.Life = t.life.Name()

	err = t.wait(ctx, signals)
	if t.sess != nil {
		defer t.sess.Close()
	}
	if err != nil {
		return t.refused(cmd, err)
	}
	defer t.held.Close()
	t.life.Sweep(func() ([]string, error) { return livesOfLock(ctx, t.sess, lockDir(c, name)) })
	g := &guarded{what: "lock " + name, sess: t.sess, held: t.held.Context(), grace: t.opts.grace, log: log}
	began := time.Now()
	code, err := g.run(file, argv, lockEnv(os.Environ(), c, name, t.held), signals)
	if err == nil && t.above == "" {
		g.stay(began, opts.atLeast, signals)
	}
	return concluded(cmd, argv[0], code, err, opts.lostCode, opts.failedCode)
}

// cannotRun tells what shells tell of a command that cannot be run.
func cannotRun(cmd *cobra.Command, command string, err error) error {
	var path *os.PathError
	var lookup *exec.Error
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return said(cmd, 127, fmt.Errorf("%s: command not found", command))
	case errors.As(err, &path):
		err = path.Err
	case errors.As(err, &lookup):
		err = lookup.Err
	}
	return said(cmd, 126, fmt.Errorf("%s cannot be run: %w", command, err))
}

// taking is a lock on its way to be held, and then held.
type taking struct {
	c          config.Config
	name       string
	opts       lockOptions
	log        *zap.Logger
	who        queue.Member
	life       *queue.Life
	above      string // the node by which who started us has it, or ""
	aboveToken uint64

	sess *session.Session
	held *lock.Held
}

// wait takes the lock, or ends with what ended the waiting.
func (t *taking) wait(ctx context.Context, signals chan os.Signal) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	done, listening := make(chan struct{}), make(chan struct{})
	go func() { // ends with the waiting
		defer close(listening)
		for {
			select {
			case sig := <-signals:
				switch sig {
				case unix.SIGWINCH:
				case unix.SIGTSTP:
					_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
				default:
					cancel(signalError{sig.(syscall.Signal)})
				}
			case <-done:
				return
			}
		}
	}()
	err := t.take(ctx)
	close(done)
	<-listening
	var stop signalError
	if errors.As(context.Cause(ctx), &stop) {
		if err == nil {
			t.held.Close()
		}
		return stop
	}
	return err
}

// take takes the lock on one session after the other: one that expires while we wait costs
// the place in the line, and no more.
func (t *taking) take(ctx context.Context) error {
	if t.opts.timeout > 0 {
		late := fmt.Errorf("%w, and was not ours within %v", lock.ErrBusy, t.opts.timeout)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.opts.timeout, late)
		defer cancel()
	}
	for first := true; ; first = false {
		sess, err := dial(ctx, t.c, t.log)
		if first && errors.Is(err, lock.ErrBusy) {
			return fmt.Errorf("%w within --timeout %v", session.ErrUnavailable, t.opts.timeout) // who knows whether it is busy
		}
		if err != nil {
			return err
		}
		t.sess = sess
		if t.opts.grace, err = checkGrace(sess, t.opts.grace, t.opts.graceSet); err != nil {
			return err
		}
		l := &lock.Lock{Sess: sess, Dir: lockDir(t.c, t.name), Who: t.who, Log: t.log, Died: t.life.Watch, Sweep: true}
		if t.held, err = t.hold(ctx, l); !errors.Is(err, session.ErrExpired) || ctx.Err() != nil {
			return err
		}
		sess.Close()
		t.log.Warn("the session ended while we waited: going to the line's end", zap.Error(err))
	}
}

func (t *taking) hold(ctx context.Context, l *lock.Lock) (*lock.Held, error) {
	if t.above != "" {
		return l.Under(ctx, t.above, t.aboveToken, t.opts.kind())
	}
	switch kind, try := t.opts.kind(), t.opts.try; {
	case kind == lock.Slots && try:
		return l.TrySlot(ctx, t.opts.slots)
	case kind == lock.Slots:
		return l.Slot(ctx, t.opts.slots)
	case kind == lock.Shared && try:
		return l.TryShared(ctx)
	case kind == lock.Shared:
		return l.Shared(ctx)
	case try:
		return l.TryExclusive(ctx)
	}
	return l.Exclusive(ctx)
}

// refused is what it means that the lock was not taken.
func (t *taking) refused(cmd *cobra.Command, err error) error {
	var stop signalError
	what := fmt.Errorf("lock %s: %w", t.name, err)
	switch {
	case errors.As(err, &stop):
		return said(cmd, stop.code(), fmt.Errorf("lock %s: %v while waiting; the command was not run", t.name, stop.Signal))
	case errors.Is(err, lock.ErrBusy):
		return said(cmd, t.opts.busyCode, fmt.Errorf("%w; `agent lock show %s` tells who has it", what, t.name))
	case errors.Is(err, queue.ErrLost):
		next := "ask again"
		if t.above != "" {
			next = "unset " + envHeld + " to ask for it anew"
		}
		return said(cmd, t.opts.lostCode, fmt.Errorf("%w; the command was not run; %s", what, next))
	case errors.Is(err, lock.ErrMixed), errors.Is(err, lock.ErrUpgrade), errors.Is(err, ids.ErrSize), errors.As(err, new(usageError)):
		return usageError{what}
	}
	return said(cmd, t.opts.failedCode, what)
}

// commandLife begins a life that others see end only when the command is dead too, and
// all that it started: they have the same FIFO open, under a number that is in nobody's
// way.
func commandLife(log *zap.Logger, fleet, name string) *queue.Life {
	lives := userLives(log, fleet, "locks", nodeName(name))
	life := queue.BeginLife(lives, queue.NewID(), log)
	dir, ok := lives.(lifeline.Dir)
	if !ok || life.Name() == "" {
		return life
	}
	fd, err := unix.Open(dir.Path(life.Name()), unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		const high, low = 200, 10
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, high); err != nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, low)
		}
	}
	if err != nil {
		log.Warn("should this process be killed, the others wait until its session expires", zap.Error(err))
		life.End()
		return queue.BeginLife(nil, "", log)
	}
	return life
}

// livesOfLock lists the lives that somebody in the line may still look for.
func livesOfLock(ctx context.Context, sess *session.Session, dir string) (lives []string, err error) {
	state, err := lock.Look(ctx, sess, dir)
	for _, h := range state.Holders {
		lives = append(lives, h.Life)
	}
	for _, w := range state.Waiting {
		lives = append(lives, w.Life)
	}
	return lives, err
}
