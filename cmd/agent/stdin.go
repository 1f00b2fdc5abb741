package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/intake"
)

// inputOptions say how lines are read from the standard input.
type inputOptions struct {
	bad   string
	spool string

	start    string // of run alone
	together time.Duration
	begins   *regexp.Regexp
}

func (o *inputOptions) flags(flags *pflag.FlagSet, bad intake.Policy) {
	flags.StringVar(&o.bad, "bad-records", string(bad), "what becomes of a line that cannot be a record: `POLICY` is escape, skip or stop")
	flags.StringVar(&o.spool, "spool", "", "keep what was read and not written in `DIR`; the next run with it begins there")
}

// groupFlags are for what writes turns.
func (o *inputOptions) groupFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.start, "record-start", "", "a line that matches `REGEX` begins a record of several lines, which stay in one turn")
	flags.DurationVar(&o.together, "record-wait", time.Second, "how long the last such record is held back for more of its lines, as a `DURATION`")
}

// check is for a command of which reads tells whether it reads its input.
func (o *inputOptions) check(flags *pflag.FlagSet, reads bool, else_ string) error {
	var wrong []error
	for _, name := range []string{"bad-records", "spool", "record-start", "record-wait"} {
		if !reads && flags.Changed(name) {
			wrong = append(wrong, fmt.Errorf("--%s goes with %s", name, else_))
		}
	}
	if !intake.IsPolicy(intake.Policy(o.bad)) {
		wrong = append(wrong, fmt.Errorf("--bad-records %q: give %s", o.bad, intake.Policies))
	}
	var err error
	if o.start != "" {
		if o.begins, err = regexp.Compile(o.start); err != nil {
			wrong = append(wrong, fmt.Errorf("--record-start %q: %w; see https://pkg.go.dev/regexp/syntax", o.start, err))
		}
	}
	if o.start == "" && flags.Changed("record-wait") {
		wrong = append(wrong, errors.New("--record-wait goes with --record-start"))
	}
	if o.together < 0 {
		wrong = append(wrong, fmt.Errorf("--record-wait %v: give a duration of 0 or more", o.together))
	}
	return errors.Join(wrong...)
}

// input is a command's standard input while it is read.
type input struct {
	*fleet.Lines
	file  *os.File      // nil: it is no file
	from  *intake.Input // nil: as above
	spool *intake.Spool // nil: none
	kept  *bytes.Reader // what the spool had, and is read first
	dir   string
	log   *zap.Logger
}

func openInput(in io.Reader, opts inputOptions, maxRecords, maxBytes int, log *zap.Logger) (*input, error) {
	// Nobody may read what we say any more: that is no reason to lose what we have read.
	signal.Ignore(unix.SIGPIPE)
	i := &input{dir: opts.spool, log: log, kept: bytes.NewReader(nil)}
	if file, ok := in.(*os.File); ok {
		from, err := intake.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the standard input: %w", err)
		}
		i.file, i.from, in = file, from, from
	}
	if opts.spool != "" {
		var err error
		if i.spool, err = intake.OpenSpool(opts.spool); err != nil {
			return nil, usageError{fmt.Errorf("--spool: %w", err)}
		}
		i.welcome()
		i.kept = bytes.NewReader(i.spool.Text)
		in = io.MultiReader(i.kept, in)
	}
	i.Lines = fleet.Read(in, fleet.LinesOptions{
		MaxRecords: maxRecords, MaxBytes: maxBytes, Together: opts.together,
		Intake: intake.Options{Bad: intake.Policy(opts.bad), Start: opts.begins, First: i.first},
	})
	return i, nil
}

// welcome tells what the spool has.
func (i *input) welcome() {
	if n := intake.Count(i.spool.Text); n > 0 {
		i.log.Info("beginning with what the run before has left", zap.Int("lines", n), zap.String("spool", i.dir))
	}
	if i.spool.InDoubt != "" {
		i.log.Warn("the run before was killed, so it is not known which of these lines are written: compare them with the file, and send those that are missing", zap.String("lines", i.spool.InDoubt))
	}
}

