package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/volume"
)

const volumeChild = "check-volume-child"

type checkVolumeOptions struct {
	json     bool
	volume   string
	duration time.Duration

	with int           // machines that check together; 0 and 1: this one alone
	wait time.Duration // for the others to come
	meet string        // where they meet, when the directory's path does not say it
}

func newCheckVolume() *cobra.Command {
	var opts checkVolumeOptions
	cmd := &cobra.Command{
		Use:   "check-volume DIR",
		Short: "Find out whether a directory is fit for the shared file",
		Long: `Tell which kind of volume a directory is on, and try in it what Turnstile needs of the
volume that its file is on: that a write by position touches its range only and is
seen by another process at once, that fdatasync costs what a disk's confirmation costs,
that a rename replaces nothing, that directories can be synced. No ZooKeeper is needed.

With --with 2, typed on two machines at about the same time, it finds out what no machine
sees alone: whether both have the same volume, and which setting of data.volume keeps what
one wrote and shows it to the other. They find each other through the fleet's ZooKeeper by
the directory's path (by --meet NAME where the paths differ), write neighbouring ranges in
turn in each way there is, and print the same verdict.

What it makes is in a new directory inside, and is removed at the end. Exits 0 when the
volume is fit, warnings included, and 6 when it is not, when no setting is right, or when
these are two volumes. With --with also 4 when the others did not come within --wait, or
enough others are checking here already, and 5 when another machine died or gave up. It
cannot prove that a disk keeps what it has confirmed: only a power cut can.`,
		Example: `  agent check-volume /srv                        is it fit?
  agent check-volume /srv --for 30s              the same, tried for longer
  agent check-volume /srv --volume direct        as data.volume would have it written
  agent check-volume /srv --json | jq -r .verdict
  agent check-volume /srv --with 2 --zookeeper zk1,zk2,zk3     typed on two machines
  docker run --rm -v turnstile_shared-data:/data turnstile-agent check-volume /data`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := opts.check(cmd); err != nil {
				return err
			}
			c, err := load(cmd)
			if err != nil {
				return err
			}
			opts.volume = c.Data.Volume
			if opts.with > 1 {
				return checkWith(cmd, args[0], c, opts)
			}
			return checkVolume(cmd, args[0], opts)
		},
	}
	cmd.Flags().BoolVar(&opts.json, "json", false, "print the whole report as JSON")
	cmd.Flags().DurationVar(&opts.duration, "for", 3*time.Second, "how long to try, roughly")
	cmd.Flags().IntVar(&opts.with, "with", 0, "how many machines check together, `N`; typed on each of them")
	cmd.Flags().DurationVar(&opts.wait, "wait", 2*time.Minute, "with --with: how `long` to wait for the others to come")
	cmd.Flags().StringVar(&opts.meet, "meet", "", "with --with: the `name` they meet under, where the directory's path differs from machine to machine")
	config.Flags(cmd.Flags(), "data.volume", "zookeeper", "fleet", "agent", "log")
	return cmd
}

func (o checkVolumeOptions) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case o.duration <= 0:
		return usageError{fmt.Errorf("--for %v: give a time above zero", o.duration)}
	case given("with") && (o.with < 2 || o.with > mostTogether):
		return usageError{fmt.Errorf("--with %d: give how many machines check together, 2 to %d", o.with, mostTogether)}
	case given("with") && given("for"):
		return usageError{errors.New("--for goes with the check of one machine; what machines try together has a length of its own")}
	case !given("with") && (given("wait") || given("meet")):
		return usageError{errors.New("--wait and --meet go with --with N")}
	case o.wait <= 0:
		return usageError{fmt.Errorf("--wait %v: give a time above zero", o.wait)}
	case o.meet != "":
		return checkName("meeting", o.meet)
	}
	return nil
}

// newCheckVolumeChild is the other process that check-volume starts.
func newCheckVolumeChild() *cobra.Command {
	return &cobra.Command{
		Use:    volumeChild,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return volume.Serve(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func checkVolume(cmd *cobra.Command, dir string, opts checkVolumeOptions) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out, line := cmd.OutOrStdout(), &statusLine{out: cmd.ErrOrStderr(), start: time.Now()}
	ask := volume.Options{Dir: dir, Volume: opts.volume, For: opts.duration, Child: []string{self, volumeChild}, Begin: line.say}
	var printed error
	if !opts.json {
		ask.Found = func(f volume.Finding) {
			line.clear()
			printed = errors.Join(printed, writeFinding(out, f))
		}
	}
	stop := line.tick(cmd.Context())
	report, err := volume.Check(cmd.Context(), ask)
	stop()
	var unusable *volume.UnusableError
	switch {
	case errors.As(err, &unusable):
		return usageError{err}
	case cmd.Context().Err() != nil:
		return fmt.Errorf("stopped before the verdict on %s; what it made there is removed", dir)
	case err != nil:
		return err
	case opts.json:
		err = json.NewEncoder(out).Encode(report)
	default:
		_, err = fmt.Fprintln(out, verdictLine(report))
	}
	if err := errors.Join(printed, err); err != nil {
		return err
	}
	return verdictError(report)
}

// verdictError is what the verdict means for the exit code.
func verdictError(r volume.Report) error {
	if r.Verdict == volume.Unfit {
		return silentError{exitRefused}
	}
	return nil
}

func writeFinding(out io.Writer, f volume.Finding) error {
	text := fmt.Sprintf("  %-8s %-12s %s\n", f.Result, f.Check, f.Text)
	if f.Next != "" {
		text += fmt.Sprintf("  %-8s %-12s %s\n", "", "", f.Next)
	}
	_, err := io.WriteString(out, text)
	return err
}

// verdictLine is the verdict and the checks that it comes from.
func verdictLine(r volume.Report) string {
	reasons := r.With(volume.Warning)
	if r.Verdict == volume.Unfit {
		reasons = r.With(volume.Failed)
	}
	if len(reasons) == 0 {
		return r.Verdict
	}
	return r.Verdict + ": " + strings.Join(reasons, ", ")
}
