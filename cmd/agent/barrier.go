package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/child"
	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/barrier"
	"github.com/turnstile-fleet/turnstile/session"
)

// errNotAll says that --timeout was over.
var errNotAll = errors.New("they were not all there in time")

type barrierOptions struct {
	size           int
	timeout, grace time.Duration
	json           bool
}

func newBarrier() *cobra.Command {
	var opts barrierOptions
	cmd := &cobra.Command{
		Use:   "barrier NAME --size N [flags] [-- COMMAND [ARG]...]",
		Short: "Begin together with others, and end together",
		Long: `Wait at the barrier NAME of the fleet until N are there, then run the command, and wait
until the commands of all N have ended. Without a command it says that all are there and
leaves. Whoever comes while N are inside begins the next N.

Nobody is left hanging: when a member dies, gives up (Ctrl-C) or waits longer than its
--timeout, the rest end with an error that names it. A command that runs at that time is
told to end (SIGTERM) and after --grace killed, with all that it started. A member that
is killed on the same machine is noticed at once, others when their sessions expire.
--timeout bounds the waiting to begin; who is inside may take its time.

Exit codes: the command's own, 128 and the signal's number when a signal ended it, 126
when it cannot be run and 127 when there is none. Of our own: 1 failed, 2 wrong usage, or
another member asks for another N, 4 --timeout was over, 5 the round was broken: another
member died or gave up, or our session was lost. A message on standard error comes with
each of our own.`,
		Example: `  agent barrier start --size 3 -- ./work      in three terminals: all begin at once
  agent barrier ready --size 3 --timeout 30s
  agent run --together 3                      agents that begin together`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) < 1 || dash != 1 && (dash >= 0 || len(args) > 1) || dash == 1 && len(args) < 2 {
				return errors.New("give one name, and after -- the command, if any: agent barrier NAME --size N -- COMMAND")
			}
			return checkName("barrier", args[0])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err == nil {
				err = opts.check()
			}
			if err != nil {
				return err
			}
			return runBarrier(cmd, c, args[0], args[1:], opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "agent", "log")
	f := cmd.Flags()
	f.IntVar(&opts.size, "size", 0, "how many begin together, `N`; all must say the same")
	f.DurationVar(&opts.timeout, "timeout", 0, "wait no `longer` for the others to come; 0 means for ever")
	f.DurationVar(&opts.grace, "grace", 3*time.Second, "how `long` the command has to end by itself when the round is broken")
	f.BoolVar(&opts.json, "json", false, "tell what happens in JSON, an object a line; on standard error when there is a command")
	return cmd
}

func (o barrierOptions) check() error {
	switch {
	case o.size < 1 || o.size > barrier.MaxSize:
		return usageError{fmt.Errorf("give how many begin together: --size N, 1 to %d", barrier.MaxSize)}
	case o.timeout < 0:
		return usageError{fmt.Errorf("--timeout %v: give how long to wait, or 0 for ever", o.timeout)}
	case o.grace < 0:
		return usageError{fmt.Errorf("--grace %v: give 0 or more", o.grace)}
	}
	return nil
}

// runBarrier enters, runs the command, and leaves.
func runBarrier(cmd *cobra.Command, c config.Config, name string, argv []string, opts barrierOptions) error {
	file, err := lookUp(cmd, argv) // before others count on us
	if err != nil {
		return err
	}
	log, tell := newLog(c.Log, cmd.ErrOrStderr()), teller(cmd, opts, len(argv) > 0)
	in, done, err := enterBarrier(cmd.Context(), c, log, name, opts, tell)
	defer done()
	if err != nil {
		return barrierSaid(cmd, name, err)
	}
	defer in.Close()
	tell(barrierEvent{Event: "entered", There: opts.size, Size: opts.size})
	code := 0
	if len(argv) > 0 {
		signals := catchSignals()
		if err := toldBefore(cmd); err != nil {
			signal.Stop(signals)
			return err
		}
		code, err = runInside(in, file, argv, opts.grace, signals, log)
		signal.Stop(signals)
		switch {
		case errors.Is(err, errRoundBroken):
			return barrierSaid(cmd, name, err)
		case err != nil:
			return cannotRun(cmd, argv[0], err)
		}
	}
	err = in.Leave(cmd.Context())
	switch {
	case code != 0: // what the command says comes first
		return silentError{code}
	case err != nil:
		return barrierSaid(cmd, name, err)
	}
	tell(barrierEvent{Event: "left", Size: opts.size})
	return nil
}