// first tells of the first line that cannot be a record as it is; the rest are counted.
func (i *input) first(line *intake.RecordError) {
	i.log.Warn("lines that cannot be records as they are: escaped, split or left out, as --bad-records says; this is the first", zap.Int("line", line.Line), zap.String("why", line.Err.Error()))
}

// afterStop is how long is left, after the input was read to its end, to commit it.
const afterStop = time.Second

// drained is done some time after told is: first what is in the pipe already is read, and the
// source ends.
func (i *input) drained(told context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(told))
	ended := make(chan struct{})
	go func() { // ends with told, or with stop
		defer close(ended)
		select {
		case <-told.Done():
		case <-ctx.Done():
			return
		}
		i.end()
		late := time.NewTimer(intake.Longest + afterStop)
		defer late.Stop()
		select {
		case <-late.C:
			cancel(context.Cause(told))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled); <-ended }
}

// end lets no more be read than is there already.
func (i *input) end() {
	if i.from == nil {
		i.Stop()
		return
	}
	i.from.Drain()
}

// close ends the reading, counts what could not be a record, and keeps what was not written:
// in the spool, or by telling of it. err is why the command ends; doubt is as for Lines.Left.
func (i *input) close(err error, doubt int) error {
	i.Stop()
	if i.from != nil {
		i.from.Stop()
	}
	if counts, cut := i.Counts(); counts != (intake.Counts{}) || cut > 0 {
		i.log.Info("lines that could not be records as they were", zap.Int("escaped", counts.Escaped), zap.Int("split", counts.Split),
			zap.Int("left_out", counts.Skipped), zap.Int("records_longer_than_a_turn", cut))
	}
	soon, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	left, late := i.Left(soon, doubt)
	if late != nil { // it is no file, and does not answer
		err = errors.Join(err, fmt.Errorf("how much more was read is not known: the input does not end: %w", late))
	} else {
		unread, _ := io.ReadAll(i.kept) // of the spool: a reader of bytes does not fail
		left.Text = append(left.Text, unread...)
		left.Lines += intake.Count(unread)
		if i.from != nil {
			defer i.from.Close()
		}
	}
	return errors.Join(err, i.keep(left, late == nil))
}

// keep keeps what is left; not all says that there is more, which is not known.
func (i *input) keep(left fleet.Leftover, all bool) error {
	said := fmt.Sprintf("%d lines (%d bytes) were read and not written", left.Lines, len(left.Text))
	if i.spool == nil {
		var errs []error
		if left.DoubtLines > 0 {
			errs = append(errs, fmt.Errorf("whether the %d lines (%d bytes) before what is not written are in the file is not known: look there before you send them again", left.DoubtLines, len(left.Doubt)))
		}
		if left.Lines > 0 {
			errs = append(errs, fmt.Errorf("%s: %s", said, i.again(len(left.Text))))
		}
		return errors.Join(errs...)
	}
	name, err := i.spool.Close(left.Text, left.Doubt, all)
	if err != nil {
		return fmt.Errorf("%s, nor kept: %w", said, err)
	}
	if left.DoubtLines > 0 {
		i.log.Warn("whether these lines are in the file is not known: look there, and send those that are missing", zap.Int("lines", left.DoubtLines), zap.String("file", name))
	}
	if left.Lines > 0 {
		i.log.Info("lines that were read and not written are kept: start again with the same --spool", zap.Int("lines", left.Lines), zap.Int("bytes", len(left.Text)), zap.String("spool", i.dir))
	}
	return nil
}

// again tells how to have again what is not written.
func (i *input) again(left int) string {
	if i.file != nil {
		if info, err := i.file.Stat(); err == nil && info.Mode().IsRegular() {
			if at, err := i.file.Seek(0, io.SeekCurrent); err == nil {
				return fmt.Sprintf("the input is a file, go on with its end: tail -c +%d", at-int64(left)+1)
			}
		}
	}
	return "they are gone, unless whoever made them sends them again; --spool DIR keeps such lines"
}
