// Command tickets is a booking service: customers reserve seats for a while, and book them.
// See README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// run gives the exit code: 0 fine, 1 failed, 2 wrong usage or configuration.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
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
	if err == nil {
		return 0
	}
	if !errors.Is(err, errQuiet) {
		fmt.Fprintln(os.Stderr, "tickets:", err)
	}
	if !started || errors.Is(err, errUsage) {
		fmt.Fprintln(os.Stderr, "  next step: tickets --help, or tickets COMMAND --help")
		return 2
	}
	return 1
}

// errQuiet is an error whose text was printed already.
var errQuiet = errors.New("failed")

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tickets",
		Short: "Reserve and book seats: two kinds of lock, and a database that decides",
		Example: `  tickets demo                                   # all of it in 20 seconds, with nothing but this program
  tickets init && tickets serve                  # Redis on localhost, SQLite in tickets.db
  LOCK_TYPE=ephemeral_node tickets serve         # ZooKeeper on localhost
  tickets try --url http://localhost:6005        # a good and a failed transaction, step by step`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(serveCommand(), initCommand(), tryCommand(), stampedeCommand(), demoCommand())
	return root
}
