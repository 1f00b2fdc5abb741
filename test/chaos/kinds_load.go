package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// burnVariable makes this program one that only uses up a CPU.
const burnVariable = "TURNSTILE_CHAOS_BURN"

func burn() {
	for n := uint64(1); ; n = n*6364136223846793005 + 1 {
		if n == 0 {
			fmt.Fprintln(os.Stderr) // never; so that the loop is not for nothing
		}
	}
}

// low is the priority of a starved fleet and of what starves it: below everything else
// on the machine, which is to stay usable.
const low = 10

// starved: row 20. The agents get little CPU, and not when they need it.
func starved(r *round) error {
	r.timeout = 4 * time.Second
	if err := r.working(2, 2); err != nil {
		return err
	}
	stop, err := r.burners(2 * runtime.NumCPU())
	if err != nil {
		return err
	}
	for _, p := range r.live() {
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, p.cmd.Process.Pid, low); err != nil {
			return err
		}
	}
	err = r.progress(3)
	stop()
	if err != nil {
		return err
	}
	r.fire("other processes busy")
	if err := r.throttled(); err != nil {
		return err
	}
	return r.progress(3)
}

// burners keeps the CPUs busy until stop is called.
func (r *round) burners(n int) (stop func(), err error) {
	var all []*exec.Cmd
	stop = sync.OnceFunc(func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	})
	r.cleanup(stop)
	for range n {
		cmd := exec.Command(r.bin.self)
		cmd.Env = append(bare(), burnVariable+"=1", "GOMAXPROCS=1")
		if err := start(cmd); err != nil {
			return stop, err
		}
		all = append(all, cmd)
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, low); err != nil {
			return stop, err
		}
	}
	return stop, nil
}

// throttled stops every agent most of the time, as a CPU quota does, until each has
// had two turns more.
func (r *round) throttled() error {
	ctx, cancel := context.WithCancel(r.ctx)
	var group sync.WaitGroup
	for _, p := range r.live() {
		run, rest := time.Duration(5+r.rng.IntN(20))*time.Millisecond, time.Duration(40+r.rng.IntN(160))*time.Millisecond
		group.Go(func() {
			for ctx.Err() == nil {
				for _, phase := range []struct {
					sig  syscall.Signal
					time time.Duration
				}{{syscall.SIGSTOP, rest}, {syscall.SIGCONT, run}} {
					_ = send(p.cmd.Process, phase.sig) // progress tells if it has ended
					select {
					case <-time.After(phase.time):
					case <-ctx.Done():
					}
				}
			}
			_ = p.cont()
		})
	}
	err := r.progress(2)
	cancel()
	group.Wait()
	if err == nil {
		r.fire("agents throttled")
	}
	return err
}

// crowd is how many agents two cores must bear.
const crowd = 100

// hundred: row 20. Everybody gets turns.
func hundred(r *round) error {
	r.timeout = 10 * time.Second
	r.rest = 5 * time.Millisecond
	if err := r.man(5, crowd-5); err != nil {
		return err
	}
	if err := r.progress(1); err != nil {
		return err
	}
	r.fire("a hundred agents")
	from, err := r.head()
	if err != nil {
		return err
	}
	if err := r.progress(2); err != nil {
		return err
	}
	if err := r.fair(from.Turn); err != nil {
		return err
	}
	for range 5 {
		s := r.slots[r.rng.IntN(len(r.slots))]
		s.now.kill()
		r.fire("one of a hundred killed")
	}
	return r.backAtWork(1)
}

// fair makes sure that over three rounds of the queue nobody was left out.
func (r *round) fair(from uint64) error {
	var head uint64
	err := until(r.ctx, patience, func() (bool, error) {
		h, err := r.head()
		if err != nil {
			return false, err
		}
		head = h.Turn
		return head >= from+3*crowd, nil
	})
	if err != nil {
		return fmt.Errorf("turn %d, and then %d of a hundred agents: %w", from, head, err)
	}
	data, err := os.ReadFile(r.data())
	if err != nil {
		return err
	}
	seen := map[string]int{}
	turns, _ := readTurns(data) // they are writing: the last may be half there
	for _, t := range turns[min(uint64(len(turns)), from):] {
		seen[t.agent]++
	}
	if len(seen) < crowd {
		return fmt.Errorf("in %d turns only %d of %d agents had one", head-from, len(seen), crowd)
	}
	return nil
}
