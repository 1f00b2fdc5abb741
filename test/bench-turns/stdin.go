package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

// streams is `bench-turns stdin`: one program's output through one agent.
type streams struct {
	agent, old, dir string
	size            int64
	rounds          int
}

// stream is one way to get a log onto the disk.
type stream struct {
	name string
	cmd  func(dir, server string) *exec.Cmd
}

// streamed is what was seen of it in one round.
type streamed struct{ rate, memory float64 } // MB/s, MiB

func runStreams(ctx context.Context, args []string) error {
	var o streams
	f := flag.NewFlagSet("stdin", flag.ExitOnError)
	f.StringVar(&o.agent, "agent", "", "the agent's binary")
	f.StringVar(&o.old, "old", "", "another agent's binary, to be run the same way")
	f.StringVar(&o.dir, "dir", ".", "where the files lie")
	f.Int64Var(&o.size, "size", 200<<20, "the log's size in bytes")
	f.IntVar(&o.rounds, "rounds", 3, "how often each is measured")
	if err := f.Parse(args); err != nil {
		return err
	}
	log := filepath.Join(o.dir, "bench-stdin.log")
	if err := writeLog(log, o.size); err != nil {
		return err
	}
	defer os.Remove(log)
	all := o.all()
	seen := make([][]streamed, len(all))
	for round := range o.rounds {
		for i, s := range all {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, s.name)
			m, err := o.measure(ctx, s, log)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			seen[i] = append(seen[i], m)
		}
	}
	o.report(all, seen)
	return nil
}

// all are the ways, the first the one that the others are held to.
func (o streams) all() []stream {
	run := func(binary string) func(dir, server string) *exec.Cmd {
		return func(dir, server string) *exec.Cmd {
			cmd := exec.Command(binary, "run", "--source", "stdin", "--zookeeper", server, "--data", filepath.Join(dir, "data.txt"))
			cmd.Dir = dir // no configs/agent.yaml is to be found by chance
			return cmd
		}
	}
	child := func(side string, sync time.Duration) func(dir, server string) *exec.Cmd {
		return func(dir, server string) *exec.Cmd {
			return clientCommand(settings{Servers: server, Side: side, Sync: sync, File: filepath.Join(dir, "data.txt")})
		}
	}
	list := []stream{
		{"agent run --source stdin", run(o.agent)},
		{"the same, sync +2ms", child("stdin", 2*time.Millisecond)},
		{"go-zookeeper's Lock, turns of 64 KiB", child("lock-stdin", 0)},
		{"dd bs=1M conv=fdatasync", func(dir, _ string) *exec.Cmd {
			return exec.Command("dd", "bs=1M", "conv=fdatasync", "status=none", "of="+filepath.Join(dir, "data.txt"))
		}},
	}
	if o.old != "" {
		list = append(list, stream{"--old", run(o.old)})
	}
	return list
}

func (o streams) measure(ctx context.Context, s stream, log string) (m streamed, err error) {
	dir, err := os.MkdirTemp(o.dir, "bench-stdin-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	if dir, err = filepath.Abs(dir); err != nil {
		return m, err
	}
	server, err := startZooKeeper(ctx, dir, 1)
	if err != nil {
		return m, err
	}
	defer server.stop()
	in, err := os.Open(log)
	if err != nil {
		return m, err
	}
	defer in.Close()
	cmd := s.cmd(dir, server.addr)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = in, &said
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return m, fmt.Errorf("%w: %s", err, said.Bytes()[max(0, said.Len()-500):])
	}
	took := time.Since(began).Seconds()
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return m, errors.New("the kernel does not tell what a process used")
	}
	return streamed{float64(o.size) / 1e6 / took, float64(used.Maxrss) / 1024}, nil
}

func (o streams) report(all []stream, seen [][]streamed) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tMB/s\tratio\tmemory MiB\t")
	var base float64
	for i, s := range all {
		var rates, memory []float64
		for _, m := range seen[i] {
			rates, memory = append(rates, m.rate), append(memory, m.memory)
		}
		rate := median(rates)
		if i == 0 {
			base = rate
		}
		fmt.Fprintf(w, "%s\t%.1f\t%.2f\t%.0f\t\n", s.name, rate, rate/base, percentile(memory, 100))
	}
	w.Flush()
}

// writeLog makes a log of lines of about a hundred bytes, the same each time.
func writeLog(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for n := int64(0); n < size; {
		line := fmt.Appendf(nil, "2026-11-27T12:00:00Z host app[%d]: request %016x took %d ms, status %d, %0*d\n",
			rng.IntN(1000), rng.Uint64(), rng.IntN(5000), 200+rng.IntN(300), 1+rng.IntN(40), 0)
		m, err := w.Write(line)
		if err != nil {
			return err
		}
		n += int64(m)
	}
	return errors.Join(w.Flush(), f.Close())
}

// takeStream is `agent run --source stdin` whose disk is slower.
func takeStream(ctx context.Context, s settings) error {
	runtime.GOMAXPROCS(1) // as `agent run` does
	file, err := writer.Open(writer.Options{Path: s.File, FS: slowFS{writer.OS{}, slower(s.Sync)}})
	if err != nil {
		return err
	}
	lines := fleet.NewLines(os.Stdin, 10_000, frame.MaxRecord+1)
	defer lines.Stop()
	return fleet.New(fleet.Options{
		Dial: func(ctx context.Context) (fleet.Session, error) {
			return session.Dial(ctx, session.Options{Servers: []string{s.Servers}, Timeout: 10 * time.Second})
		},
		Root: filelock.Root("/turnstile/bench"), Host: "bench", BootID: fleet.BootID(), File: file, Source: lines,
	}).Run(ctx)
}

// slower makes a sync take longer by d.
func slower(d time.Duration) func(sync func() error) error {
	return func(sync func() error) error {
		err := sync()
		time.Sleep(d)
		return err
	}
}

// takeLockedStream appends its input in pieces of up to 64 KiB, whole lines each, each
// under go-zookeeper's Lock and synced.
func takeLockedStream(ctx context.Context, s settings) error {
	conn, _, err := zk.Connect([]string{s.Servers}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		return err
	}
	defer conn.Close()
	lock := zk.NewLock(conn, "/lock", zk.WorldACL(zk.PermAll))
	file, err := os.OpenFile(s.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for rest := []byte(nil); ctx.Err() == nil; {
		piece := make([]byte, 64<<10)
		n, err := io.ReadFull(in, piece[copy(piece, rest):])
		piece = piece[:len(rest)+n]
		end := bytes.LastIndexByte(piece, '\n') + 1
		if end == 0 {
			return nil // the input has ended
		}
		rest = bytes.Clone(piece[end:])
		if lockErr := lock.Lock(); lockErr != nil {
			return lockErr
		}
		if _, err := file.Write(piece[:end]); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			return err
		}
		time.Sleep(s.Sync)
		if lockErr := lock.Unlock(); lockErr != nil {
			return lockErr
		}
		if err != nil && len(rest) == 0 {
			return nil
		}
	}
	return nil
}
