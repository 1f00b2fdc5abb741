package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// many is `bench-turns many`: what agents that wait cost an ensemble of three servers.
type many struct {
	common
	few, many int
	processes int
	sides     []side
	sizes     bool
	profile   string
}

// load is what is put on the ensemble.
type load struct {
	side   string
	agents int
	bytes  int           // a turn; 0: three short lines
	pace   time.Duration // of each agent; 0: as fast as it goes
}

func (l load) String() string {
	size := "three lines"
	if l.bytes > 0 {
		size = fmt.Sprintf("%d KiB", l.bytes>>10)
	}
	return fmt.Sprintf("%s, %d agents, turns of %s", l.side, l.agents, size)
}

const (
	// bigTurn is the longest record's, which is how much an agent puts into a turn by default.
	bigTurn = 64 << 10
	// firstTurn is the time for each agent to have had a turn, after which the others are alike:
	// for its first it looks at the file, which did not exist when it entered.
	firstTurn = 30 * time.Millisecond
	// calm is the pace of a whole fleet that rests between its turns, in turns a second.
	calm = 100
)

// rested is l with agents that rest.
func (l load) rested() load {
	l.pace = time.Duration(l.agents) * time.Second / calm
	return l
}

// loads are what is compared, in rounds, and what is measured once, to size by.
func (o many) loads() (compared, once []load) {
	for _, s := range o.sides {
		for _, agents := range []int{o.few, o.many} {
			compared = append(compared, load{side: s.name, agents: agents})
		}
	}
	if o.sizes {
		once = []load{{"turnstile-8", o.few, 4 << 10, 0}, {"turnstile-8", o.few, bigTurn, 0}}
	}
	return compared, once
}

func runMany(ctx context.Context, args []string) error {
	var o many
	f := flag.NewFlagSet("bench-turns many", flag.ExitOnError)
	// What agents do beside their turns they do each few seconds.
	o.common = common{window: 6 * time.Second, settle: 5 * time.Second, within: 10 * time.Minute, rounds: 2}
	o.flags(f)
	f.IntVar(&o.few, "few", 10, "how many agents few are")
	f.IntVar(&o.many, "many", 1000, "how many agents many are")
	f.IntVar(&o.processes, "processes", 2, "how many processes the agents are spread over")
	peers := f.String("peers", "turnstile-8,go-zookeeper", "what is compared, separated by commas")
	f.BoolVar(&o.sizes, "sizes", true, "measure other sizes and paces too")
	f.StringVar(&o.profile, "profile", "", "write processor profiles of the agents into this directory")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("what is %q?", f.Arg(0))
	}
	var err error
	if o.sides, err = choose(*peers); err != nil {
		return err
	}
	for _, s := range o.sides {
		if s.program != nil {
			return fmt.Errorf("--peers %q: %s has no clients that are goroutines", *peers, s.name)
		}
	}
	if o.processes < 1 || o.few < o.processes || o.many < o.few {
		return fmt.Errorf("--processes %d, --few %d, --many %d: each must be at least the one before", o.processes, o.few, o.many)
	}
	return o.run(ctx)
}

func (o many) run(ctx context.Context) error {
	compared, once := o.loads()
	var order []load
	for range o.rounds {
		order = append(order, compared...)
	}
	order = append(order, once...)
	seen, about, began := map[load][]measured{}, machine(o.common), time.Now()
	var failed error
	var version string
	for n, l := range order {
		fmt.Fprintf(os.Stderr, "%4.0f s  %d of %d: %v: ", time.Since(began).Seconds(), n+1, len(order), l)
		err := context.Cause(ctx)
		if late := time.Since(began) > o.within; late && err == nil {
			err = fmt.Errorf("not begun after %v (--within)", o.within)
		}
		if err == nil {
			// When they are there anyway, and for the last time, they are asked to rest.
			rest := o.sizes && l.side == "turnstile-8" && l.bytes == 0 && n >= len(compared)*(o.rounds-1)
			version, err = o.measure(ctx, l, rest, seen)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "failed:", err)
			failed = errors.Join(failed, fmt.Errorf("%v: %w", l, err))
		}
	}
	about = append(about, fmt.Sprintf("%s: three servers on the same machine, -Xmx512m -XX:+UseSerialGC", version),
		fmt.Sprintf("agents: goroutines of %d processes, each with a session of its own", o.processes))
	return errors.Join(o.report(seen, about), failed)
}

// measure starts a fresh ensemble and a fresh fleet.
func (o many) measure(ctx context.Context, l load, rest bool, seen map[load][]measured) (version string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("it took longer than 5 minutes"))
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "bench-many-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	var java []string
	if l.bytes == bigTurn {
		java = append(java, "-Dzookeeper.snapCount=2000") // else none would be seen in so short a time
	}
	c := &crew{file: filepath.Join(dir, "data.txt")}
	if c.service, err = startZooKeeper(ctx, dir, 3, java...); err != nil {
		return "", err
	}
	defer c.stop()
	began := time.Now()
	if _, err := c.join(ctx, o.commands(l, c)); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "all in after %.0f s (%.0f s of the agents' processor time)", time.Since(began).Seconds(), c.processor())
	m, err := c.window(ctx, 0, o.settle+time.Duration(l.agents)*firstTurn, o.window)
	if err == nil && l.bytes == 0 {
		err = c.holds(m.count)
	}
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, ", %.0f turns/s\n", m.Turns)
	seen[l] = append(seen[l], m)
	if rest {
		l = l.rested()
		fmt.Fprintf(os.Stderr, "        the same, each agent a turn in %v: ", l.pace)
		if err = c.tell(fmt.Sprintf("pace %dus", l.pace.Microseconds())); err == nil {
			// All rest at the same time, more or less: less than a whole round says nothing.
			m, err = c.window(ctx, 0, o.settle+l.pace, max(o.window, 2*l.pace))
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(os.Stderr, "%.0f turns/s\n", m.Turns)
		seen[l] = append(seen[l], m)
	}
	return c.service.version, nil
}

// commands are the processes that the agents are spread over.
func (o many) commands(l load, c *crew) (cmds []*exec.Cmd) {
	for p, first := 0, 0; p < o.processes; p++ {
		s := settings{Servers: c.service.addr, Side: l.side, Under: under(l.side), File: c.file, First: first, Bytes: l.bytes}
		s.Clients = (l.agents - first) / (o.processes - p)
		first += s.Clients
		if o.profile != "" {
			s.Profile = filepath.Join(o.profile, fmt.Sprintf("%s-%d-%d-%d.pprof", l.side, l.agents, l.bytes, p+1))
		}
		cmds = append(cmds, clientCommand(s))
	}
	return cmds
}

func under(name string) int {
	for _, s := range sides {
		if s.name == name {
			return s.under
		}
	}
	return 0
}
