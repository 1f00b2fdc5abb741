package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// worker is a process that takes turns under kazoo's Lock.
type worker struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when all it said was heard
}

// word is what a worker said, and when we heard it.
type word struct {
	from *worker
	text string
	at   time.Time
}

// kazooFleet kills processes in their turn under kazoo's Lock, and measures from the
// kill until another has written in its turn.
func kazooFleet(ctx context.Context, c config, dir string) (s sample, err error) {
	k := &kazoo{c: c, path: dir + "/kazoo.txt", lock: fmt.Sprintf("/bench-kazoo-%d", time.Now().UnixNano()), says: make(chan word)}
	defer k.end()
	for range c.agents {
		if err := k.start(); err != nil {
			return s, err
		}
	}
	return collect(ctx, c.kazooRuns, k.once)
}

type kazoo struct {
	c          config
	path, lock string
	says       chan word
	workers    []*worker
}

func (k *kazoo) start() error {
	w := &worker{ended: make(chan struct{})}
	w.cmd = exec.Command("/usr/bin/python3", k.c.kazoo, k.c.servers, k.lock, k.path, fmt.Sprint(k.c.timeout.Seconds()))
	w.cmd.Stderr = os.Stderr
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := w.cmd.StdinPipe(); err != nil { // it ends with us
		return err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return err
	}
	k.workers = append(k.workers, w)
	go k.hear(w, out)
	return nil
}

func (k *kazoo) hear(w *worker, out io.Reader) {
	defer close(w.ended)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		k.says <- word{w, lines.Text(), time.Now()}
	}
	k.says <- word{w, "end", time.Now()}
}

// next is the next word, of whomever.
func (k *kazoo) next(ctx context.Context) (word, error) {
	select {
	case w := <-k.says:
		return w, nil
	case <-ctx.Done():
		return word{}, context.Cause(ctx)
	}
}

// once kills a worker when it says that it has the turn. If it has said before its end
// that it wrote, the kill came too late.
func (k *kazoo) once(ctx context.Context) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stand, fmt.Errorf("kazoo has stood still for %v", stand))
	defer cancel()
	ready := map[*worker]bool{} // has had a turn: all wait for theirs
	var victim *worker
	for victim == nil {
		w, err := k.next(ctx)
		if err != nil {
			return 0, err
		}
		switch {
		case w.text == "end":
			return 0, fmt.Errorf("a worker has ended")
		case w.text == "turn" && len(ready) == len(k.workers):
			victim = w.from
		case w.text == "written":
			ready[w.from] = true
		}
	}
	killed := time.Now()
	if err := victim.cmd.Process.Kill(); err != nil {
		return 0, err
	}
	wrote, late, ended := time.Time{}, false, false
	for wrote.IsZero() || !ended {
		w, err := k.next(ctx)
		if err != nil {
			return 0, err
		}
		switch {
		case w.from == victim && w.text == "end":
			ended = true
		case w.from == victim:
			late = true
		case w.text == "written" && wrote.IsZero():
			wrote = w.at
		case w.text == "end":
			return 0, fmt.Errorf("a worker has ended: %s", strings.Join(w.from.cmd.Args, " "))
		}
	}
	_ = victim.cmd.Wait()
	k.workers = remove(k.workers, victim)
	if err := k.start(); err != nil {
		return 0, err
	}
	if late {
		return 0, errMissed
	}
	return wrote.Sub(killed), nil
}

func remove(all []*worker, one *worker) (left []*worker) {
	for _, w := range all {
		if w != one {
			left = append(left, w)
		}
	}
	return left
}

func (k *kazoo) end() {
	for _, w := range k.workers {
		_ = w.cmd.Process.Kill()
	}
	for _, w := range k.workers {
		for open := true; open; {
			select {
			case <-k.says:
			case <-w.ended:
				open = false
			}
		}
		_ = w.cmd.Wait()
	}
}
