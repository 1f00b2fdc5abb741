package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/adopt"
	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

type adoptOptions struct {
	asPreamble bool
	acceptLoss bool
}

func newAdopt() *cobra.Command {
	var opts adoptOptions
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Go on with a file that ZooKeeper does not know, or knows otherwise",
		Long: `Verify the file from itself and go on from what it holds, with a new line in the file
and a new head in ZooKeeper. For after a disaster (ZooKeeper was wiped or restored, the
file was replaced, restored or written to by something else), for a log that existed
before Turnstile, whose bytes become a preamble, and for a fleet of the first edition,
whose agents must have stopped.

It works on a copy, which takes the file's name when all is well; the file as it was is
FILE.was-INCARNATION then. Turns that are in ZooKeeper and not in the file are written.
What has no place in it is saved: FILE.lost-INCARNATION has turns of ZooKeeper's that the
file does not reach, FILE.foreign-INCARNATION bytes that something else wrote. Interrupted
or killed, it goes on when it is typed again.

A file with faults in its middle is refused (exit 3), unless --as-preamble takes all of
it as bytes that no frame vouches for. A file that lacks turns which are known to be
committed, and are not in ZooKeeper, is refused (exit 6), unless --accept-loss. Whole
turns behind head are kept: ZooKeeper may have gone back in time. (An agent of the first
edition that died may have left one that was never committed; it is kept, too.)`,
		Example: `  agent adopt --data /data/data.txt
  agent adopt --data old.log --fleet audit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			return adoptFile(cmd, c, opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "data", "log")
	cmd.Flags().BoolVar(&opts.acceptLoss, "accept-loss", false, "adopt a file that lacks turns which were committed")
	cmd.Flags().BoolVar(&opts.asPreamble, "as-preamble", false, "take the whole file as bytes that no frame covers, faults and all")
	return cmd
}

func adoptFile(cmd *cobra.Command, c config.Config, opts adoptOptions) error {
	log := newLog(c.Log, cmd.ErrOrStderr())
	host, err := os.Hostname()
	if err == nil {
		err = checkDataFile(c.Data.File)
	}
	if err != nil {
		return err
	}
	kind, err := volumeOf(c)
	if err != nil {
		return err
	}
	steps := &stepBar{out: cmd.ErrOrStderr()}
	defer steps.end()
	var done adopt.Result
	err = withSession(cmd.Context(), c, log, func(sess *session.Session) error {
		done, err = adopt.Run(cmd.Context(), adopt.Options{
			Sess: sess, Root: rootOf(c), Host: host, Log: log, Tell: steps.tell,
			File:       writer.Options{Path: c.Data.File, Mode: kind.Mode, Chunk: kind.Chunk},
			Alone:      kind.SMB(),
			AcceptLoss: opts.acceptLoss, AsPreamble: opts.asPreamble,
		})
		return err
	})
	steps.end()
	var faults *adopt.FaultsError
	if errors.As(err, &faults) {
		if err := faults.Report.Write(cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "agent: %v\n", err)
		return silentError{exitFaults}
	}
	if err != nil {
		return err
	}
	return sayAdopted(cmd.OutOrStdout(), c, done)
}

func sayAdopted(out io.Writer, c config.Config, done adopt.Result) error {
	verb := "adopted"
	if done.Finished {
		verb = "finished the adoption of"
	}
	text := fmt.Sprintf("%s %s for fleet %s: incarnation %s goes on at turn %d, byte %d\n",
		verb, c.Data.File, c.Fleet, done.Head.Incarnation, done.Head.Turn+1, done.Head.Offset)
	if done.Was != "" {
		text += fmt.Sprintf("the file as it was: %s\n", done.Was)
	}
	for _, saved := range done.Saved {
		text += "saved " + saved + "\n"
	}
	for _, note := range done.Notes {
		text += "note: " + note + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// stepBar says on a terminal what is being done, once it has taken two seconds.
type stepBar struct {
	out io.Writer

	mu          sync.Mutex // guards what follows
	what        string
	begun       time.Time
	done, total int64
	ticker      *time.Ticker
	shown       bool
}

const stepPatience = 2 * time.Second

func (b *stepBar) tell(what string, done, total int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ticker == nil && isTerminal(b.out) {
		b.ticker = time.NewTicker(stepPatience / 8)
		go b.run(b.ticker) // ends with end
	}
	if what != b.what {
		b.what, b.begun = what, time.Now()
	}
	b.done, b.total = done, total
}

// run shows the step now and then.
func (b *stepBar) run(ticker *time.Ticker) {
	for range ticker.C {
		if !b.show() {
			return
		}
	}
}

// show tells whether there may be more to show.
func (b *stepBar) show() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ticker == nil || b.what == "" || time.Since(b.begun) < stepPatience {
		return b.ticker != nil
	}
	b.shown = true
	far := ""
	if b.total > 0 {
		far = fmt.Sprintf(" %d%%", b.done*100/b.total)
	}
	fmt.Fprintf(b.out, "\r\x1b[K%s …%s", b.what, far)
	return true
}

// end shows nothing any more. It may be called twice.
func (b *stepBar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ticker != nil {
		b.ticker.Stop()
		b.ticker = nil
	}
	if b.shown {
		fmt.Fprint(b.out, "\r\x1b[K")
		b.shown = false
	}
}
