package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/writer"
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
		Long: `Verify the file from itself, then begin a new incarnation that goes on from what it
holds: a new line in the file, a new head in ZooKeeper, a new fence. For after a
disaster (ZooKeeper was wiped or restored, the file was replaced or restored), and for
a log that existed before Turnstile: its bytes become a preamble and stay as they are.

Nothing is dropped: what is not whole at the file's end is put aside in FILE.orphans.
A file with faults in its middle is refused (exit 3), unless --as-preamble takes all of
it as bytes that no frame vouches for. A file that lacks turns which ZooKeeper or the
fence knows to be committed is refused (exit 6), unless --accept-loss.`,
		Example: `  agent adopt --data /data/data.txt
  agent adopt --data old.log --fleet audit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			return adopt(cmd, c, opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "data", "turn.fence_timeout", "log")
	cmd.Flags().BoolVar(&opts.acceptLoss, "accept-loss", false, "adopt a file that lacks turns which were committed")
	cmd.Flags().BoolVar(&opts.asPreamble, "as-preamble", false, "take the whole file as bytes that no frame covers, faults and all")
	return cmd
}

// adopt takes the turn like any agent, so that nobody writes meanwhile.
func adopt(cmd *cobra.Command, c config.Config, opts adoptOptions) error {
	ctx, log := cmd.Context(), newLog(c.Log, cmd.ErrOrStderr())
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	file, err := writer.Open(writer.Options{Path: c.Data.File, Agent: "adopt", Wait: c.Turn.FenceTimeout, Log: log})
	if err != nil {
		return err
	}
	defer file.Close()
	seen, err := file.Seen()
	if err != nil {
		return err
	}
	return withSession(ctx, c, log, func(sess *session.Session) error {
		if err := filelock.Ensure(ctx, sess, rootOf(c)); err != nil {
			return err
		}
		place, err := filelock.New(sess, rootOf(c), filelock.Member{Agent: "adopt", Host: host}, nil, log).Join(ctx)
		if err != nil {
			return err
		}
		hold, err := place.Wait(ctx)
		if err != nil {
			return err
		}
		defer hold.Release()
		basis, known, err := survey(cmd, c.Data.File, opts.asPreamble, log)
		if err == nil && !opts.acceptLoss && !opts.asPreamble {
			err = checkLoss(hold.Head(), c.Data.File, basis, known)
		}
		if err != nil {
			return err
		}
		head, err := file.Adopt(hold.Context(), frame.Token(hold.Token()), seen, basis)
		if err == nil {
			err = hold.Publish(ctx, head.Encode())
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "adopted %s: incarnation %s goes on at turn %d, byte %d\n",
			c.Data.File, head.Incarnation, head.Turn+1, head.Offset)
		return err
	})
}

// checkLoss refuses a file in which committed turns are missing: more likely than not
// it is the wrong one. known are the incarnations in it.
func checkLoss(data []byte, path string, basis writer.Basis, known []uuid.UUID) error {
	lost := func(turn uint64, who string) error {
		return &writer.RefusedError{
			Why:  fmt.Sprintf("%s knows that turn %d was committed, and %s does not hold it", who, turn, path),
			Next: "nothing was changed. If this is not the fleet's file, give the right path (--data) or another fleet (--fleet); if those turns are really lost, --accept-loss goes on without them",
		}
	}
	if data != nil {
		head, err := frame.ParseHead(data)
		if err != nil {
			return err
		}
		if head.Turn > 0 && (!slices.Contains(known, head.Incarnation) || basis.End < head.Offset) {
			return lost(head.Turn, "ZooKeeper")
		}
	}
	if turn, offset, ok := writer.LastCommit(path); ok && turn > 0 && basis.End < offset {
		return lost(turn, "the fence")
	}
	return nil
}

// survey has the verifier judge the file, and finds where to go on, and which
// incarnations are in it.
func survey(cmd *cobra.Command, path string, asPreamble bool, log *zap.Logger) (writer.Basis, []uuid.UUID, error) {
	a := writer.Basis{Next: frame.Incarnation{ID: uuid.New(), From: 1}}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return a, nil, nil
	}
	if err != nil {
		return a, nil, err
	}
	framed, err := holdsFrames(cmd.Context(), path)
	if err != nil {
		return a, nil, err
	}
	if asPreamble || !framed {
		a, err = preamble(path, a)
		return a, nil, err
	}
	report, err := verify.File(cmd.Context(), path, verify.Options{})
	if err != nil {
		return a, nil, err
	}
	a.Size = report.Size
	a.Next.From, a.Sum, a.End = report.Sound.Turn+1, &report.Sound.Sum, report.Sound.End
	tail := a.Size - a.End
	if report.OK() {
		return a, report.Incarnations, nil
	}
	if a.End == 0 || tail > frame.MaxLine+frame.MaxBytes || report.Findings[0].Kind != verify.Torn || len(report.Findings) > 1 {
		if err := report.Write(cmd.ErrOrStderr(), isTerminal(cmd.ErrOrStderr())); err != nil {
			return a, nil, err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "agent: not adopted: more is wrong than an unfinished end; --as-preamble takes the file as it is, faults and all")
		return a, nil, silentError{exitFaults}
	}
	log.Warn("the file's end is not whole and will be put aside", zap.Int64("bytes", tail))
	return a, report.Incarnations, nil
}

// holdsFrames tells whether any line of the file is a header of ours.
func holdsFrames(ctx context.Context, path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for r := bufio.NewReaderSize(f, 1<<16); ctx.Err() == nil; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return false, err
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		_, notHeader := frame.ParseHeader(line)
		_, notBegin := frame.ParseIncarnation(line)
		if notHeader == nil || notBegin == nil {
			return true, nil
		}
	}
	return false, context.Cause(ctx)
}

// preamble takes the whole file as bytes that no frame covers.
func preamble(path string, a writer.Basis) (writer.Basis, error) {
	f, err := os.Open(path)
	if err != nil {
		return a, err
	}
	defer f.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return a, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil {
		return a, err
	}
	if last[0] != '\n' {
		return a, &writer.RefusedError{
			Why:  path + " does not end with a newline",
			Next: "end its last line (echo >> " + path + "), then adopt it",
		}
	}
	sum := frame.SumOf([sha256.Size]byte(hash.Sum(nil)))
	a.Next.Preamble, a.Sum, a.End, a.Size = size, &sum, size, size
	return a, nil
}
