package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/session"
)

type electOptions struct {
	json bool
	stay time.Duration
}

func newElect() *cobra.Command {
	var opts electOptions
	cmd := &cobra.Command{
		Use:   "elect NAME [-- COMMAND [ARG]...]",
		Short: "Stand for election, and tell what happens",
		Long: `Stand for the election NAME of the fleet and print a line for each event: Connected
and Suspended (a ZooKeeper server serves our session, or none does at present), Lost
(the session is over; another is asked for, and we stand again), Elected and Resigned.
Exactly one candidate leads; the others wait in order, each watching only the one
before it. The token rises from leader to leader.

With a command it runs that while it leads, and resigns and ends with the command's exit code when
it ends. The command has the token in TURNSTILE_ELECTION_TOKEN, and ends as one under agent lock
does when the leadership is lost (exit 5; agent lock --help says more). The events are not
printed then.

Ctrl-C or SIGTERM resigns, and the next candidate leads at once. The names ls and show
are taken by the commands below.`,
		Example: `  agent elect nightly                 stand, lead, until Ctrl-C
  agent elect nightly --for 10s       lead for ten seconds, then resign and end
  agent elect nightly -- ./serve      run it on the leader alone
  agent elect show nightly            who leads, who is next`,
		Args: commandAfterDash(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err == nil {
				err = checkName("election", args[0])
			}
			if err == nil && args[0] == audit.Election {
				err = usageError{errors.New("the auditors' election is theirs: stand with `agent audit` or `agent run --audit`, or choose another name")}
			}
			if err == nil && opts.stay < 0 {
				err = usageError{fmt.Errorf("--for %v: give how long to lead, or 0 for no end", opts.stay)}
			}
			if err == nil && len(args) > 1 && (opts.stay > 0 || opts.json) {
				err = usageError{errors.New("--for and --json do not go with a command: it leads while that runs, and its output is the command's")}
			}
			if err != nil {
				return err
			}
			if len(args) > 1 {
				return electToRun(cmd, c, args[0], args[1:])
			}
			return runElect(cmd, c, args[0], opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "agent", "log")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print each event as a JSON object")
	cmd.Flags().DurationVar(&opts.stay, "for", 0, "resign and end after leading for so `long`; 0 means never")
	ls, show := elections.list("List the fleet's elections and who leads"), elections.show("Show who leads an election, and who is next")
	ls.Example = "  agent elect ls\n  agent elect ls --json | jq -r '.[].name'"
	show.Example = "  agent elect show auditor\n  agent elect show nightly --json | jq -r .leader.host"
	cmd.AddCommand(ls, show)
	return cmd
}

func electionDir(c config.Config, name string) string {
	return path.Join(string(rootOf(c)), "elections", nodeName(name))
}

func runElect(cmd *cobra.Command, c config.Config, name string, opts electOptions) error {
	ctx, log := cmd.Context(), newLog(c.Log, cmd.ErrOrStderr())
	who, err := thisMember(c)
	if err != nil {
		return err
	}
	runner := elect.Runner{
		Dial:   electDial(c, log),
		Dir:    electionDir(c, name),
		Who:    who,
		Log:    log,
		Lives:  userLives(log, c.Fleet, "elections", nodeName(name)),
		Events: func(e elect.Event) { writeEvent(ctx, cmd.OutOrStdout(), e, opts.json) },
	}
	return runner.Run(ctx, func(leading context.Context, _ *elect.Leadership) error {
		var enough <-chan time.Time
		if opts.stay > 0 {
			timer := time.NewTimer(opts.stay)
			defer timer.Stop()
			enough = timer.C
		}
		select {
		case <-enough:
		case <-leading.Done():
		}
		return nil
	})
}

// electToRun stands until we lead, and runs the command while we do.
func electToRun(cmd *cobra.Command, c config.Config, name string, argv []string) error {
	ctx, log := cmd.Context(), newLog(c.Log, cmd.ErrOrStderr())
	file, err := lookUp(cmd, argv)
	if err != nil {
		return err
	}
	who, err := thisMember(c)
	if err != nil {
		return err
	}
	var sess *session.Session // with which we stand at present
	// What tells us to stop ends our candidacy; while we lead it is for the command to hear.
	var leads atomic.Bool
	ended, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	defer context.AfterFunc(ctx, func() {
		if !leads.Load() {
			done()
		}
	})()
	runner := elect.Runner{
		Dial: func(ctx context.Context, notify func(session.State)) (elect.Session, error) {
			var err error
			sess, err = dial(ctx, c, log, notify)
			return sess, err
		},
		Dir: electionDir(c, name), Who: who, Log: log,
		Events: func(elect.Event) {},
	}
	var result error
	err = runner.Run(ended, func(leading context.Context, l *elect.Leadership) error {
		leads.Store(true)
		g := &guarded{what: "the election " + name, sess: sess, held: leading, log: log}
		result = runGuarded(cmd, g, file, argv, append(os.Environ(), "TURNSTILE_ELECTION_TOKEN="+frame.Token(l.Token()).String()))
		done()
		return nil
	})
	switch {
	case leads.Load():
		return result
	case ctx.Err() != nil:
		return toldBefore(cmd)
	}
	return err
}

// thisMember is how others see this process: under agent.name, or host and process.
func thisMember(c config.Config) (who queue.Member, err error) {
	if who.Host, err = os.Hostname(); err != nil {
		return who, err
	}
	who.BootID = fleet.BootID()
	who.Agent = c.Agent.Name
	if who.Agent == "" {
		who.Agent = fmt.Sprintf("%s-%d", who.Host, os.Getpid())
	}
	return who, nil
}

// electDial gives sessions that tell of their states.
func electDial(c config.Config, log *zap.Logger) func(context.Context, func(session.State)) (elect.Session, error) {
	return func(ctx context.Context, notify func(session.State)) (elect.Session, error) {
		return dial(ctx, c, log, notify)
	}
}

// writeEvent prints what happened. stop is the command's context: that it ended is no
// reason worth telling.
func writeEvent(stop context.Context, out io.Writer, e elect.Event, asJSON bool) {
	line := struct {
		At    time.Time    `json:"at"`
		Event elect.Kind   `json:"event"`
		Token *frame.Token `json:"token,omitempty"`
		Why   string       `json:"why,omitempty"`
	}{At: e.At, Event: e.Kind}
	if e.Token != 0 {
		line.Token = (*frame.Token)(&e.Token)
	}
	if e.Why != nil && !(stop.Err() != nil && errors.Is(e.Why, context.Cause(stop))) {
		line.Why = e.Why.Error()
	}
	if asJSON {
		_ = json.NewEncoder(out).Encode(line) // a reader that went away is no reason to resign
		return
	}
	text := e.At.Format("15:04:05.000") + "  " + string(e.Kind)
	if line.Token != nil {
		text = fmt.Sprintf("%s  %-9s  token %s", e.At.Format("15:04:05.000"), e.Kind, line.Token)
	}
	if line.Why != "" {
		text += ": " + line.Why
	}
	_, _ = fmt.Fprintln(out, text)
}
