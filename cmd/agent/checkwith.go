package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/meeting"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/volume"
	"github.com/turnstile-fleet/turnstile/session"
)

const (
	mostTogether = 16
	// jointLimit bounds what follows once all are there; on a disk it takes seconds.
	jointLimit = 10 * time.Minute
)

// checkWith checks a directory together with other machines.
func checkWith(cmd *cobra.Command, dir string, c config.Config, opts checkVolumeOptions) error {
	if err := volume.Usable(dir); err != nil {
		return unusable(err)
	}
	who, err := thisMember(c)
	if err != nil {
		return err
	}
	where, err := meetingDir(c, dir, opts.meet)
	if err != nil {
		return err
	}
	log := newLog(c.Log, cmd.ErrOrStderr())
	line := &statusLine{out: cmd.ErrOrStderr(), start: time.Now()}
	var report volume.Joint
	err = withSession(cmd.Context(), c, log, func(sess *session.Session) error {
		stop := line.tick(cmd.Context())
		defer stop()
		m := meeting.Meeting{Sess: sess, Dir: where, Size: opts.with, Who: who, Progress: func(there []queue.Member) {
			line.say(fmt.Sprintf("to meet the others in fleet %s: %d of %d are here; type the same on the others", c.Fleet, len(there), opts.with))
		}}
		group, err := meet(cmd.Context(), m, opts.wait)
		if err != nil {
			return err
		}
		defer group.Leave()
		report, err = checkJointly(cmd.Context(), group, dir, opts.volume, who.BootID, line)
		return err
	})
	if err != nil {
		return jointSaid(cmd, dir, err)
	}
	return writeJoint(cmd.OutOrStdout(), report, opts.json)
}

// meetingDir is where those meet who check the same directory, in ZooKeeper.
func meetingDir(c config.Config, dir, name string) (string, error) {
	if name == "" {
		full, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		name = url.PathEscape(full)
	}
	return path.Join(string(rootOf(c)), "check-volume", name), nil
}

func meet(ctx context.Context, m meeting.Meeting, wait time.Duration) (*meeting.Group, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("%w, %v", errNotAll, wait))
	defer cancel()
	return m.Begin(ctx)
}

func checkJointly(ctx context.Context, group *meeting.Group, dir, setting, kernel string, line *statusLine) (volume.Joint, error) {
	self, err := os.Executable()
	if err != nil {
		return volume.Joint{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, jointLimit,
		fmt.Errorf("the check took longer than %v: the volume hangs on one of the machines, or is too slow for a fleet", jointLimit))
	defer cancel()
	ask := volume.JointOptions{
		Dir: dir, Volume: setting, ID: group.ID, Index: group.Index, Kernel: kernel, Peers: group,
		Child: []string{self, volumeChild}, Patience: volume.DirectoryPatience, Begin: line.say,
	}
	for i := range group.Members {
		ask.Names = append(ask.Names, group.Name(i))
	}
	return volume.CheckJointly(ctx, ask)
}

// unusable makes what is wrong with the directory the user's to mend.
func unusable(err error) error {
	if errors.As(err, new(*volume.UnusableError)) {
		return usageError{err}
	}
	return err
}

// jointSaid tells why there is no verdict, with the exit code.
func jointSaid(cmd *cobra.Command, dir string, err error) error {
	err = fmt.Errorf("no verdict on %s: %w", dir, err)
	switch {
	case cmd.Context().Err() != nil:
		return fmt.Errorf("stopped before the verdict on %s; what it made there is removed", dir)
	case errors.Is(err, meeting.ErrSize), errors.Is(err, volume.ErrSettings):
		return usageError{err}
	case errors.Is(err, errNotAll):
		return said(cmd, exitBusy, fmt.Errorf("%w; type the same command on the other machines within --wait, with the same directory (or --meet NAME), servers and fleet", err))
	case errors.Is(err, meeting.ErrBusy):
		return said(cmd, exitBusy, fmt.Errorf("%w; wait until their check has ended (a killed one's, until its session has expired), or give all a larger --with", err))
	case errors.Is(err, meeting.ErrGone), errors.Is(err, queue.ErrLost), errors.Is(err, session.ErrExpired):
		return said(cmd, exitLost, fmt.Errorf("%w; type it again on all machines", err))
	}
	return err
}

// writeJoint prints the report; the error is what its verdict means for the exit code.
func writeJoint(out io.Writer, r volume.Joint, asJSON bool) error {
	var text string
	for _, m := range r.Machines {
		auto := "auto makes it " + string(m.Auto)
		if m.Auto == "" {
			auto = "auto refuses it"
		}
		text += fmt.Sprintf("  machine  %s: %s is on %s; %s\n", m.Name, m.Directory, m.FileSystem, auto)
	}
	if r.SameVolume {
		text += "  volume   each machine sees the files of the others: it is one volume\n"
	}
	for _, w := range r.Ways {
		text += fmt.Sprintf("  %-8s %-8s %s\n", w.Mode, w.Result, w.Text())
	}
	text += r.Verdict + ": " + r.Text + "\n"
	if r.Next != "" {
		text += "  " + r.Next + "\n"
	}
	if err := write(out, asJSON, r, text); err != nil {
		return err
	}
	if r.Verdict == volume.Unfit {
		return silentError{exitRefused}
	}
	return nil
}
