package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/session"
)

type demoOptions struct {
	agents   int
	turns    uint64
	duration time.Duration
	pace     time.Duration
	dir      string
	broken   bool
	chaos    bool
	seed     uint64
}

// demoSession is short, so that a pause beyond it fits into a demo.
const demoSession = time.Second

func newDemo() *cobra.Command {
	opts := demoOptions{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a fleet take turns, with nothing but this program",
		Long: `Start an embedded ZooKeeper and a few agents as processes of their own, watch them
take turns at one file, and let the verifier judge it. Exits as the verifier does: 0
fine, 3 faults found.

--break leaves the lock out, to see what goes wrong without it. --chaos kills agents and
pauses them beyond their session's timeout while they write; the verdict must be fine
all the same.`,
		Example: `  agent demo
  agent demo --agents 5 --turns 200
  agent demo --break
  agent demo --chaos --for 60s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := opts.check(); err != nil {
				return usageError{err}
			}
			if opts.broken && !cmd.Flags().Changed("pace") {
				opts.pace = 10 * time.Millisecond // they meet more often
			}
			return demo(cmd, opts)
		},
	}
	f := cmd.Flags()
	f.IntVar(&opts.agents, "agents", 3, "how many agents")
	f.Uint64Var(&opts.turns, "turns", 0, "end after `N` turns; 0 means by time alone")
	f.DurationVar(&opts.duration, "for", 6*time.Second, "end after this `time`")
	f.DurationVar(&opts.pace, "pace", 20*time.Millisecond, "how long an agent rests between its turns; 0 is not at all")
	f.StringVar(&opts.dir, "dir", "", "an empty `directory` for the file and the logs; by default a temporary one, which stays until the next demo")
	f.BoolVar(&opts.broken, "break", false, "leave the lock out")
	f.BoolVar(&opts.chaos, "chaos", false, "kill and pause agents at random")
	f.Uint64Var(&opts.seed, "seed", uint64(time.Now().UnixNano()), "what --chaos draws from")
	return cmd
}

func (o demoOptions) check() error {
	var wrong []error
	if o.agents < 1 || o.agents > 100 {
		wrong = append(wrong, fmt.Errorf("--agents %d: give 1 to 100", o.agents))
	}
	if o.duration <= 0 {
		wrong = append(wrong, fmt.Errorf("--for %v: give a time above zero", o.duration))
	}
	if o.pace < 0 {
		wrong = append(wrong, fmt.Errorf("--pace %v: give 0 or more", o.pace))
	}
	if o.broken && o.chaos {
		wrong = append(wrong, errors.New("--break and --chaos: one at a time, or nobody can tell which did what"))
	}
	if o.dir != "" {
		if entries, err := os.ReadDir(o.dir); err == nil && len(entries) > 0 {
			wrong = append(wrong, fmt.Errorf("--dir %q: it is not empty; give a new one", o.dir))
		}
	}
	return errors.Join(wrong...)
}

// demo starts everything, watches, ends everything, and gives the verdict.
func demo(cmd *cobra.Command, opts demoOptions) error {
	dir, done, err := demoDir(opts.dir)
	if err != nil {
		return err
	}
	defer done()
	out := cmd.OutOrStdout()
	server, err := zkdev.Start(zkdev.Config{TickTime: demoSession / 10})
	if err != nil {
		return err
	}
	defer server.Close()
	c, err := demoConfig(server.Addr(), filepath.Join(dir, "data.txt"))
	if err != nil {
		return err
	}
	sess, err := dial(cmd.Context(), c, zap.NewNop())
	if err != nil {
		return err
	}
	defer sess.Close()

	herd := &herd{dir: dir, opts: opts, config: c}
	defer herd.end()
	if err := herd.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), opts.duration)
	defer cancel()
	view := newView(out, opts, c, herd, sess)
	if err := view.watch(ctx); err != nil {
		return err
	}
	if err := herd.end(); err != nil {
		return err
	}
	view.close()
	if cmd.Context().Err() != nil {
		fmt.Fprintln(out, "stopped; the file so far:")
	}
	return demoVerdict(context.WithoutCancel(cmd.Context()), out, c, sess, opts, dir)
}

// demoDir gives the demo's directory: the one that is wanted, or a temporary one, and then those
// of earlier demos go. done is called when the demo has ended.
func demoDir(wanted string) (dir string, done func(), err error) {
	done = func() {}
	if wanted != "" {
		if dir, err = filepath.Abs(wanted); err != nil { // the agents run in it
			return "", done, err
		}
		return dir, done, os.MkdirAll(dir, 0o755)
	}
	earlier, err := filepath.Glob(filepath.Join(os.TempDir(), demoDirs+"*"))
	if err != nil {
		return "", done, err
	}
	for _, dir := range earlier {
		if held := holdDir(dir); held != nil {
			_ = os.RemoveAll(dir) // what stays is in nobody's way
			held.Close()
		}
	}
	if dir, err = os.MkdirTemp("", demoDirs); err != nil {
		return "", done, err
	}
	if held := holdDir(dir); held != nil {
		done = func() { held.Close() }
	}
	return dir, done, nil
}

const demoDirs = "turnstile-demo-"

// holdDir keeps a directory of ours from other demos until it is closed; nil when another has it,
// or it is not ours.
func holdDir(dir string) *os.File {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || int(st.Uid) != os.Getuid() || unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		f.Close()
		return nil
	}
	return f
}

// demoConfig are the settings of the demo's agents: nothing of the user's own.
func demoConfig(server, file string) (config.Config, error) {
	return config.Load(nil, []string{
		"TURNSTILE_ZOOKEEPER_SERVERS=" + server,
		"TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT=" + demoSession.String(),
		"TURNSTILE_FLEET_NAME=demo",
		"TURNSTILE_DATA_FILE=" + file,
	})
}

// demoVerdict is the verifier's, a few lines of the file, and where it is.
func demoVerdict(ctx context.Context, out io.Writer, c config.Config, sess *session.Session, opts demoOptions, dir string) error {
	ask := verify.Options{}
	if !opts.broken {
		ask.Acks = []string{filepath.Join(dir, "acks")}
		holdToFleet(&ask, rootOf(c), func(_ context.Context, do func(filelock.Session) error) error { return do(sess) })
	}
	report, err := verify.File(ctx, c.Data.File, ask)
	if err != nil {
		return err
	}
	tail, err := lastLines(c.Data.File, 8)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe end of %s:\n\n%s\nThe verdict:\n\n", c.Data.File, tail)
	if err := report.Write(out, isTerminal(out)); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nlook at it:   cat %s\nverify it:    agent verify %s\n", c.Data.File, c.Data.File)
	if !report.OK() {
		return silentError{exitFaults}
	}
	return nil
}

// lastLines is what tail -n would print, each line indented.
func lastLines(path string, n int) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[max(0, len(lines)-1-n) : len(lines)-1]
	return "  " + string(bytes.Join(lines, []byte("  "))), nil
}
