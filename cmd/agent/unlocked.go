package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

// runUnlocked is `agent run --lock none`: the world without Turnstile. Each turn's
// number is looked up in the file and its lines are written one by one, as programs
// that share a log do, and nothing keeps two of them apart.
func runUnlocked(cmd *cobra.Command, c config.Config, opts runOptions) (err error) {
	ctx := cmd.Context()
	name := c.Agent.Name
	if name == "" {
		name = fmt.Sprintf("agent-%d", os.Getpid())
	}
	if err := refuseHead(cmd, c); err != nil {
		return err
	}
	file, err := os.OpenFile(c.Data.File, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return usageError{fmt.Errorf("data.file %q: %w", c.Data.File, err)}
	}
	defer file.Close()
	fmt.Fprintf(cmd.ErrOrStderr(), "%s writes to %s WITHOUT a lock, to show what goes wrong; `agent verify %s` says what did\n", name, c.Data.File, c.Data.File)
	var source fleet.Source = newTicker(c, opts, func() string { return name })
	if opts.source == "stdin" {
		in, failed := openInput(cmd.InOrStdin(), opts.input, c.Turn.MaxRecords, c.Turn.MaxBytes, newLog(c.Log, cmd.ErrOrStderr()))
		if failed != nil {
			return failed
		}
		defer func() { err = in.close(err, 0) }()
		source = in
	}
	for {
		err := source.Wait(ctx)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = writeUnlocked(file, name, source)
		}
		if err != nil {
			return err
		}
	}
}

// refuseHead keeps this out of a file that a fleet keeps whole.
func refuseHead(cmd *cobra.Command, c config.Config) error {
	refusal := &writer.RefusedError{
		Why:  fmt.Sprintf("%s is a fleet's file, and --lock none would damage it", c.Data.File),
		Next: "give another file with --data",
	}
	if _, err := os.Lstat(c.Data.File + ".alive"); err == nil {
		return refusal
	}
	if !c.ZookeeperSet() {
		return nil
	}
	return withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
		head, err := fleet.Head(cmd.Context(), sess, rootOf(c))
		if err != nil || head == nil {
			return err
		}
		file, err := os.Open(c.Data.File)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer file.Close()
		start := make([]byte, frame.MaxLine)
		n, err := file.ReadAt(start, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Contains(start[:n], []byte("incarnation="+head.Incarnation.String())) {
			return refusal
		}
		return nil
	})
}

func writeUnlocked(file *os.File, name string, source fleet.Source) error {
	turn, prev, err := lastTurn(file)
	if err != nil {
		return err
	}
	if turn == 0 {
		i := frame.Incarnation{ID: uuid.New(), From: 1}
		if _, err := fmt.Fprintln(file, i.Line()); err != nil {
			return err
		}
		prev = i.Seal(nil)
	}
	header := frame.Header{Turn: turn + 1, Agent: name, Token: frame.Token(turn + 1), At: time.Now()}
	text, _ := frame.Append(nil, prev, header, source.Take(turn+1))
	for line := range bytes.Lines(text) {
		if _, err := file.Write(line); err != nil {
			return err
		}
		time.Sleep(rand.N(2 * time.Millisecond)) // the work that a program does between two lines
	}
	source.Committed()
	source.Ack()
	return nil
}

// lastTurn looks at the end of the file for the last turn's number and sum.
func lastTurn(file *os.File) (uint64, frame.Sum, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, frame.Sum{}, err
	}
	const look = 256 << 10
	from := max(0, info.Size()-look)
	tail, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return 0, frame.Sum{}, err
	}
	var last frame.Header
	for line := range bytes.Lines(tail) {
		if h, err := frame.ParseHeader(bytes.TrimSuffix(line, []byte("\n"))); err == nil {
			last = h
		}
	}
	return last.Turn, last.Sum, nil
}
