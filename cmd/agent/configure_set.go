package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/session"
)

func newConfigSet() *cobra.Command {
	return &cobra.Command{
		Use:   "set [KEY=VALUE ...]",
		Short: "Change settings of the running fleet",
		Long: `Change settings of the running fleet, all that are given in one version; KEY= unsets one.
What is refused, with exit code 2, changes nothing.

Without arguments lines are read, each like the arguments and applied at once, and
answered by the new version or by why it is refused.

` + keysHelp(),
		Example: `  agent config set turn.pace=200ms
  agent config set turn.lines=5000 turn.max_records=5000
  agent config set paused=
  agent config set                     line by line, at a terminal
  agent config set < changes.txt`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			s := &configStore{c: c, log: newLog(c.Log, cmd.ErrOrStderr())}
			defer s.close()
			if len(args) == 0 {
				return setLines(cmd.Context(), s, cmd.InOrStdin(), cmd.OutOrStdout())
			}
			version, err := s.set(cmd.Context(), args)
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "version %d\n", version)
			}
			return err
		},
	}
}

// parsePairs reads KEY=VALUE each.
func parsePairs(pairs []string) (live.Settings, error) {
	given := live.Settings{}
	var names []string
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		if !ok {
			return nil, usageError{fmt.Errorf("%q: write KEY=VALUE, or KEY= to unset it; the keys are in `agent config --help`", pair)}
		}
		if _, twice := given[name]; twice {
			return nil, usageError{fmt.Errorf("%s is given twice; give it once", name)}
		}
		given[name] = text
		names = append(names, name)
	}
	return given, knownKeys(names...)
}

// configStore stores changes, over as many sessions as it takes.
type configStore struct {
	c    config.Config
	log  *zap.Logger
	sess *session.Session
}

func (s *configStore) close() {
	if s.sess != nil {
		s.sess.Close()
	}
}

func (s *configStore) set(ctx context.Context, pairs []string) (version int32, err error) {
	given, err := parsePairs(pairs)
	if err != nil {
		return 0, err
	}
	return s.store(ctx, live.Set(given))
}

// store makes one change; what the schema refuses is a usage error.
func (s *configStore) store(ctx context.Context, edit func(live.Value) (live.Settings, error)) (version int32, err error) {
	change := &live.Change{Node: configNode(s.c), Schema: fleetSchema(), Edit: edit}
	for {
		if s.sess == nil || s.sess.Err() != nil {
			s.close()
			s.sess, err = dial(ctx, s.c, s.log)
		}
		if err == nil {
			version, err = change.Store(ctx, s.sess)
		} else if change.Unsettled() && !errors.Is(err, live.ErrUnknown) {
			err = fmt.Errorf("%w: %w", live.ErrUnknown, err)
		}
		switch {
		case errors.As(err, new(*live.Refused)):
			return 0, usageError{err}
		case s.sess == nil || ctx.Err() != nil || !errors.Is(err, session.ErrExpired):
			return version, err
		}
		s.log.Warn("trying again with another ZooKeeper session", zap.Error(err))
		err = nil
	}
}

// setLines applies each line at once and answers it.
func setLines(ctx context.Context, s *configStore, in io.Reader, out io.Writer) error {
	prompt := ""
	if w, ok := in.(io.Writer); ok && isTerminal(w) {
		prompt = "config> "
	}
	refused := false
	lines, failed := readLines(ctx, in)
	for {
		fmt.Fprint(out, prompt)
		var line string
		var more bool
		select {
		case line, more = <-lines:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !more {
			break
		}
		pairs := strings.Fields(line)
		if len(pairs) == 0 || strings.HasPrefix(pairs[0], "#") {
			continue
		}
		version, err := s.set(ctx, pairs)
		switch {
		case err == nil:
			fmt.Fprintf(out, "version %d\n", version)
		case errors.As(err, new(usageError)):
			refused = true
			fmt.Fprintf(out, "refused: %v\n", err)
		default:
			return fmt.Errorf("%s: %w", strings.Join(pairs, " "), err)
		}
	}
	if prompt != "" {
		fmt.Fprintln(out) // after the prompt that had no answer
	}
	if err := <-failed; err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	if refused {
		return silentError{exitUsage}
	}
	return nil
}

// readLines reads in another goroutine, so that nobody need wait for a terminal. It ends
// with the input, or with ctx at the next line.
func readLines(ctx context.Context, in io.Reader) (lines <-chan string, failed <-chan error) {
	read, end := make(chan string), make(chan error, 1)
	go func() {
		defer close(read)
		scanner := bufio.NewScanner(in)
		for scanner.Scan() {
			select {
			case read <- scanner.Text():
			case <-ctx.Done():
				end <- nil
				return
			}
		}
		end <- scanner.Err()
	}()
	return read, end
}
