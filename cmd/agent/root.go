package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
)

// execute runs one command and returns the process's exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.As(err, new(silentError)) {
		fmt.Fprintf(errs, "agent: %v\n", err)
	}
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "agent",
		Short: "A safe >> for a fleet",
		Long: `Turnstile lets identical agents, on one machine or many, append to one shared file
strictly in turn, under a ZooKeeper lock. The verifier proves afterwards that nothing was
interleaved, torn, lost or doubled.

Exit codes: 0 fine, 1 failed, 2 wrong usage, configuration or input, 3 the verifier
found faults, 4 busy until the deadline, 5 lost while held, 6 refused: file and head do
not agree, or the volume is not to be trusted. lock and barrier pass on their command's
own.`,
		Example: `  agent demo                                   watch a fleet take turns
  agent run                                    take turns, a few lines each
  seq 1 1000 | agent run --source stdin        append lines from a pipe
  agent verify data.txt                        prove that the file is whole
  agent cat --follow                           read what is committed, and go on
  agent status --watch                         who has the turn, who waits`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(newRun(), newVerify(), newAdopt(), newStatus(), newEvict(), newAudit(), newBarrier(), newCat(), newConfig(), newElect(), newID(), newLock(), newLockGuard(), newSend(), newInbox(), newZnode(), newDemo(), newDevServer(), newCheckVolume(), newCheckVolumeChild(), newVersion())
	for _, cmd := range root.Commands() {
		cmd.Args = usageArgs(cmd.Args)
	}
	return root
}

// load reads the settings of a command whose flags config.Flags registered.
func load(cmd *cobra.Command) (config.Config, error) {
	c, err := config.Load(cmd.Flags(), withoutLock(os.Environ()))
	if err != nil {
		return c, usageError{err}
	}
	if notice := c.Notice(); notice != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "agent: %s\n", notice)
	}
	return c, nil
}
