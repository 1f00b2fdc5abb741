package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/session"
)

// view shows a demo while it runs: redrawn on a terminal, lines otherwise.
type view struct {
	out      io.Writer
	opts     demoOptions
	config   config.Config
	herd     *herd
	sess     *session.Session
	terminal bool

	start time.Time
	drawn int // lines on the terminal to be drawn over
	read  int64
	rest  []byte // of a line not yet complete
	last  frame.Header
	turns map[string]int
	done  []string // what chaos did

	plan          *mischiefs
	paused        *mischief
	kills, pauses int
}

func newView(out io.Writer, opts demoOptions, c config.Config, h *herd, sess *session.Session) *view {
	v := &view{out: out, opts: opts, config: c, herd: h, sess: sess, terminal: isTerminal(out), start: time.Now(), turns: map[string]int{}, plan: newMischiefs(opts)}
	what := "under the lock of an embedded ZooKeeper (for demos and tests only)"
	if opts.broken {
		what = "WITHOUT a lock"
	}
	fmt.Fprintf(out, "%d agents append to %s %s\n", opts.agents, c.Data.File, what)
	if opts.chaos {
		fmt.Fprintf(out, "chaos: kills, and pauses beyond the session timeout of %v; --seed %d\n", demoSession, opts.seed)
	}
	return v
}

// watch shows the fleet, and does its mischief, until ctx ends or enough turns were
// seen.
func (v *view) watch(ctx context.Context) error {
	every := time.Second
	if v.terminal {
		every = 100 * time.Millisecond
	}
	draw, look := time.NewTicker(every), time.NewTicker(20*time.Millisecond)
	defer draw.Stop()
	defer look.Stop()
	var trouble <-chan time.Time
	if v.opts.chaos {
		trouble = time.After(v.plan.next().after)
	}
	first := true
	for {
		select {
		case <-ctx.Done():
			return v.draw(context.WithoutCancel(ctx))
		case <-look.C:
			if err := v.follow(); err != nil {
				return err
			}
			if first && v.last.Turn > 0 {
				first = false
				v.say("first turn after %v", time.Since(v.start).Round(time.Millisecond))
			}
			if v.opts.turns > 0 && v.last.Turn >= v.opts.turns {
				return v.draw(ctx)
			}
			if err := v.herd.failure(); err != nil {
				return err
			}
		case <-draw.C:
			if err := v.draw(ctx); err != nil {
				return err
			}
		case <-trouble:
			rest, err := v.trouble()
			if err != nil {
				return err
			}
			trouble = time.After(rest)
		}
	}
}

// trouble kills an agent, or pauses one, or lets the one that is paused go on, and
// says how long to leave it at that.
func (v *view) trouble() (rest time.Duration, err error) {
	if v.paused != nil {
		v.say("agent-%d goes on", v.paused.agent+1)
		err = v.herd.signal(v.paused.agent, syscall.SIGCONT)
		v.paused = nil
		return v.plan.next().after, err
	}
	m := v.plan.now
	if m.pause > 0 {
		v.pauses++
		v.paused = &m
		v.say("paused agent-%d for %v", m.agent+1, m.pause.Round(time.Millisecond))
		return m.pause, v.herd.signal(m.agent, syscall.SIGSTOP)
	}
	v.kills++
	v.say("killed agent-%d and started another in its place", m.agent+1)
	return v.plan.next().after, v.herd.kill(m.agent)
}

// say tells of an event: a line, or among the last few on a terminal.
func (v *view) say(format string, args ...any) {
	line := fmt.Sprintf("%6.1fs  ", time.Since(v.start).Seconds()) + fmt.Sprintf(format, args...)
	if !v.terminal {
		fmt.Fprintln(v.out, line)
		return
	}
	v.done = append(v.done, line)
	v.done = v.done[max(0, len(v.done)-6):]
}

// follow reads what was appended to the file since, and counts the turns.
func (v *view) follow() error {
	f, err := os.Open(v.config.Data.File)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fresh, err := io.ReadAll(io.NewSectionReader(f, v.read, info.Size()-v.read))
	if err != nil {
		return err
	}
	v.read += int64(len(fresh))
	v.rest = append(v.rest, fresh...)
	for {
		line, rest, ok := bytes.Cut(v.rest, []byte("\n"))
		if !ok {
			return nil
		}
		v.rest = rest
		if h, err := frame.ParseHeader(line); err == nil {
			v.last = h
			v.turns[h.Agent]++
		}
	}
}

func (v *view) draw(ctx context.Context) error {
	if !v.terminal {
		_, err := fmt.Fprintf(v.out, "%6.1fs  turn %-5d %s\n", time.Since(v.start).Seconds(), v.last.Turn, v.tally())
		return err
	}
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", v.drawn)
	}
	lines := append([]string{"", v.bar(), ""}, v.queue(ctx)...)
	lines = append(lines, "", v.tally(), "")
	lines = append(lines, v.done...)
	width := terminalWidth(v.out)
	for _, l := range lines {
		b.WriteString(clipped(l, width) + "\x1b[K\n") // a line that wraps would be two
	}
	b.WriteString("\x1b[J")
	v.drawn = len(lines)
	_, err := io.WriteString(v.out, b.String())
	return err
}

// bar is how far the demo is, by turns or by time, whichever is further.
func (v *view) bar() string {
	part := float64(time.Since(v.start)) / float64(v.opts.duration)
	if v.opts.turns > 0 {
		part = max(part, float64(v.last.Turn)/float64(v.opts.turns))
	}
	full := int(min(part, 1) * barWidth)
	return fmt.Sprintf("[%s%s]  turn %d, %.1fs", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), v.last.Turn, time.Since(v.start).Seconds())
}

// queue is who has the turn and who waits.
func (v *view) queue(ctx context.Context) []string {
	if v.opts.broken {
		return []string{"nobody waits for anybody"}
	}
	s, err := fleet.Look(ctx, v.sess, rootOf(v.config), v.config.Fleet)
	if err != nil {
		return []string{err.Error()}
	}
	turn, waiting := "nobody just now", "nobody"
	if v.last.Turn > 0 {
		turn += "; " + v.last.Agent + " had it last"
	}
	if s.Holder != nil {
		turn = s.Holder.Agent
	}
	if len(s.Waiting) > 0 {
		names := make([]string, len(s.Waiting))
		for i, w := range s.Waiting {
			names[i] = w.Agent
		}
		waiting = strings.Join(names, ", ")
	}
	return []string{"has the turn  " + turn, "waiting       " + waiting}
}

// tally is each agent's turns.
func (v *view) tally() string {
	names := make([]string, 0, len(v.turns))
	for name := range v.turns {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, v.turns[name])
	}
	return strings.Join(names, "  ")
}

func (v *view) close() {
	if v.opts.chaos {
		fmt.Fprintf(v.out, "%d kills, %d pauses beyond the session timeout\n", v.kills, v.pauses)
	}
}
