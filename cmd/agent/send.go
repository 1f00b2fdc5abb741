package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/intake"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
)

type sendOptions struct {
	priority, limit int
	try             bool
	timeout         time.Duration
	json, verbose   bool
	input           inputOptions
}

func newSend() *cobra.Command {
	var opts sendOptions
	cmd := &cobra.Command{
		Use:   "send [MESSAGE...]",
		Short: "Leave messages in the fleet's inbox, to be written to the file",
		Long: `Leave messages in the fleet's inbox: each argument is one, or without arguments each
line of the input. Agents that run with --source inbox write them to the file, each exactly
once, those of one sender and priority in order. When send ends well, the messages are kept
by ZooKeeper, whether an agent runs or not.

While the inbox is full (--limit) send waits, in line with other senders. A message must be
what a record must be; the first that is not is refused by its number (exit 2), after those
before it were sent. Lines may be escaped or left out instead: --bad-records, and see
agent run --help. What was read and not sent is kept in --spool DIR, or counted.

When the connection or the session breaks, send finds out what became of its last batch
before it goes on, so that nothing is sent twice. If it can't, because it is told to stop or
no server answers, it ends with the numbers of the messages in doubt: look for them in the
inbox and in the file before you send them again.

Exit codes: 0 all sent, 1 failed (how many were sent is said), 2 wrong usage or a bad
message, 4 the inbox was full.`,
		Example: `  agent send "the backup is done"
  agent send --priority 0 "first of all"
  seq 1 10000 | agent send                      each line is a message
  agent send --try "not if it is full"`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err == nil {
				err = opts.check(cmd.Flags(), len(args) == 0)
			}
			if err != nil {
				return err
			}
			return runSend(cmd, c, opts, args)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "agent", "log")
	cmd.Flags().IntVar(&opts.priority, "priority", inbox.DefaultPriority, "0 to 9; 0 is taken `first`")
	cmd.Flags().IntVar(&opts.limit, "limit", inbox.DefaultLimit, "wait while more than `N` messages would be in the inbox")
	cmd.Flags().BoolVar(&opts.try, "try", false, "do not wait when the inbox is full")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 0, "give up when the inbox stays full for so `long`")
	opts.input.flags(cmd.Flags(), intake.Stop)
	cmd.Flags().BoolVar(&opts.json, "json", false, "print a JSON object for each message sent")
	cmd.Flags().BoolVarP(&opts.verbose, "verbose", "v", false, "print the name of each message sent")
	return cmd
}

func (o *sendOptions) check(flags *pflag.FlagSet, lines bool) error {
	var wrong []error
	if err := o.input.check(flags, lines, "lines of the input, not with messages as arguments"); err != nil {
		wrong = append(wrong, err)
	}
	if o.priority < 0 || o.priority > inbox.LowestPriority {
		wrong = append(wrong, fmt.Errorf("--priority %d: give 0 (first) to %d", o.priority, inbox.LowestPriority))
	}
	if o.limit < 1 || o.limit > inbox.MaxLimit {
		wrong = append(wrong, fmt.Errorf("--limit %d: give 1 to %d", o.limit, inbox.MaxLimit))
	}
	if flags.Changed("timeout") && (o.timeout <= 0 || o.try) {
		wrong = append(wrong, fmt.Errorf("--timeout %v: give a duration above zero, or --try instead", o.timeout))
	}
	if len(wrong) > 0 {
		return usageError{errors.Join(wrong...)}
	}
	return nil
}

func (o sendOptions) patience() time.Duration {
	switch {
	case o.try:
		return 0
	case o.timeout > 0:
		return o.timeout
	}
	return inbox.Forever
}

// sending is one `agent send`.
type sending struct {
	sendOptions
	sender   *inbox.Sender
	what     string // line or message
	out      io.Writer
	progress io.Writer // a terminal, or nil
	shown    time.Time // progress, last
	sent     int
}

