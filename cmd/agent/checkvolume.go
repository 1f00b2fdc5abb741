package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/volume"
)

const volumeChild = "check-volume-child"

type checkVolumeOptions struct {
	json     bool
	duration time.Duration
}

func newCheckVolume() *cobra.Command {
	var opts checkVolumeOptions
	cmd := &cobra.Command{
		Use:   "check-volume DIR",
		Short: "Find out whether a directory is fit for the shared file",
		Long: `Try, in the directory that the shared file is to be in, what Turnstile builds on: that
a flock keeps other processes out and is dropped when its holder is killed, that
appends by several processes arrive whole, that fdatasync costs what a disk's
confirmation costs, that paths, links and directories behave. No ZooKeeper is needed.

What it makes is in a new directory inside, and is removed at the end. Exits 0 when the
volume is fit, warnings included, and 6 when it is not. It cannot prove that a disk
keeps what it has confirmed: only a power cut can.`,
		Example: `  agent check-volume /srv
  agent check-volume /srv --for 30s
  agent check-volume /srv --json | jq -r .verdict
  docker run --rm -v turnstile_shared-data:/data turnstile-agent check-volume /data`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.duration <= 0 {
				return usageError{fmt.Errorf("--for %v: give a time above zero", opts.duration)}
			}
			return checkVolume(cmd, args[0], opts)
		},
	}
	cmd.Flags().BoolVar(&opts.json, "json", false, "print the whole report as JSON")
	cmd.Flags().DurationVar(&opts.duration, "for", 3*time.Second, "how long to try, roughly")
	return cmd
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
	ask := volume.Options{Dir: dir, For: opts.duration, Child: []string{self, volumeChild}, Begin: line.say}
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

// statusLine tells people at a terminal what takes so long, once it has taken two
// seconds.
type statusLine struct {
	out   io.Writer
	start time.Time

	mu    sync.Mutex
	what  string
	shown bool
}

func (l *statusLine) say(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what = what
}

func (l *statusLine) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.shown = false
	}
}

// tick draws the line again and again until stop is called.
func (l *statusLine) tick(ctx context.Context) (stop func()) {
	if !isTerminal(l.out) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				l.draw(now)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); group.Wait(); l.clear() }
}

func (l *statusLine) draw(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed := now.Sub(l.start); passed >= 2*time.Second && l.what != "" {
		fmt.Fprintf(l.out, "\r  trying   %-12s %v\x1b[K", l.what, passed.Round(100*time.Millisecond))
		l.shown = true
	}
}
