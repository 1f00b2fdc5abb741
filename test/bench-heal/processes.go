package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
)

// processes are agents that we start ourselves. Each has a name of its own.
type processes struct {
	c          config
	fleet, dir string
	running    map[string]*exec.Cmd
	started    int
}

func newProcesses(c config, fleet, dir string) (*processes, error) {
	p := &processes{c: c, fleet: fleet, dir: dir, running: map[string]*exec.Cmd{}}
	for range c.agents {
		if err := p.start(); err != nil {
			p.end()
			return nil, err
		}
	}
	return p, nil
}

func (p *processes) start() error {
	p.started++
	name := fmt.Sprint("a", p.started)
	cmd := exec.Command(p.c.agent, "run", "--name", name, "--fleet", p.fleet, "--data", p.dir+"/data.txt",
		"--zookeeper", p.c.servers, "--session-timeout", p.c.timeout.String(), "--pace", "0s", "--log-level", "error")
	cmd.Env, cmd.Dir = []string{}, p.dir
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us
	if err := cmd.Start(); err != nil {
		return err
	}
	p.running[name] = cmd
	return nil
}

func (p *processes) who(e filelock.Entry) string {
	if p.running[e.Agent] == nil {
		return ""
	}
	return e.Agent
}

func (p *processes) kill(_ context.Context, agent string) (issued, killed time.Time, err error) {
	issued = time.Now()
	return issued, issued, p.running[agent].Process.Kill()
}

func (p *processes) revive(_ context.Context, agent string) error {
	var exit *exec.ExitError
	if err := p.running[agent].Wait(); !errors.As(err, &exit) {
		return fmt.Errorf("it ended with %v", err)
	}
	delete(p.running, agent)
	return p.start()
}

func (p *processes) end() {
	for _, cmd := range p.running {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
