package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/session"
)

type verifyOptions struct {
	json bool
	acks []string
}

func newVerify() *cobra.Command {
	var opts verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [FILE]",
		Short: "Prove that the file is whole, or say what is wrong and where",
		Long: `Read the file from its beginning and judge it: exit 0 when it is what a fleet that
took turns has written, exit 3 with every fault's kind, offset, line and turn when not.

The file alone shows what is interleaved, torn, corrupt, missing, duplicated or
reordered. With ZooKeeper settings (--zookeeper, --fleet, TURNSTILE_ZOOKEEPER_SERVERS)
it is also held to head: nothing committed may be lost, and nothing may stand behind head.
Beside a fleet that goes on, turns that are committed and not in the file yet are a note.
With --acks it is held to what the agents were told.`,
		Example: `  agent verify data.txt
  agent verify data.txt --zookeeper 127.0.0.1:2181
  agent verify data.txt --acks logs/ --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			file := c.Data.File
			if len(args) == 1 {
				file = args[0]
			}
			if info, err := os.Stat(file); err == nil && info.IsDir() {
				return usageError{fmt.Errorf("%s is a directory; name the file to verify", file)}
			}
			return runVerify(cmd, c, file, opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "data", "log")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print the whole report as JSON")
	cmd.Flags().StringArrayVar(&opts.acks, "acks", nil, "acknowledgement logs to hold the file to: a `FILE`, or a directory of them; may be repeated")
	return cmd
}

func runVerify(cmd *cobra.Command, c config.Config, file string, opts verifyOptions) error {
	ask := verify.Options{Acks: opts.acks}
	if c.ZookeeperSet() { // each question in a session of its own: a long file is read between them
		log := newLog(c.Log, cmd.ErrOrStderr())
		holdToFleet(&ask, rootOf(c), func(ctx context.Context, do func(filelock.Session) error) error {
			return withSession(ctx, c, log, func(sess *session.Session) error { return do(sess) })
		})
		ask.Open = openToVerify(c)
	}
	bar := &progressBar{out: cmd.ErrOrStderr(), start: time.Now()}
	if isTerminal(bar.out) {
		ask.Progress = bar.show
	}
	report, err := verify.File(cmd.Context(), file, ask)
	bar.clear()
	if errors.Is(err, os.ErrNotExist) {
		return usageError{fmt.Errorf("%w; name the file to verify", err)}
	}
	if err != nil {
		return besideRefused(cmd, err)
	}
	if opts.json {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
	} else {
		err = report.Write(cmd.OutOrStdout(), isTerminal(cmd.OutOrStdout()))
	}
	if err == nil && !report.OK() {
		err = silentError{exitFaults}
	}
	return err
}

// progressBar says how far a long reading is, once it has taken two seconds.
type progressBar struct {
	out          io.Writer
	start, shown time.Time
}

const barWidth = 30

func (b *progressBar) show(done, total int64) {
	now := time.Now()
	if total <= 0 || now.Sub(b.start) < 2*time.Second || now.Sub(b.shown) < 100*time.Millisecond {
		return
	}
	b.shown = now
	full := int(done * barWidth / total)
	speed := float64(done) / now.Sub(b.start).Seconds() / 1e6
	fmt.Fprintf(b.out, "\r[%s%s] %3d%%  %.0f MB/s ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), done*100/total, speed)
}

func (b *progressBar) clear() {
	if !b.shown.IsZero() {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}
