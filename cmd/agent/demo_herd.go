package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/config"
)

// herd is the demo's agents, each a process of its own.
type herd struct {
	dir    string
	opts   demoOptions
	config config.Config

	mu     sync.Mutex
	ended  bool
	agents []*process
}

// process is one agent; another takes its place when it was killed.
type process struct {
	number int
	cmd    *exec.Cmd
	exited chan struct{} // closed once it was waited for
	err    error         // how it exited; to be read after exited
	killed bool          // on purpose
}

// goodbye is how long an agent may take to end when told to.
const goodbye = 3 * time.Second

func (h *herd) start() error {
	if err := os.MkdirAll(filepath.Join(h.dir, "acks"), 0o755); err != nil {
		return err
	}
	for n := range h.opts.agents {
		p, err := h.spawn(n + 1)
		if err != nil {
			return err
		}
		h.agents = append(h.agents, p)
	}
	return nil
}

func (h *herd) spawn(number int) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("agent-%d", number)
	args := []string{
		"run", "--data", h.config.Data.File, "--name", name,
		"--pace", h.opts.pace.String(), "--log-format", "text",
	}
	if h.opts.broken {
		args = append(args, "--lock", "none")
	} else {
		args = append(args,
			"--zookeeper", h.config.Zookeeper.Servers[0], "--fleet", h.config.Fleet,
			"--session-timeout", h.config.Zookeeper.SessionTimeout.String(),
			"--ack-log", filepath.Join(h.dir, "acks", name))
	}
	log, err := os.OpenFile(filepath.Join(h.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{number: number, cmd: exec.Command(self, args...), exited: make(chan struct{})}
	p.cmd.Env = []string{} // the settings of whoever runs the demo are not meant for it
	p.cmd.Dir = h.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	// A Ctrl-C is for us, who then end them in order; and none outlives us.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // waits for the process, and ends with it
		// The kernel sends Pdeathsig when the starting thread ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

// failure tells of an agent that ended by itself, which none should.
func (h *herd) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.agents {
		select {
		case <-p.exited:
			if !p.killed && !h.ended {
				return fmt.Errorf("agent-%d ended by itself: %v; see %s", p.number, p.err, filepath.Join(h.dir, fmt.Sprintf("agent-%d.log", p.number)))
			}
		default:
		}
	}
	return nil
}

// kill ends an agent with SIGKILL and starts another in its place.
func (h *herd) kill(i int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil
	}
	p := h.agents[i]
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.exited
	next, err := h.spawn(p.number)
	if err == nil {
		h.agents[i] = next
	}
	return err
}

func (h *herd) signal(i int, s syscall.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil
	}
	return h.agents[i].cmd.Process.Signal(s)
}

// end tells all agents to stop and waits until they have. It may be called twice.
func (h *herd) end() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil
	}
	h.ended = true
	for _, p := range h.agents {
		// One that is paused takes the signal when it goes on.
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
	patience := time.NewTimer(goodbye)
	defer patience.Stop()
	var errs []error
	for _, p := range h.agents {
		select {
		case <-p.exited:
		case <-patience.C:
			errs = append(errs, fmt.Errorf("agent-%d did not end within %v", p.number, goodbye))
			patience.Reset(0)
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		if p.err != nil && !terminated(p.err) && len(errs) == 0 {
			errs = append(errs, fmt.Errorf("agent-%d: %w; see %s", p.number, p.err, h.dir))
		}
	}
	return errors.Join(errs...)
}

// terminated tells whether a process ended by SIGTERM itself: it was told to stop before
// it had got so far as to listen for it.
func terminated(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// mischief is one thing that --chaos does.
type mischief struct {
	after time.Duration // since the one before
	agent int
	pause time.Duration // 0: kill
}

// mischiefs is an endless plan, drawn from a seed: kills and pauses in turn, pauses
// beyond the session's timeout.
type mischiefs struct {
	random *rand.Rand
	agents int
	drawn  int
	now    mischief
}

func newMischiefs(opts demoOptions) *mischiefs {
	return &mischiefs{random: rand.New(rand.NewPCG(opts.seed, 0)), agents: opts.agents}
}

// next draws what is to be done now.
func (p *mischiefs) next() mischief {
	upTo := func(d time.Duration) time.Duration { return time.Duration(p.random.Int64N(int64(d))) }
	p.now = mischief{after: 300*time.Millisecond + upTo(500*time.Millisecond), agent: p.random.IntN(p.agents)}
	if p.drawn++; p.drawn%2 == 0 {
		p.now.pause = demoSession*3/2 + upTo(demoSession)
	}
	return p.now
}
