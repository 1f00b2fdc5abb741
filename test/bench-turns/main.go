// Command bench-turns measures how many durable turns a second a fleet takes, beside the
// same work under other locks: as processes, interleaved, in one run; with "many", what
// many agents cost an ensemble; with "stdin", one program's output through one agent.
// scripts/bench-turns.sh, bench-many.sh and bench-stdin.sh run it, and say what is measured.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// childVariable carries a client's settings: a client is this program again.
const childVariable = "TURNSTILE_BENCH_CLIENT"

// common is what both measurements are told.
type common struct {
	window time.Duration
	settle time.Duration
	within time.Duration // all of it
	rounds int
	dir    string
	json   string
	docs   string
	commit string
	typed  string
}

func (o *common) flags(f *flag.FlagSet) {
	f.DurationVar(&o.settle, "settle", o.settle, "how long the clients run before a cell is measured")
	f.DurationVar(&o.within, "within", o.within, "begin nothing new after so much time")
	f.IntVar(&o.rounds, "rounds", o.rounds, "how often each cell is measured")
	f.DurationVar(&o.window, "for", o.window, "how long each cell is measured")
	f.StringVar(&o.dir, "dir", ".", "where the files and the server's log lie")
	f.StringVar(&o.json, "json", "", "write all measurements to this file")
	f.StringVar(&o.docs, "docs", "", "write the tables into this file, between its markers")
	f.StringVar(&o.commit, "commit", "", "which Turnstile it is")
	f.StringVar(&o.typed, "command", "", "what was typed to get here")
}

type options struct {
	common
	clients []int
	syncs   []time.Duration
	sides   []side
	with    string // where the other programs are
}

func main() {
	if settings := os.Getenv(childVariable); settings != "" {
		exit(beClient(settings))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if len(os.Args) > 1 && os.Args[1] == "stdin" {
		exit(runStreams(ctx, os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "many" {
		exit(runMany(ctx, os.Args[2:]))
	}
	opts, err := parse(os.Args[1:])
	if err == nil {
		err = run(ctx, opts)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-turns:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench-turns", flag.ExitOnError)
	o.common = common{window: 3 * time.Second, settle: 2 * time.Second, within: 20 * time.Minute, rounds: 3}
	o.flags(f)
	clients := f.String("clients", "3,10,100", "how many clients, separated by commas")
	syncs := f.String("sync", "0s,2ms", "what is added to each sync, separated by commas")
	peers := f.String("peers", "turnstile-8,turnstile-1,go-zookeeper,kazoo,curator,etcd", "what is compared, separated by commas")
	f.StringVar(&o.with, "with", "", "the directory with the other programs")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("what is %q?", f.Arg(0))
	}
	for _, text := range strings.Split(*clients, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return o, fmt.Errorf("--clients %q: give numbers above zero", *clients)
		}
		o.clients = append(o.clients, n)
	}
	for _, text := range strings.Split(*syncs, ",") {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return o, fmt.Errorf("--sync %q: give durations, such as 0s,2ms", *syncs)
		}
		o.syncs = append(o.syncs, d)
	}
	o.sides, err = choose(*peers)
	return o, err
}

// cell is one thing that is measured.
type cell struct {
	clients int
	sync    time.Duration
	side    string
}

// results is what was seen of all cells.
type results struct {
	cells    map[cell][]measured
	failed   map[cell]error
	versions map[string]string // of each side
}

// run measures every cell, side by side, in rounds. What fails is told at the end, and the
// others are measured all the same.
func run(ctx context.Context, o options) error {
	r := results{map[cell][]measured{}, map[cell]error{}, map[string]string{}}
	about, began, done := machine(o.common), time.Now(), 0
	all := o.rounds * len(o.clients) * len(o.sides)
	for round := range o.rounds {
		for _, clients := range o.clients {
			for _, s := range o.sides {
				fmt.Fprintf(os.Stderr, "%4.0f s  %d of %d: round %d of %d, %d clients, %s: ", time.Since(began).Seconds(), done+1, all, round+1, o.rounds, clients, s.words)
				err := context.Cause(ctx)
				if late := time.Since(began) > o.within; late && err == nil {
					err = fmt.Errorf("not begun after %v (--within)", o.within)
				}
				if err == nil {
					err = o.measure(ctx, clients, s, r)
				}
				for _, sync := range o.syncs {
					c := cell{clients, sync, s.name}
					if n := len(r.cells[c]); n == round+1 {
						fmt.Fprintf(os.Stderr, " %.0f turns/s (+%v)", r.cells[c][n-1].Turns, sync)
					} else if r.failed[c] == nil {
						r.failed[c] = fmt.Errorf("%d clients, sync +%v, %s, round %d: %w", clients, sync, s.words, round+1, err)
						fmt.Fprintf(os.Stderr, " failed: %v", err)
					}
				}
				done++
				fmt.Fprintln(os.Stderr)
			}
		}
	}
	about = append(about, r.about(o)...)
	err := report(o, r, about)
	for _, failed := range r.failed {
		err = errors.Join(err, failed)
	}
	return err
}

// measure starts a fresh server and fresh clients, and measures a window with each sync.
func (o options) measure(ctx context.Context, clients int, s side, r results) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Minute, errors.New("it took longer than 3 minutes"))
	defer cancel()
	dir, err := os.MkdirTemp(o.dir, "bench-turns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	c := &crew{file: filepath.Join(dir, "data.txt")}
	if c.service, err = s.serve(ctx, o.with, dir); err != nil {
		return err
	}
	defer c.stop()
	version, err := c.join(ctx, s.commands(o.with, c.service.addr, c.file, clients))
	if err != nil {
		return err
	}
	r.versions[s.name] = version + ", on " + c.service.version
	seen, turns := map[cell]measured{}, 0.0
	for _, sync := range o.syncs {
		m, err := c.window(ctx, sync, o.settle, o.window)
		if err != nil {
			return err
		}
		turns += m.count
		seen[cell{clients, sync, s.name}] = m
	}
	if err := c.holds(turns); err != nil {
		return err
	}
	for at, m := range seen {
		r.cells[at] = append(r.cells[at], m)
	}
	return nil
}

// writeJSON writes what a script or a plot reads.
func writeJSON(path string, about []string, cells any) error {
	data, err := json.MarshalIndent(map[string]any{"about": about, "cells": cells}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
