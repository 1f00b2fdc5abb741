package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
		fmt.Fprintf(errs, "agent: %v\n", explained(err))
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
		return usageError{fmt.Errorf("%w; see `%s --help`", plainly(err), cmd.CommandPath())}
	})
	root.Version = versionString()
	root.SetVersionTemplate("turnstile {{.Version}}\n")
	root.AddCommand(newRun(), newVerify(), newAdopt(), newAccess(), newStatus(), newEvict(), newAudit(), newBarrier(), newCat(), newConfig(), newElect(), newID(), newLock(), newLockGuard(), newSend(), newInbox(), newZnode(), newDemo(), newDevServer(), newCheckVolume(), newCheckVolumeChild(), newVersion())
	for _, cmd := range root.Commands() {
		cmd.Args = usageArgs(cmd.Args)
	}
	return root
}

// plainly says of a flag's value what would be right, in place of a parser's own words.
func plainly(err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err
	}
	f := bad.GetFlag()
	want := map[string]string{
		"int": "a whole number", "int32": "a whole number", "int64": "a whole number", "uint64": "a whole number, 0 or more",
		"duration": "a duration with its unit, like 500ms, 5s or 2m", "bool": "true or false", "float64": "a number",
	}[f.Value.Type()]
	if want == "" {
		return err
	}
	return fmt.Errorf("--%s %q: give %s", f.Name, bad.GetValue(), want)
}

// load reads the settings of a command whose flags config.Flags registered.
func load(cmd *cobra.Command) (config.Config, error) {
	c, err := config.Load(cmd.Flags(), withoutOurs(withoutLock(os.Environ())))
	if err != nil {
		return c, usageError{err}
	}
	for _, notice := range c.Notices() {
		fmt.Fprintf(cmd.ErrOrStderr(), "agent: %s\n", notice)
	}
	return c, nil
}
