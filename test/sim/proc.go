package sim

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/session"
)

const (
	fleetRoot = filelock.Root("/t/f")
	headNode  = "/t/f/head"
	queueNode = "/t/f/queue-1"
	turnsNode = "/t/f/turns"
	agents    = "/t/f/agents"
	dataFile  = volume + "/data.txt"
)

// proc is a process that runs one agent.
type proc struct {
	w    *world
	n    int
	name string
	host *host
	ctx  context.Context
	term context.CancelFunc // SIGTERM

	goroutine uintptr // the lock loop's
	threads   [4]thread

	source *source
	client *client // its session, the newest

	life     string
	paused   bool // SIGSTOP
	entered  bool // it was in the fleet
	dead     bool // SIGKILL
	ended    bool // by itself
	replaced bool // by another process, after its death
}

func (p *proc) gone() bool { return p.dead || p.ended }

// start starts an agent that has so many turns to write.
func (w *world) start(turns int) *proc {
	n := len(w.procs)
	p := &proc{w: w, n: n, name: fmt.Sprintf("agent-%d", n+1), host: w.hosts[n%len(w.hosts)]}
	p.threads = [4]thread{{p, 0}, {p, 1}, {p, 2}, {p, 3}}
	var input fleet.Source
	if w.messages == nil {
		p.source = newSource(p, turns)
		input = p.source
	} else {
		shared := &inbox{source: source{p: p}}
		p.source, input = &shared.source, shared
	}
	p.ctx, p.term = context.WithCancel(context.Background())
	under := []int{0, 1, 2, 3}[w.tape.pick(4)]
	if p.source.most = under; under == 0 {
		p.source.most = 8
	}
	w.procs = append(w.procs, p)
	w.tell("%s starts on %s, with %d turns to write, %d at most under way", p.name, p.host.name, turns, under)
	go p.run(fleet.Options{
		Dial: p.dial, Root: fleetRoot, Name: p.name, Host: p.host.name, BootID: "boot of " + p.host.name, Source: input,
		Lives: lives{p}, Under: under, Now: w.wallClock, Named: func(string) { p.entered = true },
		Jitter: func(most time.Duration) time.Duration { return most * time.Duration(n%8) / 8 },
	})
	return p
}

// restart starts an agent in place of those that are gone.
func (w *world) restart() {
	w.counts.Restarts++
	w.start(1 + w.tape.pick(2))
}

func (p *proc) run(opts fleet.Options) {
	p.goroutine = getg()
	defer func() {
		if r := recover(); r != nil {
			p.w.fail("%s panics: %v\n%s", p.name, r, debug.Stack())
		}
	}()
	p.step("starting")
	var err error
	opts.File, err = writer.Open(writer.Options{Path: dataFile, Mode: p.w.mode, Chunk: 1024, FS: procFS{p, p.w.disk}})
	if err == nil {
		err = fleet.New(opts).Run(p.ctx)
	}
	p.gate("ending")
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.ended = true
	if p.client != nil {
		p.client.cut()
	}
	p.term()
	p.release()
	p.w.tell("%s ends: %v", p.name, err)
	p.w.ended(p, err)
}

// kill is SIGKILL: the process takes no further step; the kernel closes what it had open.
// A write that was on its way to another machine may still arrive.
func (p *proc) kill() {
	if p.gone() {
		return
	}
	p.dead, p.paused = true, false
	if p.client != nil {
		p.client.cut()
	}
	p.term()
	for _, s := range p.w.waiting {
		if s.p == p && s.late != nil && p.w.mode != writer.Plain && !p.w.tape.chance(2) {
			p.w.disk.flights = append(p.w.disk.flights, s)
		}
	}
	p.release()
}

// release lets the process's threads find that it is no more.
func (p *proc) release() {
	kept := p.w.waiting[:0]
	for _, s := range p.w.waiting {
		if s.p == p {
			s.on <- struct{}{}
		} else {
			kept = append(kept, s)
		}
	}
	p.w.waiting = kept
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
	stopped, s := w.stopped(p), p.source
	left := errors.Is(err, fleet.ErrUnacknowledged)
	if left != (len(s.under) > 0) {
		w.fail("%s ended with %d turns that are committed and not acknowledged, and says: %v", p.name, len(s.under), err)
	}
	switch {
	case errors.Is(err, writer.ErrRefused):
		if !w.mayRefuse {
			w.fail("%s refuses, and there is no reason to: %v", p.name, err)
		}
	case errors.Is(err, zk.ErrNoAuth) && w.counts.Faults[hide] > 0:
	case err == nil:
		if !stopped && !s.done() && !w.mayRefuse {
			w.fail("%s ended without an error, and has records left", p.name)
		}
	case left && stopped:
	case errors.Is(err, fleet.ErrUnsettled) && stopped:
	case errors.Is(err, session.ErrExpired) && stopped:
	case errors.Is(err, context.Canceled) && stopped:
	case ofVolume(err) && !p.entered: // that it could not even begin, it says
	default:
		w.fail("%s ended with an error that nothing explains: %v", p.name, err)
	}
}

// ofVolume tells an error of the volume's.
func ofVolume(err error) bool {
	return slices.ContainsFunc(sicknesses, func(sick error) bool { return errors.Is(err, sick) })
}

// stopped tells whether an agent was told to stop.
func (w *world) stopped(p *proc) bool { return p.source.told }
