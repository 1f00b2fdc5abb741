package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
)

// patience is how long the fleet may take to go on after a fault. It is a bound for a
// starved machine and not what is expected.
const patience = 90 * time.Second

// round is one fleet with one file, and what is done to it.
type round struct {
	*lane
	ctx   context.Context
	kind  kind
	seed  uint64
	rng   *rand.Rand
	dir   string
	fleet string

	slots     []*slot
	processes map[string]*feeder
	rest      time.Duration // between a process's records
	timeout   time.Duration // of the agents' sessions
	records   int           // the most in a turn
	disk      *disk
	lifelines bool // children notice each other's death at once, as real binaries do

	fired int
	steps map[string]int // what fired, in detail
	after []func()       // to be done when the round is over
}

func newRound(ctx context.Context, l *lane, k kind, seed uint64, dir string) (*round, error) {
	r := &round{
		lane: l, ctx: ctx, kind: k, seed: seed, dir: dir,
		rng:   rand.New(rand.NewPCG(seed, 0)),
		fleet: fmt.Sprintf("chaos-%x", seed), processes: map[string]*feeder{}, steps: map[string]int{},
		timeout: sessionTimeout,
	}
	r.rest = time.Duration(r.rng.IntN(6)) * time.Millisecond
	r.records = 1 + r.rng.IntN(6)
	r.lifelines = r.rng.IntN(2) == 0
	for _, sub := range []string{"volume", "acks", "logs"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *round) data() string              { return filepath.Join(r.dir, "volume", "data.txt") }
func (r *round) root() filelock.Root       { return filelock.Root("/turnstile/" + r.fleet) }
func (r *round) fire(step string)          { r.fired++; r.steps[step]++ }
func (r *round) cleanup(do func())         { r.after = append(r.after, do) }
func (r *round) pick(list []string) string { return list[r.rng.IntN(len(list))] }

// end leaves nothing behind: no process, no proxy.
func (r *round) end() {
	for _, s := range r.slots {
		if s.now != nil {
			s.now.kill()
		}
	}
	for _, do := range slices.Backward(r.after) {
		do()
	}
	if !r.ensemble.own {
		if err := r.forget(); err != nil && r.ctx.Err() == nil {
			fmt.Printf("         %s stays in ZooKeeper: %v\n", r.root(), err)
		}
	}
}

// man adds so many children and real binaries to the fleet.
func (r *round) man(children, plain int) error {
	for i := range children + plain {
		if err := r.spawn(r.add(i >= children)); err != nil {
			return err
		}
	}
	return nil
}

func (r *round) add(plain bool) *slot {
	name := fmt.Sprintf("a%d", len(r.slots)+1)
	s := &slot{name: name, plain: plain, tail: &ackTail{path: filepath.Join(r.dir, "acks", name+".log")}}
	r.slots = append(r.slots, s)
	return s
}

// servers is where a slot's processes look for ZooKeeper.
func (r *round) serversOf(s *slot) (addrs []string) {
	for _, l := range s.links {
		addrs = append(addrs, l.listen)
	}
	if addrs == nil {
		addrs = r.ensemble.addrs()
	}
	return addrs
}

// spawn starts a slot's next process.
func (r *round) spawn(s *slot, armed ...failpoint) error {
	s.lives++
	id := fmt.Sprintf("%s.%d", s.name, s.lives)
	var cmd *exec.Cmd
	servers := r.serversOf(s)
	if s.plain {
		cmd = exec.Command(r.bin.agent, "run", "--source", "stdin", "--ack-log", s.tail.path,
			"--zookeeper", strings.Join(servers, ","), "--data", r.data(), "--fleet", r.fleet,
			"--session-timeout", r.timeout.String(), "--connect-timeout", "30s",
			"--max-records", fmt.Sprint(r.records), "--lines", "1", "--log-format", "json")
		cmd.Env = bare()
	} else {
		settings := childSettings{
			Servers: servers, Timeout: r.timeout, Fleet: r.fleet, Data: r.data(), Acks: s.tail.path,
			MaxRecords: r.records, Armed: armed, Lifeline: r.lifelines,
		}
		if r.disk != nil {
			settings.Disk = r.disk.dir
		}
		text, err := json.Marshal(settings)
		if err != nil {
			return err
		}
		cmd = exec.Command(r.bin.self)
		cmd.Env = append(bare(), childVariable+"="+string(text))
	}
	cmd.Dir = r.dir // no configs/agent.yaml is to be found by chance
	p, err := launch(id, s, cmd, filepath.Join(r.dir, "logs", id), r.rest)
	if err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	s.now, r.processes[id] = p, p.feed
	return nil
}

// bare is our environment without the settings of an agent.
func bare() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TURNSTILE_") })
}

