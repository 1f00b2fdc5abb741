// Chaos runs fleets of real agents on a real ensemble of three ZooKeeper servers, and
// does to them what docs/design.md says they survive: the fault matrix. It is started
// by scripts/chaos.sh, which builds what it needs.
//
// A run is a sequence of rounds. A round has a fleet and a file of its own: the fleet
// writes, something is done to it, it must go on, and at the end two judges hold the
// file to ZooKeeper's head and to what was acknowledged: the project's verifier, and an
// oracle of our own that knows every record by heart. A round in which the fault never
// fired or the fleet hardly wrote is rejected and played again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `Usage: scripts/chaos.sh [--for 30m] [--seed N] [--only KIND,...] [flags]
       scripts/chaos.sh compose [flags]

Real agents, three real ZooKeeper servers and toxiproxy in between, and the fault matrix
done to them. Exit 0: nothing was missing or doubled, everything that must hold held.
Needs Go, Java and Debian's libzookeeper-java; as root also a tmpfs.

  scripts/chaos.sh --for 60s                   a short look
  scripts/chaos.sh --for 30m --json out.json   the whole matrix, several times
  scripts/chaos.sh --only reply-lost,phantom   some kinds only
  scripts/chaos.sh --only kill-in-turn --seed 7 --rounds 1   one round again
  scripts/chaos.sh --list                      the kinds and their rows of the matrix
  scripts/chaos.sh --servers 127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183
                                               an ensemble of yours, which is left alone

Flags:
`

type options struct {
	agent, toxiproxy, only, servers, json string
	seed                                  uint64
	rounds, lanes                         int
	length                                time.Duration
	list, keep                            bool
	least                                 minimum
}

func main() {
	if os.Getenv(burnVariable) != "" {
		burn()
	}
	if settings := os.Getenv(childVariable); settings != "" {
		os.Exit(runChild(settings))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			os.Exit(1)
		}
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(f.Output(), usage); f.PrintDefaults() }
	f.DurationVar(&o.length, "for", 5*time.Minute, "begin no round after this `time`")
	f.Uint64Var(&o.seed, "seed", 0, "what the run is made of; 0: another each time, printed")
	f.StringVar(&o.only, "only", "", "these `kinds`, with commas")
	f.IntVar(&o.rounds, "rounds", 0, "so `many` rounds instead of --for")
	f.IntVar(&o.lanes, "lanes", 2, "how `many` rounds at the same time, each lane with its own ensemble")
	f.StringVar(&o.servers, "servers", "", "an ensemble that is there: `host:port,...`; what is done to servers is left out")
	f.StringVar(&o.json, "json", "", "write the summary to `FILE`")
	f.BoolVar(&o.list, "list", false, "list the kinds and end")
	f.BoolVar(&o.keep, "keep", false, "keep every round's files")
	f.IntVar(&o.least.faults, "min-faults", -1, "fail with fewer faults (300 from --for 30m on, else 0)")
	f.IntVar(&o.least.each, "min-each", -1, "fail with fewer faults of any kind (5 from --for 30m on, else 0)")
	f.IntVar(&o.least.turns, "min-turns", -1, "fail with fewer turns (20000 from --for 30m on, else 0)")
	f.StringVar(&o.agent, "agent", "", "the agent's `program`")
	f.StringVar(&o.toxiproxy, "toxiproxy", "", "toxiproxy's server `program`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag; see --help", f.Arg(0))
	}
	if o.lanes < 1 {
		return o, fmt.Errorf("--lanes %d: give 1 or more", o.lanes)
	}
	long := minimum{faults: 300, each: 5, turns: 20000}
	if o.length < 30*time.Minute || o.rounds > 0 {
		long = minimum{}
	}
	for value, preset := range map[*int]int{&o.least.faults: long.faults, &o.least.each: long.each, &o.least.turns: long.turns} {
		if *value < 0 {
			*value = preset
		}
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	compose := len(args) > 0 && args[0] == "compose"
	if compose {
		args = args[1:]
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.list {
		all := kinds
		if compose {
			all = (&stack{}).kinds()
		}
		for _, k := range all {
			fmt.Printf("%-20s row %2d  %s\n", k.name, k.row, k.what)
		}
		return nil
	}
	if o.seed == 0 {
		o.seed = rand.Uint64() >> 16
	}
	dir, err := os.MkdirTemp("", "turnstile-chaos-*")
	if err != nil {
		return err
	}
	var c *campaign
	skipped := map[string]string{}
	if compose {
		c, err = runCompose(ctx, o, dir)
	} else {
		c, skipped, err = runProcesses(ctx, o, dir)
	}
	if err != nil {
		return fmt.Errorf("%w; its files are in %s", err, dir)
	}
	s := c.sum(skipped, o.least, time.Since(c.began).Seconds())
	if ctx.Err() != nil {
		s.Wrong = append(s.Wrong, "interrupted")
	}
	s.print()
	if o.json != "" {
		if err := s.write(o.json); err != nil {
			return err
		}
	}
	if err := c.tidy(); err != nil {
		return err
	}
	if len(s.Wrong) > 0 {
		return fmt.Errorf("the run failed; seed %d", o.seed)
	}
	return nil
}

// runProcesses plays rounds on processes of our own.
func runProcesses(ctx context.Context, o options, dir string) (c *campaign, skipped map[string]string, err error) {
	chosen, skipped, err := choose(o)
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	var servers []string
	if o.servers != "" {
		servers = strings.Split(o.servers, ",")
	}
	fmt.Printf("seed %d, %d kinds, %d lanes, in %s\n", o.seed, len(chosen), o.lanes, dir)
	c = &campaign{
		seed: o.seed, kinds: chosen, rounds: o.rounds, length: o.length, dir: dir, keep: o.keep,
		began: time.Now(), rng: rand.New(rand.NewPCG(o.seed, 1)),
	}
	return c, skipped, c.run(ctx, programs{self: self, agent: o.agent, toxiproxy: o.toxiproxy}, o.lanes, servers)
}

// choose finds the kinds that were asked for and can be had here.
func choose(o options) (chosen []kind, skipped map[string]string, err error) {
	skipped = map[string]string{}
	wanted, err := only(kinds, o.only)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range wanted {
		switch {
		case k.servers && o.servers != "":
			skipped[k.name] = "the servers are not ours (--servers)"
		case k.root && os.Getuid() != 0:
			skipped[k.name] = "only root can mount a file system"
		default:
			chosen = append(chosen, k)
		}
	}
	if len(chosen) == 0 {
		return nil, nil, fmt.Errorf("no kind is left to play: %v", skipped)
	}
	return chosen, skipped, nil
}

// only leaves of all those that names names; all when it is empty.
func only(all []kind, names string) (chosen []kind, err error) {
	if names == "" {
		return all, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--only %s: no such kind; see --list", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}
