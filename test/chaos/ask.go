package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/session"
)

// forget removes the fleet's nodes from an ensemble that is somebody's.
func (r *round) forget() error {
	return r.with(func(ctx context.Context, sess *session.Session) error {
		for _, dir := range []string{r.root().Queue(1), r.root().Turns(), r.root().Agents(), string(r.root())} {
			names, err := sess.Children(ctx, dir)
			if errors.Is(err, zk.ErrNoNode) {
				continue
			}
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := sess.Delete(ctx, dir+"/"+name); err != nil && !errors.Is(err, zk.ErrNoNode) {
					return err
				}
			}
		}
		return sess.Delete(ctx, string(r.root()))
	})
}

// with runs do with a session of our own, straight to the servers; it tries again
// while they are not to be had.
func (r *round) with(do func(context.Context, *session.Session) error) error {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end) && r.ctx.Err() == nil; {
		var sess *session.Session
		sess, err = session.Dial(r.ctx, session.Options{Servers: r.ensemble.addrs(), Timeout: 10 * time.Second})
		if errors.Is(err, session.ErrUnavailable) {
			continue
		}
		if err != nil {
			return err
		}
		err = do(r.ctx, sess)
		sess.Close()
		if !errors.Is(err, session.ErrExpired) && !errors.Is(err, session.ErrBroken) {
			return err
		}
	}
	return errors.Join(err, context.Cause(r.ctx))
}

// head is the newest head; nil when there is none.
func (r *round) head() (head *frame.Head, err error) {
	err = r.with(func(ctx context.Context, sess *session.Session) error {
		if err := sess.Sync(ctx, string(r.root())); err != nil {
			return err
		}
		head, err = fleet.Head(ctx, sess, r.root())
		return err
	})
	return head, err
}

// agent runs a command of the real binary on the fleet.
func (r *round) agent(args ...string) (out string, code int, err error) {
	return r.command(append(args, "--zookeeper", strings.Join(r.ensemble.addrs(), ","), "--fleet", r.fleet)...)
}

// command runs the real binary.
func (r *round) command(args ...string) (out string, code int, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	cmd := exec.Command(r.bin.agent, args...)
	cmd.Env, cmd.Dir = bare(), r.dir
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := start(cmd); err != nil {
		return "", 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err = cmd.Wait()
	var failed *exec.ExitError
	if errors.As(err, &failed) && ctx.Err() == nil {
		err = nil
	}
	return text.String(), cmd.ProcessState.ExitCode(), err
}

// mustAgent is agent for a command that must work.
func (r *round) mustAgent(args ...string) (string, error) {
	out, code, err := r.agent(args...)
	if err == nil && code != exitFine {
		err = fmt.Errorf("agent %s: exit %d: %s", strings.Join(args, " "), code, out)
	}
	return out, err
}

// contains tells whether text has all of these.
func contains(text string, all ...string) bool {
	return !slices.ContainsFunc(all, func(part string) bool { return !strings.Contains(text, part) })
}
