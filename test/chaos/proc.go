package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is one process of a fleet: an agent, or a child that is one.
type proc struct {
	id   string // slot and life: its records begin with it
	slot *slot
	cmd  *exec.Cmd
	feed *feeder
	log  string
	done chan struct{} // closed when it has ended
	base int           // how many records its slot had acknowledged before it

	counting sync.Mutex // guards how many since, and how many of them are its own
	counted  int
	own      int

	turn int // and turns

	orders *os.File   // to a child
	events chan event // from a child; closed at its end

	leaving bool  // it is meant to end
	full    int64 // how much it had logged when its volume was full last
}

// slot is a place in a round's fleet; its processes come one after another.
type slot struct {
	name  string
	plain bool // the real binary and not a child
	links []link
	tail  *ackTail
	lives int
	now   *proc
}

// launch starts a process with input, log and, for a child, two pipes more.
func launch(id string, s *slot, cmd *exec.Cmd, log string, rest time.Duration) (*proc, error) {
	p := &proc{id: id, slot: s, cmd: cmd, log: log, done: make(chan struct{})}
	var err error
	if p.base, p.turn, err = s.tail.look(); err != nil {
		return nil, err
	}
	var ends []*os.File // the process's own
	defer func() {
		for _, f := range ends {
			f.Close()
		}
	}()
	input, feed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	ends = append(ends, input)
	// A page: what is on its way when the input ends is little.
	if err := shrink(feed); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	ends = append(ends, out)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, out, out
	var events *os.File
	if !s.plain {
		var orders, told *os.File
		if orders, p.orders, err = os.Pipe(); err != nil {
			return nil, err
		}
		if events, told, err = os.Pipe(); err != nil {
			return nil, err
		}
		ends = append(ends, orders, told)
		cmd.ExtraFiles = []*os.File{orders, told}
		p.events = make(chan event, 1024)
	}
	if err := start(cmd); err != nil {
		return nil, err
	}
	p.feed = newFeeder(id, feed, rest)
	go p.wait(events)
	return p, nil
}

// shrink makes a pipe hold a page: what is on its way when the input ends is little.
func shrink(pipe *os.File) error {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { _, failed = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096) })
	return errors.Join(err, failed)
}

// wait ends with the process.
func (p *proc) wait(events *os.File) {
	if events != nil {
		in := bufio.NewScanner(events)
		for in.Scan() {
			var e event
			if json.Unmarshal(in.Bytes(), &e) == nil {
				p.events <- e
			}
		}
		events.Close()
		close(p.events)
	}
	_ = p.cmd.Wait() // code tells
	p.feed.abandon()
	close(p.done)
}

// code is the exit code of a process that has ended, -1 when a signal ended it.
func (p *proc) code() int { return p.cmd.ProcessState.ExitCode() }

func (p *proc) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// acked is how many of its own records this process has acknowledged, and how many turns:
// first it acknowledges what the process before it in its slot had to leave.
func (p *proc) acked() (records, turns int, err error) {
	_, turns, err = p.slot.tail.look()
	p.counting.Lock()
	defer p.counting.Unlock()
	for _, a := range p.slot.tail.all()[p.base+p.counted:] {
		p.counted++
		if a.hash == sha256.Sum256([]byte(record(p.id, p.own+1))) {
			p.own++
		}
	}
	return p.own, turns - p.turn, err
}

// kill ends it at once, stopped or not.
func (p *proc) kill() {
	p.leaving = true
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// order gives a child an order and waits until it was obeyed.
func (p *proc) order(ctx context.Context, o order) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if _, err := p.orders.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("tell %s: %w; the end of its log: %s", p.id, err, p.lastWords())
	}
	_, err = p.await(ctx, 20*time.Second, o.Do)
	return err
}

func (p *proc) arm(ctx context.Context, points ...failpoint) error {
	return p.order(ctx, order{Do: "arm", Armed: points})
}

// await waits for an event; the others before it are dropped.
func (p *proc) await(ctx context.Context, limit time.Duration, name string) (event, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-p.events:
			if !ok {
				<-p.done
				return e, fmt.Errorf("%s ended with %d before it said %s; the end of its log: %s", p.id, p.code(), name, p.lastWords())
			}
			if e.Event == name {
				return e, nil
			}
		case <-timer.C:
			return event{}, rejected("%s did not say %s within %v", p.id, name, limit)
		case <-ctx.Done():
			return event{}, context.Cause(ctx)
		}
	}
}

// exits waits for the end of the process.
func (p *proc) exits(ctx context.Context, limit time.Duration) (code int, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.code(), nil
	case <-timer.C:
		return 0, fmt.Errorf("%w: %s does not end within %v; the end of its log: %s", errSlow, p.id, limit, p.lastWords())
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// mark is how much the process has logged so far.
func (p *proc) mark() int64 {
	info, err := os.Stat(p.log)
	if err != nil {
		return 0
	}
	return info.Size()
}

// said tells whether the log has one of these texts behind mark.
func (p *proc) said(mark int64, texts ...string) bool {
	f, err := os.Open(p.log)
	if err != nil {
		return false
	}
	defer f.Close()
	log, err := io.ReadAll(io.NewSectionReader(f, mark, 1<<30))
	if err != nil {
		return false
	}
	for _, text := range texts {
		if bytes.Contains(log, []byte(text)) {
			return true
		}
	}
	return false
}

// sessionless tells whether the process lost its session after it was in the fleet last.
// One that has nothing to write does not ask for another.
func (p *proc) sessionless() bool {
	log, err := os.ReadFile(p.log)
	return err == nil && bytes.LastIndex(log, []byte("session is over")) > bytes.LastIndex(log, []byte("in the fleet"))
}

// lastWords is the end of the log, for people.
func (p *proc) lastWords() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n    ")
}

func (p *proc) cont() error { return send(p.cmd.Process, syscall.SIGCONT) }

// mustExit waits for the end and makes sure that it ended as it had to.
func (p *proc) mustExit(ctx context.Context, want int, saying string) error {
	p.leaving = true
	code, err := p.exits(ctx, time.Minute)
	switch {
	case err != nil:
		return err
	case code != want:
		return fmt.Errorf("%s ended with %d, and should with %d; the end of its log: %s", p.id, code, want, p.lastWords())
	case !p.said(0, saying):
		return fmt.Errorf("%s does not say %q; the end of its log: %s", p.id, saying, p.lastWords())
	}
	return nil
}