func runSend(cmd *cobra.Command, c config.Config, opts sendOptions, args []string) (err error) {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	log := newLog(c.Log, cmd.ErrOrStderr())
	s := &sending{sendOptions: opts, out: cmd.OutOrStdout(), shown: time.Now()}
	s.sender = inbox.NewSender(inbox.SenderOptions{
		Dial:     func(ctx context.Context) (*session.Session, error) { return dial(ctx, c, log) },
		Dir:      inboxOf(c),
		Who:      queue.Member{Agent: c.Agent.Name, Host: host, Since: time.Now().UTC()},
		Priority: opts.priority, Limit: opts.limit, Patience: opts.patience(), Log: log,
	})
	defer s.sender.Close()
	if isTerminal(cmd.ErrOrStderr()) {
		s.progress = cmd.ErrOrStderr()
	}
	if len(args) > 0 {
		s.what = "message"
		return s.conclude(cmd, s.arguments(cmd.Context(), args), log)
	}
	s.what = "line"
	in, err := openInput(cmd.InOrStdin(), opts.input, inbox.MaxBatch, inbox.MaxBatchBytes, log)
	if err != nil {
		return err
	}
	ctx, stop := in.drained(cmd.Context())
	err = s.lines(ctx, in)
	doubt := 0
	if unknown := (*inbox.DoubtError)(nil); errors.As(err, &unknown) {
		doubt = unknown.Messages
	}
	stop()
	return in.close(s.conclude(cmd, err, log), doubt)
}

func (s *sending) arguments(ctx context.Context, args []string) error {
	records := make([][]byte, len(args))
	for i, arg := range args {
		records[i] = []byte(arg)
	}
	return s.send(ctx, records)
}

// lines sends the input, as many lines at a time as are there.
func (s *sending) lines(ctx context.Context, lines *input) error {
	for {
		err := lines.Wait(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			before := s.sent
			err = s.send(ctx, lines.Take(0))
			lines.First(s.sent - before) // also when the next of them failed
		}
		if err != nil {
			return err
		}
	}
}

func (s *sending) send(ctx context.Context, records [][]byte) error {
	names, err := s.sender.Send(ctx, records...)
	before := s.sent
	s.sent += len(names) // whatever becomes of telling it
	for i, name := range names {
		if err := s.print(before+i+1, name); err != nil {
			return fmt.Errorf("print what was sent: %w", err)
		}
	}
	if s.progress != nil && time.Since(s.shown) > 2*time.Second {
		s.shown = time.Now()
		fmt.Fprintf(s.progress, "%d messages sent\n", s.sent)
	}
	return err
}

func (s *sending) print(number int, name string) error {
	switch {
	case s.json:
		return json.NewEncoder(s.out).Encode(struct {
			Number   int    `json:"number"`
			Name     string `json:"name,omitempty"`
			Priority int    `json:"priority"`
		}{number, name, s.priority})
	case s.verbose && name == "":
		name = "sent, under a name that was lost with the connection"
	}
	if !s.verbose {
		return nil
	}
	_, err := fmt.Fprintln(s.out, name)
	return err
}

// conclude makes of err what it means for the user, who must know what was sent.
func (s *sending) conclude(cmd *cobra.Command, err error, log *zap.Logger) error {
	var doubt *inbox.DoubtError
	var bad *frame.RecordError
	switch {
	case err == nil:
		log.Debug("sent", zap.Int("messages", s.sent))
		return nil
	case errors.As(err, new(*intake.RecordError)):
		return fmt.Errorf("%w; the %d before it were sent", err, s.sent)
	case errors.As(err, &bad):
		return usageError{fmt.Errorf("%s %d is refused: %w; those before it were sent", s.what, s.sent+1, bad)}
	case errors.As(err, &doubt):
		from, to := s.sent+1, s.sent+doubt.Messages
		return fmt.Errorf("%d messages were sent; whether %ss %d to %d were is not known (all of them or none): look for them with `agent inbox` and in the file before you send them again: %w",
			s.sent, s.what, from, to, doubt.Err)
	case cmd.Context().Err() != nil:
		err = errors.New("told to stop")
	}
	err = fmt.Errorf("%w; %d messages were sent, and none from %s %d on", err, s.sent, s.what, s.sent+1)
	if errors.Is(err, inbox.ErrFull) {
		return said(cmd, exitBusy, err)
	}
	return err
}
