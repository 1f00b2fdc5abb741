package sim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

const (
	fleetRoot = filelock.Root("/t/f")
	headNode  = "/t/f/head"
	haltNode  = "/t/f/halt"
	queueNode = "/t/f/queue"
	dataFile  = volume + "/data.txt"
)

// proc is a process that runs one agent.
type proc struct {
	w    *world
	n    int
	name string
	ctx  context.Context
	term context.CancelFunc // SIGTERM

	source  *source
	client  *client // its session, the newest
	handles []*handle

	life     string
	paused   bool // SIGSTOP
	dead     bool // SIGKILL
	ended    bool // by itself
	replaced bool // by another process, after its death
}

// start starts an agent that has so many turns to write.
func (w *world) start(turns, n int) *proc {
	p := &proc{w: w, n: n, name: fmt.Sprintf("agent-%d", n+1)}
	var input fleet.Source
	if w.messages == nil {
		p.source = newSource(p, turns)
		input = p.source
	} else {
		shared := &inbox{source: source{p: p}}
		p.source, input = &shared.source, shared
	}
	p.ctx, p.term = context.WithCancel(context.Background())
	w.procs = append(w.procs, p)
	agent := fleet.New(fleet.Options{
		Dial: p.dial, Root: fleetRoot, Name: p.name, Host: "host", BootID: "boot", Source: input,
		Lives: lives{p},
		Open: func(agent string) (*writer.File, error) {
			return writer.Open(writer.Options{Path: dataFile, Agent: agent, Wait: 4 * breathing, FS: procFS{p, w.disk}, Now: w.wallClock})
		},
	})
	w.tell("%s starts, with %d turns to write", p.name, turns)
	go p.run(agent)
	return p
}

// restart starts an agent in place of those that are gone.
func (w *world) restart() {
	w.counts.Restarts++
	w.start(1+w.tape.pick(2), len(w.procs))
}

func (p *proc) run(agent *fleet.Agent) {
	defer func() {
		if r := recover(); r != nil {
			p.w.fail("%s panics: %v\n%s", p.name, r, debug.Stack())
		}
	}()
	err := agent.Run(p.ctx)
	p.stopIfDead()
	p.ended = true
	for _, h := range p.handles {
		h.drop()
	}
	if p.client != nil {
		p.client.cut()
	}
	p.w.tell("%s ends: %v", p.name, err)
	p.w.ended(p, err)
}

// stopIfDead ends a goroutine of a process that was killed.
func (p *proc) stopIfDead() {
	p.w.mu.Lock()
	dead := p.dead
	p.w.mu.Unlock()
	if dead {
		runtime.Goexit()
	}
}

// kill is SIGKILL: the process takes no further step; the kernel closes what it had open.
func (p *proc) kill() {
	if p.dead {
		return
	}
	p.dead, p.paused = true, false
	for _, h := range p.handles {
		h.drop()
	}
	if p.client != nil {
		p.client.cut()
	}
	p.term()
	for _, s := range p.w.waiting {
		if s.proc == p {
			close(s.on)
		}
	}
	p.w.forget(p)
}

func (w *world) forget(p *proc) {
	kept := w.waiting[:0]
	for _, s := range w.waiting {
		if s.proc != p {
			kept = append(kept, s)
		}
	}
	w.waiting = kept
}

func (p *proc) unpause() {
	p.paused = false
	p.w.tell("%s is continued", p.name)
}

func (p *proc) dial(ctx context.Context) (fleet.Session, error) {
	p.step("asking for a session")
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p.client = p.w.zk.connect(p)
	return p.client, nil
}

// ended judges the error that an agent ended with: each must have a cause.
func (w *world) ended(p *proc, err error) {
	switch {
	case err == nil:
		if p.ctx.Err() == nil && (p.source.at < len(p.source.batches) || !w.mayRefuse && !w.emptied()) {
			w.fail("%s ended without an error, and has records left", p.name)
		}
		// After a restored ZooKeeper it may have been told that its commit never was.
		restored := w.counts.Faults[rollBack] > 0
		if i := p.source.at; !restored && w.messages == nil && i < len(p.source.calls) && bytes.Contains(w.prefix, lines(p.source.calls[i].records)) {
			w.fail("%s ended without an error, and what it committed is not acknowledged", p.name)
		}
	case errors.Is(err, writer.ErrRefused):
		if !w.mayRefuse {
			w.fail("%s refuses, and there is no reason to: %v", p.name, err)
		}
	case errors.Is(err, filelock.ErrHalted), errors.Is(err, writer.ErrSync):
		if w.counts.Faults[diskSync] == 0 {
			w.fail("%s is halted, and no sync failed: %v", p.name, err)
		}
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOSPC):
		if w.counts.Faults[diskWrite]+w.counts.Faults[diskSync] == 0 {
			w.fail("%s has an error of the disk, which had none: %v", p.name, err)
		}
	case errors.Is(err, fleet.ErrUnsettled) && p.ctx.Err() != nil:
	case errors.Is(err, session.ErrExpired) && p.ctx.Err() != nil:
	case errors.Is(err, context.Canceled) && p.ctx.Err() != nil:
	default:
		w.fail("%s ended with an error that nothing explains: %v", p.name, err)
	}
}

// source is what an agent has to write: every record is unlike all others.
type source struct {
	p       *proc
	batches [][][]byte
	at      int
	turn    uint64 // for which the batch was given out last
	calls   []call
}

// call is an append as the agent's user sees it.
type call struct {
	agent            string
	began, completed int // steps; completed is 0 while it is not acknowledged
	turn             uint64
	records          [][]byte
}

func newSource(p *proc, turns int) *source {
	s := &source{p: p}
	for i := range turns {
		var records [][]byte
		for j := range 1 + p.w.tape.pick(2) {
			records = append(records, fmt.Appendf(nil, "record %d of batch %d of %s", j+1, i+1, p.name))
		}
		if p.w.tape.chance(8) { // looks like a header, and is longer than a sector
			records = append(records, fmt.Appendf(nil, "#turn %d %s batch %d %0600d", i, p.name, i+1, 0))
		}
		s.batches = append(s.batches, records)
	}
	return s
}

func (s *source) Wait(ctx context.Context) error {
	s.p.step("reading its input")
	if s.at >= len(s.batches) {
		return io.EOF
	}
	// Ours ends ctx in a goroutine of its own, and the schedule must not depend on when.
	return cmp.Or(s.p.ctx.Err(), ctx.Err())
}

func (s *source) Take(turn uint64) [][]byte {
	s.turn = turn
	if len(s.calls) <= s.at {
		s.calls = append(s.calls, call{agent: s.p.name, began: s.p.w.steps(), records: s.batches[s.at]})
	}
	return s.batches[s.at]
}

func (s *source) With() []any { return nil }

func (s *source) More() bool { return s.at+1 < len(s.batches) }

func (s *source) Ack() {
	s.p.stopIfDead()
	c := &s.calls[s.at]
	c.completed, c.turn = s.p.w.steps(), s.turn
	s.at++
	s.p.w.acknowledged(s.p, c)
}

func (s *source) Pending() int { return 0 }