// enterBarrier enters in a session of its own; done ends that, whatever the error was.
func enterBarrier(ctx context.Context, c config.Config, log *zap.Logger, name string, opts barrierOptions,
	tell func(barrierEvent)) (in *barrier.Inside, done func(), err error) {
	done = func() {}
	who, err := thisMember(c)
	if err != nil {
		return nil, done, err
	}
	sess, err := dial(ctx, c, log)
	if err != nil {
		return nil, done, err
	}
	dir := path.Join(string(rootOf(c)), "barriers", nodeName(name))
	life := queue.BeginLife(userLives(log, c.Fleet, "barriers", nodeName(name)), queue.NewID(), log)
	done = func() { // the places go before the life that vouches for them
		sess.Close()
		life.End()
	}
	who.Life = life.Name()
	life.Sweep(func() ([]string, error) { return barrier.Lives(ctx, sess, dir) })
	if opts.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, opts.timeout, fmt.Errorf("%w, %v", errNotAll, opts.timeout))
		defer cancel()
	}
	b := barrier.Barrier{
		Sess: sess, Dir: dir, Size: opts.size, Who: who, Log: log, Died: life.Watch,
		Progress: func(there int) {
			if there < opts.size {
				tell(barrierEvent{Event: "waiting", There: there, Size: opts.size})
			}
		},
	}
	in, err = b.Enter(ctx)
	return in, done, err
}

// errRoundBroken says that the command was ended because the round was broken.
var errRoundBroken = errors.New("the command was ended")

// runInside runs the command until it ends or the round breaks: then the error is
// errRoundBroken, and all that it started is dead. Other errors say that it could not be
// started.
func runInside(in *barrier.Inside, file string, argv []string, grace time.Duration, signals chan os.Signal, log *zap.Logger) (code int, err error) {
	p, err := child.Start(child.Command{Path: file, Args: argv, Env: os.Environ(), Guard: []string{"agent", lockGuard}})
	if err != nil {
		return 0, err
	}
	defer p.Release()
	over, broken := in.Context().Done(), false
	var patience <-chan time.Time
	for {
		select {
		case sig := <-signals:
			p.Signal(sig.(syscall.Signal))
		case <-over:
			over, broken = nil, true
			log.Warn("ending the command", zap.Duration("grace", grace), zap.Error(context.Cause(in.Context())))
			p.Signal(unix.SIGTERM)
			p.Signal(unix.SIGCONT) // who is stopped hears nothing
			timer := time.NewTimer(grace)
			defer timer.Stop()
			patience = timer.C
		case <-patience:
			patience = nil
			p.Kill()
		case <-p.Done():
			if !broken {
				return p.Code(), nil
			}
			p.Kill() // what it left behind
			select {
			case <-p.Gone():
			case <-time.After(dying):
				log.Error("something that the command started does not die")
			}
			return 0, fmt.Errorf("%w: %w", errRoundBroken, context.Cause(in.Context()))
		}
	}
}

// barrierSaid tells what went wrong, with its exit code.
func barrierSaid(cmd *cobra.Command, name string, err error) error {
	err = fmt.Errorf("barrier %s: %w", name, err)
	switch {
	case errors.Is(err, barrier.ErrSize):
		return usageError{err}
	case errors.Is(err, errNotAll):
		return said(cmd, exitBusy, err)
	case errors.Is(err, barrier.ErrBroken), errors.Is(err, queue.ErrLost), errors.Is(err, session.ErrExpired):
		return said(cmd, exitLost, err)
	}
	return err
}

// barrierEvent is what --json prints.
type barrierEvent struct {
	Event string `json:"event"` // waiting, entered, left
	There int    `json:"there,omitempty"`
	Size  int    `json:"size"`
}

// teller tells what happens at the barrier; standard output is the command's if there is one.
func teller(cmd *cobra.Command, opts barrierOptions, command bool) func(barrierEvent) {
	out := cmd.OutOrStdout()
	if command {
		out = cmd.ErrOrStderr()
	}
	if opts.json {
		return func(e barrierEvent) { _ = json.NewEncoder(out).Encode(e) }
	}
	return func(e barrierEvent) {
		switch e.Event {
		case "waiting":
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "entered, waiting: %d of %d\n", e.There, e.Size)
		case "entered":
			_, _ = io.WriteString(out, fmt.Sprintf("all %d are here\n", e.Size))
		}
	}
}

// together waits until n agents of the fleet are about to begin.
func together(cmd *cobra.Command, c config.Config, log *zap.Logger, n int) error {
	const name = "start"
	in, done, err := enterBarrier(cmd.Context(), c, log, name, barrierOptions{size: n}, func(e barrierEvent) {
		log.Info("waiting to begin together", zap.Int("there", e.There), zap.Int("of", e.Size))
	})
	defer done()
	if err == nil {
		err = in.Leave(cmd.Context())
	}
	if err != nil && cmd.Context().Err() != nil {
		return nil // told to stop: the agent sees to that
	}
	if err != nil {
		return barrierSaid(cmd, name, err)
	}
	return nil
}
