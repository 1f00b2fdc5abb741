package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/session"
)

type idOptions struct {
	pool    string
	size    int
	try     bool
	timeout time.Duration
	json    bool
}

func newID() *cobra.Command {
	var opts idOptions
	cmd := &cobra.Command{
		Use:   "id [-- COMMAND [ARG]...]",
		Short: "Take a number that nobody else has",
		Long: `Take the lowest number of a pool that nobody else in the fleet has, print it, and hold
it until Ctrl-C or SIGTERM: a name for identical containers, worker-1, worker-2 and so
on. (Agents take their names agent-N by themselves.) When the holder dies its number
comes free as soon as its session has expired.

With a command it runs that, and gives the number back when it ends. The command has the number
in TURNSTILE_ID and its token in TURNSTILE_ID_TOKEN, and ends as one under agent lock does when
the number is lost: see agent lock --help, for its exit codes too.

While all numbers are taken it waits, in the order of coming. With --try it does not wait,
and with --timeout only for so long: it exits 4 then. When the number is lost, because the
session expired or somebody removed its node, it says so and exits 5: another may have the
number by then.`,
		Example: `  agent id                        hold a number of 1 to 1024
  agent id --json                 with its name and fencing token
  agent id --pool gpu --size 4 --try
  agent id --pool gpu --size 4 -- sh -c 'CUDA_VISIBLE_DEVICES=$((TURNSTILE_ID - 1)) ./train'
  agent id ls                     who has which`,
		Args: commandAfterDash(0),
		RunE: func(cmd *cobra.Command, argv []string) error {
			c, err := load(cmd)
			if err == nil {
				err = opts.check()
			}
			if err != nil {
				return err
			}
			return holdID(cmd, c, opts, argv)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "agent", "log")
	addPoolFlag(cmd, &opts.pool)
	cmd.Flags().IntVar(&opts.size, "size", ids.MaxSize, "how `many` numbers the pool has; all its users must say the same")
	cmd.Flags().BoolVar(&opts.try, "try", false, "fail at once when all are taken")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 0, "wait no `longer` for a number; 0 means for ever")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print a JSON object")
	cmd.AddCommand(newIDList())
	return cmd
}

func addPoolFlag(cmd *cobra.Command, pool *string) {
	cmd.Flags().StringVar(pool, "pool", "worker", "the pool's `name`")
}

func (o idOptions) check() error {
	err := checkName("--pool", o.pool)
	switch {
	case err != nil:
		return err
	case o.size < 1 || o.size > ids.MaxSize:
		return usageError{fmt.Errorf("--size %d: give 1 to %d", o.size, ids.MaxSize)}
	case o.timeout < 0:
		return usageError{fmt.Errorf("--timeout %v: give how long to wait, or 0 for ever", o.timeout)}
	case o.try && o.timeout > 0:
		return usageError{errors.New("--try does not wait: leave --timeout out")}
	}
	return nil
}

func poolDir(c config.Config, name string) string {
	return path.Join(string(rootOf(c)), "ids", nodeName(name))
}