// live are the processes that should be running.
func (r *round) live() (all []*proc) {
	for _, s := range r.slots {
		if s.now != nil && !s.now.leaving {
			all = append(all, s.now)
		}
	}
	return all
}

// children are those of the live that have failpoints.
func (r *round) children() (all []*proc) {
	for _, p := range r.live() {
		if !p.slot.plain {
			all = append(all, p)
		}
	}
	return all
}

// warm makes sure that the fleet writes before the fault.
func (r *round) warm() error {
	if err := r.progress(3); err != nil {
		return orRejected(fmt.Errorf("before the fault: %w", err))
	}
	return nil
}

// working is a fleet of so many children and real binaries that writes.
func (r *round) working(children, plain int) error {
	if err := r.man(children, plain); err != nil {
		return err
	}
	return r.warm()
}

// again starts a slot's next process, and waits until all go on.
func (r *round) again(s *slot, turns int) error {
	if err := r.spawn(s); err != nil {
		return err
	}
	return r.progress(turns)
}

// backAtWork revives the fleet, and waits until all go on.
func (r *round) backAtWork(turns int) error {
	if err := r.revive(); err != nil {
		return err
	}
	return r.progress(turns)
}

// progress waits until each process has acknowledged so many turns more.
func (r *round) progress(turns int) error { return r.progressOf(r.live(), turns) }

func (r *round) progressOf(procs []*proc, turns int) error {
	from := make([]int, len(procs))
	for i, p := range procs {
		var err error
		if _, from[i], err = p.acked(); err != nil {
			return err
		}
	}
	slow := ""
	err := until(r.ctx, patience, func() (bool, error) {
		for i, p := range procs {
			if p.ended() && !p.leaving {
				return false, fmt.Errorf("%s ended with %d though nothing was wrong with it; the end of its log: %s", p.id, p.code(), p.lastWords())
			}
			_, now, err := p.acked()
			if err != nil {
				return false, err
			}
			if now < from[i]+turns {
				slow = fmt.Sprintf("%s acknowledged %d turns more, not %d; the end of its log: %s", p.id, now-from[i], turns, p.lastWords())
				return false, nil
			}
		}
		return true, nil
	})
	if errors.Is(err, errSlow) {
		return fmt.Errorf("no progress: %w: %s", err, slow)
	}
	return err
}

// quiet stops the records, and waits until all that were given are acknowledged:
// nobody is in the queue then.
func (r *round) quiet() error {
	for _, p := range r.live() {
		p.feed.pause()
	}
	for _, p := range r.live() {
		if err := r.thirsty(p); err != nil {
			return err
		}
	}
	return nil
}

// thirsty gives an agent no more records, and waits until it has acknowledged all: an
// agent that always has some takes its next place with its commit and never joins.
func (r *round) thirsty(p *proc) error {
	p.feed.pause()
	err := until(r.ctx, patience, func() (bool, error) {
		n, _, err := p.acked()
		return p.feed.resting() && n == p.feed.given(), err
	})
	if err != nil {
		return fmt.Errorf("%w: %s has acknowledged all; the end of its log: %s", err, p.id, p.lastWords())
	}
	return nil
}

func (r *round) goOn() {
	for _, p := range r.live() {
		p.feed.goOn()
	}
}

// finish ends the fleet: some by the end of their input, some by a signal.
func (r *round) finish() error {
	told := map[*proc]bool{}
	procs := r.live()
	for _, p := range procs {
		p.leaving = true
		if told[p] = r.rng.IntN(3) == 0; !told[p] {
			p.feed.end()
			continue
		}
		if err := send(p.cmd.Process, syscall.SIGTERM); err != nil {
			return err
		}
	}
	for _, p := range procs {
		code, err := p.exits(r.ctx, patience)
		if err != nil {
			return err
		}
		acked, _, err := p.acked()
		switch {
		case err != nil:
			return err
		case told[p] && code == exitFailed && p.said(0, "not acknowledged", "read and not written", fleet.ErrUnsettled.Error()):
		case code != exitFine:
			return fmt.Errorf("%s ended with %d; the end of its log: %s", p.id, code, p.lastWords())
		case !told[p] && acked != p.feed.given():
			return fmt.Errorf("%s ended well with %d records acknowledged of %d", p.id, acked, p.feed.given())
		}
	}
	return nil
}
