package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/intake"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/barrier"
	"github.com/turnstile-fleet/turnstile/internal/volume"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

type runOptions struct {
	source string
	turns  int
	ackLog string
	lock   string

	together int
	refused  string
	input    inputOptions
}

func newRun() *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Join the fleet and append to the shared file, turn by turn",
		Long: `Join the fleet and take turns at the shared file until told to stop (Ctrl-C or
SIGTERM, which lets the next agent go on at once), until --turns are done, or until
the input ends and everything is acknowledged. Turns are logged at the level debug;
agent status --watch and agent cat --follow show them as well.

Told to stop, it has two seconds to bring to the disk what is committed. What is left
stays in ZooKeeper, and other agents write it. Then it says how many records that are and
exits 1; the next run with the same --ack-log settles them.

A record is one line of valid UTF-8 without control characters, tab excepted, of at most
64 KiB. What becomes of a line of the input that is not: --bad-records

  escape   it is written visibly, and can be had back (agent cat --records --unescape)
  skip     it is left out; how many were is said at the end
  stop     it is refused by its number (exit 2), after those before it were written

Told to stop, an agent that reads a pipe reads what is in it already, for a second at most.
What was read and not written is kept in --spool DIR; without one it is counted (exit 1).`,
		Example: `  agent run                                     lines for show, until Ctrl-C
  agent run --pace 0 --lines 10 --turns 1000    many of them, and then end
  seq 1 100000 | agent run --source stdin --ack-log acks.log
  java -jar app.jar 2>&1 | agent run --source stdin --record-start '^[0-9]{4}-'
  agent run --source inbox                      what agent send has left
  agent run --zookeeper zk1:2181,zk2:2181 --data /data/audit.log --fleet audit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err == nil {
				err = opts.check(cmd.Flags())
			}
			if err != nil {
				return err
			}
			if opts.lock == "none" {
				return runUnlocked(cmd, c, opts)
			}
			return run(cmd, c, opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "fleet.audit", "agent", "data", "turn", "log")
	cmd.Flags().StringVar(&opts.source, "source", "ticker", "where records come from: `ticker` (lines for show), stdin or inbox (messages of agent send)")
	cmd.Flags().IntVar(&opts.turns, "turns", 0, "end after `N` turns (ticker, inbox); 0 means never")
	cmd.Flags().StringVar(&opts.ackLog, "ack-log", "", "append each acknowledged record's turn, line and SHA-256 to `FILE`")
	cmd.Flags().StringVar(&opts.lock, "lock", "zookeeper", "`zookeeper`, or none: see what happens without a lock")
	opts.input.flags(cmd.Flags(), intake.Escape)
	opts.input.groupFlags(cmd.Flags())
	cmd.Flags().StringVar(&opts.refused, "when-refused", "exit", "when head and file do not agree: `WHAT` is exit (6), or wait: say so, and look again")
	cmd.Flags().IntVar(&opts.together, "together", 0, "begin when `N` agents that were told so are there; when one of them dies before, all end with 5")
	return cmd
}

func (o *runOptions) check(flags *pflag.FlagSet) error {
	var wrong []error
	if err := o.input.check(flags, o.source == "stdin", "--source stdin"); err != nil {
		wrong = append(wrong, err)
	}
	if o.source != "ticker" && o.source != "stdin" && o.source != "inbox" {
		wrong = append(wrong, fmt.Errorf("--source %q: give ticker, stdin or inbox", o.source))
	}
	if o.source == "inbox" && o.lock == "none" {
		wrong = append(wrong, errors.New("--lock none: messages leave the inbox with the lock's transaction; give --source ticker or stdin"))
	}
	if o.refused != "exit" && o.refused != "wait" {
		wrong = append(wrong, fmt.Errorf("--when-refused %q: give exit or wait", o.refused))
	}
	if o.lock != "zookeeper" && o.lock != "none" {
		wrong = append(wrong, fmt.Errorf("--lock %q: give zookeeper or none", o.lock))
	}
	if o.turns < 0 {
		wrong = append(wrong, fmt.Errorf("--turns %d: give 0 for no end, or how many", o.turns))
	}
	if o.turns > 0 && o.source == "stdin" {
		wrong = append(wrong, errors.New("--turns goes with --source ticker or inbox; stdin ends with its input"))
	}
	if o.together < 0 || o.together > barrier.MaxSize {
		wrong = append(wrong, fmt.Errorf("--together %d: give how many agents begin together, 1 to %d, or 0", o.together, barrier.MaxSize))
	}
	if o.together > 0 && o.lock == "none" {
		wrong = append(wrong, errors.New("--together goes with --lock zookeeper"))
	}
	if len(wrong) > 0 {
		return usageError{errors.Join(wrong...)}
	}
	return nil
}

// onOneProcessor keeps an agent's goroutines on one processor: they hand a turn to each
// other, one at work at a time, and waking other processors for that costs a quarter of
// all the time they use. Who verifies beside has use for more, and so has who asks for it.
func onOneProcessor(c config.Config) {
	if !c.Audit && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}

func run(cmd *cobra.Command, c config.Config, opts runOptions) error {
	onOneProcessor(c)
	ctx := cmd.Context()
	log, level := newLeveledLog(c.Log, cmd.ErrOrStderr())
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	_, err = os.Lstat(c.Data.File + ".alive")
	strangers := errors.Is(err, os.ErrNotExist)
	file, err := openData(c) // at the door, before the fleet sees us
	if err != nil {
		return err
	}
	acks, err := openAcks(opts.ackLog, c.Data.File, log)
	if err != nil {
		return err
	}
	defer func() {
		if acks != nil {
			acks.Close()
		}
	}()
	if opts.together > 0 {
		if err := together(cmd, c, log, opts.together); err != nil {
			return err
		}
	}
	me := newIdentity(queue.Member{Host: host, BootID: fleet.BootID()})
	var source fleet.Source
	var in *input
	switch opts.source {
	case "stdin":
		if in, err = openInput(cmd.InOrStdin(), opts.input, c.Turn.MaxRecords, c.Turn.MaxBytes, log); err != nil {
			return err
		}
		var stop func()
		ctx, stop = in.drained(ctx)
		defer stop()
		source = in
	case "inbox":
		var stop func()
		source, stop = newInboxSource(c, opts, me.member, log)
		defer stop()
	default:
		source = newTicker(c, opts, me.name)
	}
	steer := newSteering(c, level, log)
	source = steer.source(source)
	defer steer.follow(ctx)()
	defer auditBeside(ctx, c, log, me)()
	options := fleet.Options{
		Dial:     func(ctx context.Context) (fleet.Session, error) { return dial(ctx, c, log) },
		Root:     rootOf(c),
		Name:     c.Agent.Name,
		Host:     host,
		BootID:   fleet.BootID(),
		File:     file,
		Lives:    lifeline.Dir(c.Data.File + ".alive"),
		Source:   source,
		Acks:     acks,
		MaxBytes: c.Turn.MaxBytes,
		Named:    me.set,
		Log:      log,
	}
	agent := fleet.New(options)
	err = agent.Run(ctx)
	// With a commit in doubt it must be the same agent that goes on: it ends, and says so.
	for opts.refused == "wait" && errors.Is(err, writer.ErrRefused) && ctx.Err() == nil && !agent.InDoubt() {
		log.Error("not in the fleet, and looking again in a while", zap.Duration("in", lookAfter), zap.Error(err))
		select {
		case <-time.After(lookAfter):
		case <-ctx.Done():
		}
		if acks != nil { // what was pending is noted there, and is settled first
			acks.Close()
			if acks, err = openAcks(opts.ackLog, c.Data.File, log); err != nil {
				break
			}
			options.Acks = acks
		}
		agent = fleet.New(options)
		err = agent.Run(ctx)
	}
	if strangers && errors.Is(err, writer.ErrRefused) {
		_ = os.Remove(c.Data.File + ".alive") // it was no fleet's file; where others are it is not empty
	}
	conclude(agent, log)
	if in != nil {
		err = in.close(err, inDoubt(agent))
	}
	return err
}

// lookAfter is the pause after which a refused agent looks again whether head and file agree.
const lookAfter = 5 * time.Second

// openAcks opens the acknowledgement log, if one is wanted.
func openAcks(path, data string, log *zap.Logger) (*fleet.AckLog, error) {
	if path == "" {
		return nil, nil
	}
	if err := notOurs(path, data); err != nil {
		return nil, usageError{err}
	}
	acks, err := fleet.OpenAckLog(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("--ack-log: %w", err)}
	}
	acks.Log = log
	return acks, nil
}

// inDoubt is how many of the records that the source handed out last may be in the file: all or
// none of them.
func inDoubt(agent *fleet.Agent) int {
	if agent.InDoubt() {
		return -1
	}
	return 0
}

// conclude says how it ended.
func conclude(agent *fleet.Agent, log *zap.Logger) {
	turns, records := agent.Acknowledged()
	if agent.Called() != "" {
		log.Info("ended", zap.String("agent", agent.Called()), zap.Int("turns", turns), zap.Int("records", records))
	}
}

func newTicker(c config.Config, opts runOptions, name func() string) *fleet.Ticker {
	return &fleet.Ticker{Agent: name, Lines: c.Turn.Lines, Bytes: c.Turn.MaxBytes, Pace: c.Turn.Pace, Turns: opts.turns}
}

// notOurs refuses an acknowledgement log that would be the data file.
func notOurs(log, data string) error {
	abs, err := filepath.Abs(log)
	if err != nil {
		return err
	}
	file, err := filepath.Abs(data)
	if err == nil && abs == file {
		err = fmt.Errorf("--ack-log %q is the data file; give a file of its own", log)
	}
	return err
}

// volumeOf tells how the files of the data file's volume are opened.
func volumeOf(c config.Config) (volume.Kind, error) {
	kind, err := volume.Of(filepath.Dir(c.Data.File))
	if err != nil {
		return kind, err
	}
	return kind.Resolve(c.Data.Volume)
}

// openData finds out before anything else what a person has to mend: a path that is no
// file, a directory that cannot be written, a volume of which too little is known.
func openData(c config.Config) (*writer.File, error) {
	if err := checkDataFile(c.Data.File); err != nil {
		return nil, err
	}
	kind, err := volumeOf(c)
	if err != nil {
		return nil, err
	}
	return writer.Open(writer.Options{Path: c.Data.File, Mode: kind.Mode, Chunk: kind.Chunk})
}

func checkDataFile(path string) error {
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return usageError{fmt.Errorf("data.file %q: %s is not a directory; create it, or give another path (--data, TURNSTILE_DATA_FILE)", path, dir)}
	}
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return usageError{fmt.Errorf("data.file %q: that is a directory; give the path of a file in it", path)}
	}
	if f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0); err == nil {
		f.Close()
	} else if errors.Is(err, os.ErrPermission) {
		return usageError{fmt.Errorf("data.file %q: the file cannot be written; make it writable for user %d", path, os.Getuid())}
	}
	probe, err := os.CreateTemp(dir, ".turnstile-*")
	if err != nil {
		return usageError{fmt.Errorf("data.file %q: the directory cannot be written: %w; make it writable for user %d", path, err, os.Getuid())}
	}
	probe.Close()
	return os.Remove(probe.Name())
}
