package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/test/bench-turns/tally"
)

// crew is a fresh service and the processes that take turns under it.
type crew struct {
	service *service
	file    string
	clients []*client
}

// client is a process that takes turns, of one client or of many.
type client struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// measured is what was seen in one window.
type measured struct {
	Turns  float64 `json:"turns_per_second"`
	Client float64 `json:"client_us_per_turn"` // processor time
	Server float64 `json:"server_us_per_turn"`
	P50    float64 `json:"wait_p50_ms"` // from asking for a turn to its being on disk
	P99    float64 `json:"wait_p99_ms"`
	Sync   float64 `json:"sync_p50_ms"` // what a sync took

	waits, syncs []float64
	count        float64 // of turns
	used, after  usage   // in the window, and at its end
	seconds      float64
}

func (c *crew) stop() {
	for _, cl := range c.clients {
		_ = cl.cmd.Process.Kill() // it may have ended
		_ = cl.cmd.Wait()
	}
	c.service.stop()
}

// join starts processes, lets all begin together when the last is there, and waits until each
// client has had a turn, or the processes do not wait for that. version is
// what the last of them says it is.
func (c *crew) join(ctx context.Context, cmds []*exec.Cmd) (version string, err error) {
	for _, cmd := range cmds {
		cl := &client{cmd: cmd}
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if cl.in, err = cmd.StdinPipe(); err != nil {
			return "", err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return "", err
		}
		cl.out = bufio.NewReader(out)
		if err := cmd.Start(); err != nil {
			return "", err
		}
		c.clients = append(c.clients, cl)
	}
	for _, cl := range c.clients {
		if said, err := cl.hear(ctx); err != nil || said != "here\n" {
			return "", errors.Join(err, fmt.Errorf("%s said %q, not that it is here", cl.cmd, said))
		}
	}
	if err := c.tell("go"); err != nil {
		return "", err
	}
	for _, cl := range c.clients {
		said, err := cl.hear(ctx)
		if err != nil {
			return "", err
		}
		var ready bool
		if version, ready = strings.CutPrefix(strings.TrimSpace(said), "ready "); !ready {
			return "", fmt.Errorf("%s said %q, not that it is ready", cl.cmd, said)
		}
	}
	return version, nil
}

// window counts what happens in so much time, when syncs take so much longer.
func (c *crew) window(ctx context.Context, sync, settle, window time.Duration) (m measured, err error) {
	err = c.tell(fmt.Sprintf("sync %dus", sync.Microseconds()))
	if err == nil {
		err = pause(ctx, settle)
	}
	if err == nil {
		err = c.tell("begin")
	}
	if err != nil {
		return m, err
	}
	began, cpu := time.Now(), c.processor()
	before, err := c.service.usage()
	if err != nil {
		return m, err
	}
	if err := pause(ctx, window); err != nil {
		return m, err
	}
	m.seconds, cpu = time.Since(began).Seconds(), c.processor()-cpu
	if m.after, err = c.service.usage(); err != nil {
		return m, err
	}
	if err := c.tell("end"); err != nil {
		return m, err
	}
	for _, cl := range c.clients {
		said, err := cl.hear(ctx)
		if err != nil {
			return m, err
		}
		var o tally.Outcome
		if err := json.Unmarshal([]byte(said), &o); err != nil {
			return m, fmt.Errorf("%s said %q: %w", cl.cmd, said, err)
		}
		m.count += float64(o.Turns)
		m.waits, m.syncs = append(m.waits, o.Waits...), append(m.syncs, o.Syncs...)
	}
	if m.count == 0 {
		return m, errors.New("not one turn in the window")
	}
	m.used = m.after.since(before)
	m.Turns, m.Client, m.Server = m.count/m.seconds, cpu*1e6/m.count, m.used.processor*1e6/m.count
	m.P50, m.P99, m.Sync = percentile(m.waits, 50), percentile(m.waits, 99), percentile(m.syncs, 50)
	if least := float64(sync) / 1e6; m.Sync < least {
		return m, fmt.Errorf("a sync took %.2f ms at the median, and was to take %.2f ms longer: the slower disk does not reach this client", m.Sync, least)
	}
	return m, nil
}

// holds makes sure that the file has at least so many turns, whole ones.
func (c *crew) holds(turns float64) error {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return err
	}
	if there := bytes.Count(text, []byte("  line 3 of 3\n")); float64(there) < turns {
		return fmt.Errorf("%.0f turns were counted, and the file has %d", turns, there)
	}
	return nil
}

// hear reads what the client says next. One that says nothing in time is ended.
func (c *client) hear(ctx context.Context) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() })
	defer stop()
	said, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s ended: %w", filepath.Base(c.cmd.Path), errors.Join(context.Cause(ctx), err))
	}
	return said, nil
}

func (c *crew) tell(order string) error {
	for _, cl := range c.clients {
		if _, err := fmt.Fprintln(cl.in, order); err != nil {
			return fmt.Errorf("%s ended: %w", filepath.Base(cl.cmd.Path), err)
		}
	}
	return nil
}

// processor is the processor time of all clients, in seconds.
func (c *crew) processor() (sum float64) {
	for _, cl := range c.clients {
		sum += processor(cl.cmd.Process.Pid)
	}
	return sum
}

// since is what was used between.
func (u usage) since(before usage) usage {
	return usage{
		processor: u.processor - before.processor, memory: u.memory - before.memory, written: u.written - before.written,
		log: u.log - before.log, snapshots: u.snapshots - before.snapshots, snapshot: u.snapshot - before.snapshot,
		requests: u.requests - before.requests,
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clientCommand is this program as a client.
func clientCommand(s settings) *exec.Cmd {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a plain struct
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	return cmd
}
