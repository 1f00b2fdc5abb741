package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/audit"
	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/session"
)

type statusOptions struct {
	json, watch, me bool
	every           time.Duration
}

func newStatus() *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who has the turn, who waits, and how far the file is committed",
		Long: `Show who has the turn, who waits and since when, how far the file is committed, how many
turns are committed and not known to be on the disk, which agents are held up and by what,
and what the auditor says.`,
		Example: `  agent status
  agent status --watch
  agent status --json | jq -r .holder.host
  agent status --me        exit 0 only if an agent of this host is in the fleet`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			if opts.every <= 0 {
				return usageError{fmt.Errorf("--every %v: give a duration above zero", opts.every)}
			}
			return besideRefused(cmd, withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
				return status(cmd.Context(), sess, c, opts, cmd.OutOrStdout())
			}))
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	cmd.Flags().BoolVar(&opts.json, "json", false, "print JSON, one object a look")
	cmd.Flags().BoolVar(&opts.watch, "watch", false, "look again and again until Ctrl-C")
	cmd.Flags().BoolVar(&opts.me, "me", false, "fail unless an agent of this host is in the fleet (a health check)")
	cmd.Flags().DurationVar(&opts.every, "every", time.Second, "how often --watch looks")
	return cmd
}

func status(ctx context.Context, sess *session.Session, c config.Config, opts statusOptions, out io.Writer) error {
	tick := time.NewTicker(opts.every)
	defer tick.Stop()
	for {
		s, err := lookAround(ctx, sess, c)
		if err != nil {
			if ctx.Err() != nil && opts.watch {
				return nil
			}
			return err
		}
		if err := show(s, opts, out); err != nil || !opts.watch {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// overview is a fleet's status, with what its configuration and its auditor say.
type overview struct {
	fleet.Status
	Paused bool         `json:"paused"` // by the configuration
	Audit  *audit.State `json:"audit"`  // null when nobody ever audited
}

func lookAround(ctx context.Context, sess *session.Session, c config.Config) (s overview, err error) {
	if s.Status, err = fleet.Look(ctx, sess, rootOf(c), c.Fleet); err != nil {
		return s, err
	}
	if s.Audit, err = audit.Look(ctx, sess, string(rootOf(c))); err != nil {
		return s, err
	}
	node, err := live.Peek(ctx, sess, configNode(c))
	if err == nil { // agents take no notice of what is damaged, see steering.apply
		_, s.Paused, _ = readFleet(fleetSchema().Value(node).Settings)
	}
	return s, err
}

func show(s overview, opts statusOptions, out io.Writer) error {
	if opts.me {
		return memberHere(s.Status, out)
	}
	if opts.json {
		return json.NewEncoder(out).Encode(s)
	}
	text := describe(s)
	if opts.watch && isTerminal(out) {
		width := terminalWidth(out)
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = clipped(lines[i], width)
		}
		text = strings.Join(lines, "\n")
		text = "\x1b[H\x1b[2J" + text // redraw from the top
	}
	_, err := io.WriteString(out, text)
	return err
}

func memberHere(s fleet.Status, out io.Writer) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, a := range s.Agents {
		if a.Host == host {
			_, err := fmt.Fprintf(out, "%s is in fleet %s\n", a.Agent, s.Fleet)
			return err
		}
	}
	return errors.New("no agent of this host is in the fleet")
}

// describe is the status for people.
func describe(s overview) string {
	var b strings.Builder
	ago := func(t time.Time) string { return age(s.At.Sub(t)) }
	fmt.Fprintf(&b, "fleet   %s, agents: %d\n", s.Fleet, len(s.Agents))
	for _, a := range s.Agents {
		if a.Held != "" {
			fmt.Fprintf(&b, "held    %s on %s%s: %s\n", a.Agent, a.Host, heldFor(a, ago), a.Held)
		}
	}
	if s.Paused {
		fmt.Fprintln(&b, "PAUSED  by the configuration: nobody takes a turn until `agent config set paused=false`")
	}
	if s.Head == nil {
		fmt.Fprintln(&b, "head    none: no turn was ever committed")
	} else {
		fmt.Fprintf(&b, "head    turn %d, %d bytes, by %s %s ago\n", s.Head.Turn, s.Head.Offset, s.Head.Agent, ago(s.Head.At))
	}
	b.WriteString(describeTurns(s.Turns, ago))
	b.WriteString(describeAudit(s, ago))
	if s.Holder == nil {
		fmt.Fprintln(&b, "turn    nobody just now")
	} else {
		fmt.Fprintf(&b, "turn    %s\n", line(*s.Holder, ago))
	}
	for i, w := range s.Waiting {
		fmt.Fprintf(&b, "%6d  %s\n", i+1, line(w, ago))
	}
	for _, f := range s.Foreign {
		fmt.Fprintf(&b, "?       %q in the queue is none of ours and ignored; `agent evict` removes it\n", f)
	}
	return b.String()
}

// heldFor is for how long an agent has been held up, if it says so.
func heldFor(a fleet.Enrolled, ago func(time.Time) string) string {
	if a.HeldSince == nil {
		return ""
	}
	return ", for " + ago(*a.HeldSince)
}

// describeTurns is the line of the turns that are not known to be on the disk, empty when
// there are none.
func describeTurns(u fleet.Unwritten, ago func(time.Time) string) string {
	if u.Count == 0 {
		return ""
	}
	what := fmt.Sprintf("%d turns", u.Count)
	if u.Count == 1 {
		what = "1 turn"
	}
	if u.Trouble != "" {
		return fmt.Sprintf("unwritten  %s; %s\n", what, u.Trouble)
	}
	return fmt.Sprintf("unwritten  %s, oldest %s, of %s\n", what, ago(*u.Since), u.Agent)
}

func line(w fleet.Waiter, ago func(time.Time) string) string {
	name := w.Agent
	if name == "" {
		name = "(unnamed " + w.Place + ")"
	}
	return fmt.Sprintf("%-12s on %s, in the queue for %s", name, w.Host, ago(w.Since))
}
