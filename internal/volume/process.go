package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// errProcess says that another process could not be started, or ended by itself: it
// tells nothing about the volume.
var errProcess = errors.New("a second process, which the check needs")

// process is another process at the same volume.
type process interface {
	// ask has it do something and waits for the answer. The error is the operation's
	// as it happened there, or wraps errProcess.
	ask(ctx context.Context, r request) (answer, error)
	// kill ends it with SIGKILL, and returns when it is gone. It may be called twice.
	kill()
}

// child is a process of ours that runs Serve.
type child struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	said bytes.Buffer // on stderr
	once sync.Once
}

// startChild starts a process that lives until it is killed, or ctx ends.
func startChild(ctx context.Context, argv []string) (process, error) {
	c := &child{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	c.cmd.Env = []string{}
	c.cmd.Stderr = &c.said
	// A Ctrl-C is for us, who then end it; it also ends when its stdin does.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("%w: %w", errProcess, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProcess, err)
	}
	c.out = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w, cannot be started: %w", errProcess, err)
	}
	return c, nil
}

func (c *child) ask(ctx context.Context, r request) (answer, error) {
	err := json.NewEncoder(c.in).Encode(r)
	var a answer
	if err == nil {
		err = c.out.Decode(&a) // ends with the process, and that with ctx
	}
	switch {
	case ctx.Err() != nil:
		return a, context.Cause(ctx)
	case err != nil:
		c.kill()
		return a, fmt.Errorf("%w, ended by itself: %w %s", errProcess, err, bytes.TrimSpace(c.said.Bytes()))
	}
	return a, a.err()
}

func (c *child) kill() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()         // it was killed
	})
}

// start starts several processes. stop ends them, and may be called twice.
func (c *checker) start(ctx context.Context, n int) (all []process, stop func(), err error) {
	stop = func() {
		for _, p := range all {
			p.kill()
		}
	}
	for range n {
		p, err := c.spawn(ctx)
		if err != nil {
			stop()
			return nil, nil, err
		}
		all = append(all, p)
	}
	return all, stop, nil
}

// askAll asks all of them at once, each for the ranges from its own number on, and waits
// for all the answers.
func askAll(ctx context.Context, all []process, r request) ([]answer, error) {
	answers, errs := make([]answer, len(all)), make([]error, len(all))
	var group sync.WaitGroup
	for i, p := range all {
		group.Go(func() {
			mine := r
			mine.Range = i
			answers[i], errs[i] = p.ask(ctx, mine)
		})
	}
	group.Wait()
	return answers, errors.Join(errs...)
}