func holdID(cmd *cobra.Command, c config.Config, opts idOptions, argv []string) error {
	ctx, log := cmd.Context(), newLog(c.Log, cmd.ErrOrStderr())
	file, err := lookUp(cmd, argv)
	if err != nil {
		return err
	}
	who, err := thisMember(c)
	if err != nil {
		return err
	}
	return withSession(ctx, c, log, func(sess *session.Session) error {
		life := queue.BeginLife(userLives(log, c.Fleet, "ids", nodeName(opts.pool)), queue.NewID(), log)
		defer life.End()
		who.Life = life.Name()
		pool := &ids.Pool{Sess: sess, Dir: poolDir(c, opts.pool), Size: opts.size, Who: who, Log: log, Died: life.Watch}
		id, err := takeID(ctx, pool, opts)
		switch {
		case errors.Is(err, ids.ErrFull):
			return said(cmd, exitBusy, fmt.Errorf("no number of pool %s: %w; `agent id ls --pool %s` tells by whom", opts.pool, err, opts.pool))
		case errors.Is(err, ids.ErrSize):
			return usageError{err}
		case err != nil && ctx.Err() != nil && len(argv) > 0:
			return toldBefore(cmd)
		case err != nil:
			return err
		}
		defer id.Close()
		if len(argv) > 0 {
			g := &guarded{what: fmt.Sprintf("number %d of pool %s", id.Number(), opts.pool), sess: sess, held: id.Context(), log: log}
			return runGuarded(cmd, g, file, argv, append(os.Environ(),
				fmt.Sprintf("TURNSTILE_ID=%d", id.Number()), "TURNSTILE_ID_TOKEN="+frame.Token(id.Token()).String()))
		}
		if err := writeID(cmd.OutOrStdout(), opts, id, who); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-id.Context().Done():
			return said(cmd, exitLost, fmt.Errorf("number %d of pool %s is no longer ours: %w", id.Number(), opts.pool, context.Cause(id.Context())))
		}
	})
}

// said prints err, and ends the process with the code.
func said(cmd *cobra.Command, code int, err error) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "agent: %v\n", explained(err))
	return silentError{code}
}

// takeID takes a number for as long as the options allow: then the error is ids.ErrFull.
func takeID(ctx context.Context, pool *ids.Pool, opts idOptions) (*ids.ID, error) {
	if opts.try {
		return pool.Try(ctx)
	}
	if opts.timeout == 0 {
		return pool.Take(ctx)
	}
	late := fmt.Errorf("%w, and none came free for us within %v", ids.ErrFull, opts.timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, opts.timeout, late)
	defer cancel()
	return pool.Take(ctx)
}

func writeID(out io.Writer, opts idOptions, id *ids.ID, who queue.Member) error {
	if !opts.json {
		_, err := fmt.Fprintln(out, id.Number())
		return err
	}
	return json.NewEncoder(out).Encode(struct {
		Pool  string      `json:"pool"`
		ID    int         `json:"id"`
		Name  string      `json:"name"`
		Token frame.Token `json:"token"`
		Agent string      `json:"agent"`
	}{opts.pool, id.Number(), fmt.Sprintf("%s-%d", opts.pool, id.Number()), frame.Token(id.Token()), who.Agent})
}

func newIDList() *cobra.Command {
	var pool string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List who has which number of a pool, and who waits",
		Example: `  agent id ls
  agent id ls --pool gpu --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkName("--pool", pool); err != nil {
				return err
			}
			return withCommandSession(cmd, func(sess *session.Session, c config.Config) error {
				usage, err := ids.Look(cmd.Context(), sess, poolDir(c, pool))
				if err != nil {
					return err
				}
				return writeUsage(cmd.OutOrStdout(), pool, usage, asJSON)
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	addPoolFlag(cmd, &pool)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func writeUsage(out io.Writer, pool string, usage ids.Usage, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(struct {
			Pool string `json:"pool"`
			ids.Usage
		}{pool, usage})
	}
	if usage.Size == 0 {
		_, err := fmt.Fprintf(out, "pool %s was never used\n", pool)
		return err
	}
	text := fmt.Sprintf("pool %s: %d of %d taken\n", pool, len(usage.Taken), usage.Size)
	for _, e := range usage.Taken {
		text += fmt.Sprintf("%6d  %s since %s\n", e.Number, whose(e.Member), e.Since.Format(time.RFC3339))
	}
	for _, e := range usage.Waiting {
		if e.Foreign {
			text += fmt.Sprintf("     ?  %q in the line is none of ours and ignored\n", e.Place)
			continue
		}
		text += fmt.Sprintf("  wait  %s since %s\n", whose(e.Member), e.Since.Format(time.RFC3339))
	}
	_, err := io.WriteString(out, text)
	return err
}

func whose(m queue.Member) string {
	if m.Agent == "" {
		return "somebody unknown"
	}
	return fmt.Sprintf("%s on %s", m.Agent, m.Host)
}
