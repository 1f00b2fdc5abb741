// Command tickets is a booking service: customers reserve seats for a while, and book them.
// See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// run gives the exit code: 0 fine, 1 failed, 2 wrong usage or configuration, 130 interrupted.
func run(args []string) int {
	logging.Disable() // go-redis prints what its errors say
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // who asks twice does not wait
	root := rootCommand()
	root.SetArgs(args)
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd); err != nil {
			return err
		}
		started = true
		return nil
	}
	err := root.ExecuteContext(ctx)
	var misused *misuseError
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && !errors.Is(err, errWrong): // whatever it broke off
		fmt.Fprintln(os.Stderr, "tickets:", errInterrupted)
		return 130
	}
	fmt.Fprintln(os.Stderr, "tickets:", err)
	switch {
	case errors.As(err, &misused):
		return 2
	case !started: // cobra's own errors have no next step
		fmt.Fprintln(os.Stderr, "  next step: tickets --help, or tickets COMMAND --help")
		return 2
	}
	return 1
}

var (
	// errInterrupted says that a signal came.
	errInterrupted = errors.New("interrupted")
	// errWrong says that the service did what it must not.
	errWrong = errors.New("WRONG")
)

// misuseError is what is wrong with the command line or the environment. It names the next step.
type misuseError struct{ error }

func misuse(format string, args ...any) error { return &misuseError{fmt.Errorf(format, args...)} }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tickets",
		Short: "Reserve and book seats: two kinds of lock, and a database that decides",
		Example: `  tickets demo                                   # all of it in 10 seconds, with nothing but this program
  tickets init && tickets serve                  # Redis on localhost, SQLite in tickets.db
  tickets try --url http://localhost:6005        # a good and a failed transaction, step by step`,
		Version:      version(),
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(serveCommand(), initCommand(), tryCommand(), stampedeCommand(), demoCommand(), &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), "tickets version", version()) },
	})
	return root
}

// version is what `go build` knows of the source: a commit, if Git was there.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " with " + info.GoVersion
}
