package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/session"
)

func newInbox() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inbox",
		Short: "Show what waits in the inbox, and see to its dead letters",
		Long: `Show how many messages wait to be written, by priority, since when, and which come
first. Messages come from ` + "`agent send`" + ` and are written by ` + "`agent run --source inbox`" + `.

A message that can't be written, because it is not what a record must be, is moved to the
dead letters with the reason: see dead, retry and drop.`,
		Example: `  agent inbox
  agent inbox --json | jq .waiting
  agent inbox dead`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return showInbox(cmd) },
	}
	list := &cobra.Command{
		Use: "ls", Short: "Show what waits (as does `agent inbox`)", Args: cobra.NoArgs,
		Example: "  agent inbox ls",
		RunE:    func(cmd *cobra.Command, _ []string) error { return showInbox(cmd) },
	}
	for _, c := range []*cobra.Command{cmd, list} {
		config.Flags(c.Flags(), "zookeeper", "fleet", "log")
		c.Flags().Bool("json", false, "print JSON")
	}
	cmd.AddCommand(list, newInboxDead(), newInboxRetry(), newInboxDrop())
	for _, sub := range cmd.Commands() {
		sub.Args = usageArgs(sub.Args)
	}
	return cmd
}

// atInbox runs do with a session and the inbox of the settings.
func atInbox(cmd *cobra.Command, do func(context.Context, *session.Session, inbox.Dir) error) error {
	c, err := load(cmd)
	if err != nil {
		return err
	}
	return withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
		return do(cmd.Context(), sess, inboxOf(c))
	})
}

// fewMessages is how many of those that come first are shown.
const fewMessages = 5

func showInbox(cmd *cobra.Command) error {
	return atInbox(cmd, func(ctx context.Context, sess *session.Session, dir inbox.Dir) error {
		s, err := inbox.Look(ctx, sess, dir, fewMessages)
		if err != nil {
			return err
		}
		if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
		}
		_, err = io.WriteString(cmd.OutOrStdout(), describeInbox(s, time.Now()))
		return err
	})
}

// describeInbox is the status for people.
func describeInbox(s inbox.Status, now time.Time) string {
	var b strings.Builder
	ago := func(t time.Time) string { return age(now.Sub(t)) }
	if s.Waiting == 0 {
		b.WriteString("waiting   nothing\n")
	} else {
		fmt.Fprintf(&b, "waiting   %d, the oldest for %s\n", s.Waiting, ago(*s.Since))
	}
	for _, p := range s.Priorities {
		fmt.Fprintf(&b, "          priority %d: %d, the oldest for %s\n", p.Priority, p.Waiting, ago(p.Since))
	}
	for i, m := range s.First {
		begins := "first    "
		if i > 0 {
			begins = "         "
		}
		fmt.Fprintf(&b, "%s %s  %s\n", begins, m.Name, shortened(m.Record))
	}
	var takers []string
	for _, t := range s.Takers {
		takers = append(takers, t.Agent)
	}
	switch {
	case len(takers) > 0:
		fmt.Fprintf(&b, "taken by  %s\n", strings.Join(takers, ", then "))
	case s.Waiting > 0:
		b.WriteString("taken by  nobody: no agent runs with --source inbox\n")
	}
	if n := len(s.Senders); n > 0 {
		fmt.Fprintf(&b, "senders   %d wait for room\n", n)
	}
	if s.Dead > 0 {
		fmt.Fprintf(&b, "dead      %d, see `agent inbox dead`\n", s.Dead)
	}
	for _, name := range s.Foreign {
		fmt.Fprintf(&b, "foreign   %q is no message, and is left alone\n", name)
	}
	return b.String()
}

// shortened is a record to be shown on a terminal, whatever it holds.
func shortened(record string) string {
	const width = 60
	if r := []rune(record); len(r) > width {
		return fmt.Sprintf("%q… (%d bytes)", string(r[:width]), len(record))
	}
	return fmt.Sprintf("%q", record)
}

func newInboxDead() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "dead",
		Short:   "List the dead letters: messages that could not be written, and why",
		Example: "  agent inbox dead\n  agent inbox dead --json | jq -r .record",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return atInbox(cmd, func(ctx context.Context, sess *session.Session, dir inbox.Dir) error {
				letters, err := inbox.Letters(ctx, sess, dir)
				if err != nil {
					return err
				}
				return showLetters(cmd, letters)
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	cmd.Flags().Bool("json", false, "print a JSON object for each")
	return cmd
}

func showLetters(cmd *cobra.Command, letters []inbox.Letter) error {
	out := bufio.NewWriter(cmd.OutOrStdout())
	asJSON, _ := cmd.Flags().GetBool("json")
	for _, l := range letters {
		if asJSON {
			if err := json.NewEncoder(out).Encode(l); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "%s  was %s  %s  by %s: %s\n              %s\n",
			l.Name, l.Was, l.When.Format(time.RFC3339), l.By, l.Reason, shortened(string(l.Record)))
	}
	if len(letters) == 0 && !asJSON {
		fmt.Fprintln(out, "no dead letters")
	}
	return out.Flush()
}

func newInboxRetry() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "retry {NAME... | --all}",
		Short:   "Put dead letters back among the messages, as the last of their priority",
		Example: "  agent inbox retry 5-0000000003\n  agent inbox retry --all",
		Args:    someOrAll(&all),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachLetter(cmd, args, all, "put back", inbox.Retry)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	return cmd
}

func newInboxDrop() *cobra.Command {
	var all, yes bool
	cmd := &cobra.Command{
		Use:     "drop {NAME... | --all}",
		Short:   "Delete dead letters for good",
		Example: "  agent inbox drop 5-0000000003\n  agent inbox drop --all --yes",
		Args:    someOrAll(&all),
		RunE: func(cmd *cobra.Command, args []string) error {
			what := fmt.Sprintf("%d dead letters", len(args))
			if all {
				what = "all dead letters"
			}
			if !yes {
				if err := askToDrop(cmd, what); err != nil {
					return err
				}
			}
			return eachLetter(cmd, args, all, "dropped", inbox.Drop)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	cmd.Flags().BoolVar(&all, "all", false, "all of them")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// askToDrop asks on a terminal; elsewhere nobody could answer.
func askToDrop(cmd *cobra.Command, what string) error {
	if in, ok := cmd.InOrStdin().(*os.File); !ok || !isTerminal(in) {
		return usageError{errors.New("what is dropped is gone for good: give --yes when there is no terminal to ask on")}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Delete %s for good? [y/N] ", what)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was dropped")
	}
	return nil
}

func someOrAll(all *bool) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if (len(args) > 0) == *all {
			return errors.New("give the names of dead letters, as `agent inbox dead` lists them, or --all")
		}
		return nil
	}
}

// eachLetter does something to the dead letters named, or to all there are.
func eachLetter(
	cmd *cobra.Command, names []string, all bool, done string,
	do func(context.Context, *session.Session, inbox.Dir, string) error,
) error {
	return atInbox(cmd, func(ctx context.Context, sess *session.Session, dir inbox.Dir) error {
		if all {
			letters, err := inbox.Letters(ctx, sess, dir)
			if err != nil {
				return err
			}
			for _, l := range letters {
				names = append(names, l.Name)
			}
		}
		count := 0
		for _, name := range names {
			err := do(ctx, sess, dir, name)
			if all && errors.Is(err, inbox.ErrNoLetter) {
				continue // somebody was quicker
			}
			if err != nil {
				return fmt.Errorf("%w (%s: %d)", err, done, count)
			}
			count++
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %d\n", done, count)
		return err
	})
}
