package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/turnstile-fleet/turnstile/internal/child"
	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
)

type lockOptions struct {
	shared, try                    bool
	slots                          int
	timeout, grace, atLeast        time.Duration
	graceSet                       bool
	label                          string
	busyCode, lostCode, failedCode int
}

func newLock() *cobra.Command {
	var opts lockOptions
	cmd := &cobra.Command{
		Use:   "lock NAME[,NAME]... [flags] -- COMMAND [ARG]...",
		Short: "Run a command under a lock of the fleet",
		Long: `Run a command while no other process of the fleet has the lock NAME: alone, together
with others that ask with --shared, or with at most N at once (--slots N). Locks are
given in the order of asking. Several names, with commas between, are taken one after the
other in the order of the alphabet, so that two who want the same ones do not wait for each
other.

A name has up to 128 letters, digits, dots, dashes, underscores and slashes. What a lock leaves
in ZooKeeper goes with its last user; agent lock rm removes what a crash has left.

--at-least keeps the lock for so long even when the command ends earlier: a job of a second
that many hosts start at the same minute, by clocks that differ, runs once.

The command gets our input, output and exit code, and the signals that we get, in a
process group of its own; at a terminal it gets that too. In its environment are
  TURNSTILE_LOCK          NAME
  TURNSTILE_LOCK_TOKEN    the fencing token, which rises from holder to holder; a shell
                          reads it as a number: $((TURNSTILE_LOCK_TOKEN))
  TURNSTILE_LOCK_SLOT     which of the slots, from 1
  TURNSTILE_LOCK_SERVERS  the ZooKeeper servers
  TURNSTILE_LOCKS_HELD    what is held here: an agent lock within the command that wants
                          the same lock again has it at once

When the lock is lost, the command's process group is told (SIGTERM), and after --grace
everything that it started is killed (SIGKILL): when ZooKeeper is silent, before it can
give the lock to another; when somebody removed our node, a tenth of a second later.
That holds when we are killed or stopped ourselves, too, but then not for processes that
left the process group. Who removes a holder's node, or ends its session, lets the next
one go on at once, while the command may run for a moment, and so it may on a machine too
busy to kill in time: what must never be done by two at once has to compare the token.

The lock is held until the command ends. What it leaves running in the background is
not waited for.

Exit codes: the command's own, 128 and the signal's number when a signal ended it, 126
when it cannot be run and 127 when there is none. Of our own: 1 failed (no ZooKeeper
answers), 2 wrong usage, 4 busy (--try, --timeout), 5 the lock was lost. A message on
standard error comes with each of our own; --failed-code, --busy-code and --lost-code
choose others where the command has a use for these.`,
		Example: `  agent lock deploy -- ./deploy.sh
  agent lock nightly --try -- backup /data        not if another host does it
  agent lock nightly --try --at-least 50s -- job  once a minute, though cron runs it everywhere
  agent lock db.prod/compact,db.prod/backup --label "release 7" -- ./maintain.sh
  agent lock table --shared --timeout 30s -- psql -f report.sql
  agent lock builds --slots 4 -- make all
  agent lock ls                                   which locks there are
  agent lock show deploy                          who has it, who waits, since when
  agent lock rm deploy                            what a crash has left of it`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return errors.New("give one name, or several with commas between, and after -- the command: agent lock NAME -- COMMAND")
			}
			for name := range strings.SplitSeq(args[0], ",") {
				if err := checkName("lock", name); err != nil {
					return err
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.graceSet = cmd.Flags().Changed("grace")
			if cmd.Flags().Changed("slots") && opts.slots == 0 {
				opts.slots = -1 // refused, and not the default
			}
			c, err := load(cmd)
			if err == nil {
				err = opts.check()
			}
			if err != nil {
				return err
			}
			names := slices.Compact(slices.Sorted(strings.SplitSeq(args[0], ",")))
			argv, err := inner(cmd, names[1:], args[1:])
			if err != nil {
				return err
			}
			return runLock(cmd, c, names[0], argv, opts)
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "agent", "log")
	f := cmd.Flags()
	f.BoolVar(&opts.shared, "shared", false, "have it together with others that ask so: readers, where the others write")
	f.IntVar(&opts.slots, "slots", 0, "let `N` have it at once; all its users must say the same")
	f.BoolVar(&opts.try, "try", false, "fail at once when it is busy")
	f.DurationVar(&opts.timeout, "timeout", 0, "wait no `longer` for it; 0 means for ever")
	f.DurationVar(&opts.atLeast, "at-least", 0, "keep it for this `DURATION`, though the command ends earlier")
	f.StringVar(&opts.label, "label", "", "a `TEXT` for people, which agent lock show prints")
	f.DurationVar(&opts.grace, "grace", 0, "how `long` the command has to end by itself when the lock is lost; at most 2/5 of the session timeout (default 3/20 of it)")
	f.IntVar(&opts.busyCode, "busy-code", exitBusy, "the exit `code` when it is busy")
	f.IntVar(&opts.lostCode, "lost-code", exitLost, "the exit `code` when it was lost")
	f.IntVar(&opts.failedCode, "failed-code", exitFailed, "the exit `code` when we failed")
	cmd.AddCommand(newLockRemove(), locks.list("List the fleet's locks, who has them and how many wait"),
		locks.show("Show who has a lock, who waits, and since when"))
	return cmd
}

func (o lockOptions) check() error {
	switch {
	case o.slots < 0 || o.slots > ids.MaxSize:
		return usageError{fmt.Errorf("--slots: give 1 to %d", ids.MaxSize)}
	case o.slots > 0 && o.shared:
		return usageError{errors.New("--slots and --shared are different kinds of lock: leave one out")}
	case o.timeout < 0:
		return usageError{fmt.Errorf("--timeout %v: give how long to wait, or 0 for ever", o.timeout)}
	case o.try && o.timeout > 0:
		return usageError{errors.New("--try does not wait: leave --timeout out")}
	case o.atLeast < 0:
		return usageError{fmt.Errorf("--at-least %v: give how long to keep the lock, or 0", o.atLeast)}
	case len(o.label) > maxLabel || strings.ContainsFunc(o.label, unicode.IsControl) || !utf8.ValidString(o.label):
		return usageError{fmt.Errorf("--label %.40q: give one line of at most %d bytes", o.label, maxLabel)}
	case o.grace < 0:
		return usageError{fmt.Errorf("--grace %v: give 0 or more", o.grace)}
	}
	for _, code := range []struct {
		flag string
		code int
	}{{"busy", o.busyCode}, {"lost", o.lostCode}, {"failed", o.failedCode}} {
		if code.code < 0 || code.code > 255 {
			return usageError{fmt.Errorf("--%s-code %d: give 0 to 255", code.flag, code.code)}
		}
	}
	return nil
}

// kind is how the lock is wanted.
func (o lockOptions) kind() lock.Kind {
	switch {
	case o.slots > 0:
		return lock.Slots
	case o.shared:
		return lock.Shared
	}
	return lock.Exclusive
}

const maxLabel = 256

// inner is the command that runs under a lock when there are more: another agent lock, which
// takes the next, with the same flags. What is lost further out ends all of it.
func inner(cmd *cobra.Command, names, argv []string) ([]string, error) {
	if len(names) == 0 {
		return argv, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	nested := []string{self, "lock", strings.Join(names, ",")}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		nested = append(nested, fmt.Sprintf("--%s=%s", f.Name, f.Value))
	})
	return slices.Concat(nested, []string{"--"}, argv), nil
}

func lockDir(c config.Config, name string) string {
	return path.Join(string(rootOf(c)), "locks", nodeName(name))
}

// lockGuard is the hidden command that leads the process group; see package child.
const lockGuard = "lock-guard"

func newLockGuard() *cobra.Command {
	return &cobra.Command{
		Use:    lockGuard,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return child.Guard() },
	}
}
