// Command bench-heal measures how long a fleet stands still when the agent that has the
// turn is killed; scripts/bench-heal.sh runs it, and says what is measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// config is what the script decides.
type config struct {
	label     string
	servers   string
	timeout   time.Duration // of a session
	kills     int
	agents    int
	agent     string // the program
	project   string // of compose; empty: the agents are processes
	direct    bool   // kill a container's process from outside, not with `docker kill`
	kazoo     string // the Python program; empty: none
	kazooRuns int
}

func main() {
	var c config
	flag.StringVar(&c.label, "label", "", "what the servers are, for the table")
	flag.StringVar(&c.servers, "zookeeper", "127.0.0.1:2181", "the servers")
	flag.DurationVar(&c.timeout, "session-timeout", 10*time.Second, "that the agents and kazoo ask for")
	flag.IntVar(&c.kills, "kills", 200, "how many agents are killed in their turn")
	flag.IntVar(&c.agents, "agents", 3, "how many there are")
	flag.StringVar(&c.agent, "agent", "", "the agent program")
	flag.StringVar(&c.project, "containers", "", "a compose project whose agents run already; else they are started as processes")
	flag.BoolVar(&c.direct, "direct", false, "kill a container's main process itself, not with docker kill")
	flag.StringVar(&c.kazoo, "kazoo", "", "kazoo_lock.py")
	flag.IntVar(&c.kazooRuns, "kazoo-kills", 5, "how many of its processes are killed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench-heal:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("what is %q?", flag.Arg(0))
	}
	dir, err := os.MkdirTemp("", "bench-heal-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	how := "SIGKILL"
	if c.project != "" && !c.direct {
		how = "docker kill"
	}
	ours, err := ourFleet(ctx, c, dir)
	ours.print(c.label, "turnstile, "+how) // what there is of it, after an error too
	if err != nil {
		return fmt.Errorf("turnstile: %w", err)
	}
	if ours.issued != nil {
		sample{times: ours.issued}.print("", "  from the command's start")
	}
	sample{times: ours.healthy}.print("", "  from commit to commit, alive")
	if c.kazoo == "" {
		return nil
	}
	theirs, err := kazooFleet(ctx, c, dir)
	theirs.print(c.label, "kazoo Lock, SIGKILL")
	if err != nil {
		return fmt.Errorf("kazoo: %w", err)
	}
	fmt.Printf("  ratio of the medians %.0f\n", theirs.median().Seconds()/ours.median().Seconds())
	return nil
}

// errMissed is a kill that met nobody in its turn.
var errMissed = errors.New("it did not have the turn")

// collect repeats kill until there are so many of an agent in its turn. A kill that
// missed is counted.
func collect(ctx context.Context, kills int, kill func(context.Context) (time.Duration, error)) (s sample, err error) {
	for len(s.times) < kills {
		took, err := kill(ctx)
		switch {
		case errors.Is(err, errMissed):
			if s.missed++; s.missed > 50*kills+50 {
				return s, fmt.Errorf("%d kills, and %d met an agent in its turn", s.missed+len(s.times), len(s.times))
			}
		case err != nil:
			return s, err
		default:
			s.times = append(s.times, took)
		}
	}
	return s, nil
}
