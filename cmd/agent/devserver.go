package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

func newDevServer() *cobra.Command {
	var listen string
	var tick time.Duration
	cmd := &cobra.Command{
		Use:   "dev-server",
		Short: "Run the embedded ZooKeeper, for demos and tests only",
		Long: `Run the ZooKeeper server that is built into the agent: one node, in memory. It speaks
ZooKeeper's own protocol, so agents, zkCli.sh and other clients connect to it as to
the real one. When it ends everything in it is gone. For demos and tests only.`,
		Example: `  agent dev-server
  agent dev-server --listen 127.0.0.1:12181 &
  agent run --zookeeper 127.0.0.1:12181`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tick < 10*time.Millisecond {
				return usageError{fmt.Errorf("--tick %v: give at least 10ms", tick)}
			}
			server, err := zkdev.Start(zkdev.Config{Listen: listen, TickTime: tick})
			if err != nil {
				return usageError{fmt.Errorf("--listen %q: %w; give another address, like 127.0.0.1:0 for a free port", listen, err)}
			}
			writeBox(cmd.ErrOrStderr(),
				"FOR DEMOS AND TESTS ONLY",
				"One node, in memory: no quorum, no persistence, no failover.",
				"When this process ends, everything in it is gone.")
			if host, _, err := net.SplitHostPort(server.Addr()); err == nil && !net.ParseIP(host).IsLoopback() {
				fmt.Fprintln(cmd.ErrOrStderr(), "agent: it listens beyond this machine: whoever reaches it may read, change and fill it")
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "agent run --zookeeper %s\n", server.Addr()); err != nil {
				return err
			}
			<-cmd.Context().Done()
			return server.Close()
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:2181", "the `address` to listen on; loopback unless you ask otherwise")
	cmd.Flags().DurationVar(&tick, "tick", 500*time.Millisecond, "ZooKeeper's tick: sessions time out after 2 to 20 of them")
	return cmd
}

// writeBox puts a frame around lines that must not be overlooked.
func writeBox(w io.Writer, lines ...string) {
	width := 0
	for _, l := range lines {
		width = max(width, len(l))
	}
	rule := "+" + strings.Repeat("-", width+2) + "+"
	fmt.Fprintln(w, rule)
	for _, l := range lines {
		fmt.Fprintf(w, "| %-*s |\n", width, l)
	}
	fmt.Fprintln(w, rule)
}
