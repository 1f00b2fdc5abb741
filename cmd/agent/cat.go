package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/follow"
	"github.com/turnstile-fleet/turnstile/internal/intake"
	"github.com/turnstile-fleet/turnstile/session"
)

type catOptions struct {
	follow, records, unescape bool
	from                      uint64
}

func newCat() *cobra.Command {
	var opts catOptions
	cmd := &cobra.Command{
		Use:   "cat",
		Short: "Print what is committed, fresh on any volume",
		Long: `Print the file up to its last committed turn. Turns that are committed and not in the file
yet come from ZooKeeper. Nothing is printed that is not committed, and what is read from the
file is held to its sums: so it is fresh on network volumes too, where a plain ` + "`cat`" + ` or
` + "`tail -F`" + ` may show stale pages beside an agent.

--follow goes on as more is committed, until Ctrl-C or until the reader closes the pipe.
--records prints the records alone, whatever they begin with: no headers, no incarnation
lines, nothing that stood in the file before the fleet. --unescape with it gives back what
agent run --source stdin escaped or split, byte for byte; what is printed then may be anything.

Exit 6 when the file and head do not agree.`,
		Example: `  agent cat                                all that is committed
  agent cat --follow --records | jq .      the records, as they come
  agent cat --records --from-turn 1200     the records of the turn 1200 and later`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err == nil && opts.unescape && !opts.records {
				err = usageError{errors.New("--unescape goes with --records")}
			}
			if err != nil {
				return err
			}
			return besideRefused(cmd, runCat(cmd.Context(), c, opts, newLog(c.Log, cmd.ErrOrStderr()), cmd.OutOrStdout()))
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "data", "log")
	cmd.Flags().BoolVarP(&opts.follow, "follow", "f", false, "go on until Ctrl-C")
	cmd.Flags().BoolVar(&opts.records, "records", false, "print the records alone")
	cmd.Flags().BoolVar(&opts.unescape, "unescape", false, "with --records: give escaped and split lines back as they were read")
	cmd.Flags().Uint64Var(&opts.from, "from-turn", 0, "begin with the turn `N`")
	return cmd
}

// runCat prints in one session after another.
func runCat(ctx context.Context, c config.Config, opts catOptions, log *zap.Logger, out io.Writer) error {
	ctx, stop := untilClosed(ctx, out)
	defer stop()
	w := bufio.NewWriterSize(out, 1<<16)
	s := &follow.Stream{
		Open: func() (follow.Source, error) {
			r, err := openShared(c)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
		Patience: lookAgain,
		Turnwise: opts.records || opts.from > 0,
		CaughtUp: w.Flush,
	}
	lines := map[string][]byte{} // with --unescape: those that each agent has not ended yet
	emit := opts.printer(w, lines)
	for {
		err := withSession(ctx, c, log, func(sess *session.Session) error {
			s.Look = func(ctx context.Context, from uint64) (follow.Sight, error) {
				return follow.Watch(ctx, sess, rootOf(c), from)
			}
			ctx, cancel := context.WithCancelCause(ctx)
			defer context.AfterFunc(sess.Context(), func() { cancel(context.Cause(sess.Context())) })()
			defer cancel(nil)
			return s.Copy(ctx, opts.follow, emit)
		})
		if !opts.follow {
			for _, line := range lines { // that a crash has cut; Flush tells of an error
				w.Write(line)
			}
		}
		if full := w.Flush(); err == nil {
			err = full
		}
		switch {
		case errors.Is(err, syscall.EPIPE), errors.Is(context.Cause(ctx), syscall.EPIPE), opts.follow && ctx.Err() != nil:
			return nil
		case opts.follow && (errors.Is(err, session.ErrExpired) || errors.Is(err, session.ErrUnavailable)): // its Dial has waited
			log.Warn("trying again with another ZooKeeper session", zap.Error(err))
		default:
			return err
		}
	}
}

// printer writes what was asked for of each piece.
func (opts catOptions) printer(w io.Writer, lines map[string][]byte) func(follow.Piece) error {
	begun := opts.from == 0
	return func(p follow.Piece) error {
		if begun = begun || p.Header.Turn >= opts.from; !begun {
			return nil
		}
		bytes := p.Bytes
		if opts.records {
			bytes = p.Records()
		}
		if opts.unescape {
			agent := p.Header.Agent
			bytes, lines[agent] = intake.Join(lines[agent], bytes)
		}
		_, err := w.Write(bytes)
		return err
	}
}

// untilClosed is done when ctx is, or when the reader of the pipe that out is closes it,
// which would not be noticed before more is committed.
func untilClosed(ctx context.Context, out io.Writer) (closed context.Context, stop func()) {
	closed, cancel := context.WithCancelCause(ctx)
	stop = func() { cancel(nil) }
	f, ok := out.(*os.File)
	if !ok {
		return closed, stop
	}
	if info, err := f.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return closed, stop
	}
	go func() { // ends with the pipe, or with the process
		for {
			pipe := []unix.PollFd{{Fd: int32(f.Fd())}}
			if _, err := unix.Poll(pipe, -1); !errors.Is(err, unix.EINTR) {
				cancel(syscall.EPIPE)
				return
			}
		}
	}()
	return closed, stop
}
