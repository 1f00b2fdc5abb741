package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/client"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
)

// troupe is instances of the service that we start, kill and pause.
type troupe struct {
	s         settings
	dir       string // where they log
	instances []*instance
}

type instance struct {
	name, listen, log string
	mu                sync.Mutex
	process           *exec.Cmd
	exited            chan struct{} // closed when the process has ended
	ending            error         // how it ended, once exited is closed
}

// faults counts what was done to the instances.
type faults struct{ kills, pauses int }

// newTroupe starts n instances on free ports of this machine, and says what it waits for. On
// return they are ready; after an error there are none.
func newTroupe(ctx context.Context, progress io.Writer, s settings, n int) (*troupe, error) {
	dir, err := os.MkdirTemp("", "tickets-")
	if err != nil {
		return nil, err
	}
	t := &troupe{s: s, dir: dir}
	if err := t.assemble(ctx, progress, n); err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

func (t *troupe) assemble(ctx context.Context, progress io.Writer, n int) error {
	for i := range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		name := fmt.Sprintf("instance-%d", i+1)
		in := &instance{name: name, listen: listener.Addr().String(), log: filepath.Join(t.dir, name+".log")}
		listener.Close()
		if err := t.start(in); err != nil {
			return err
		}
		t.instances = append(t.instances, in)
	}
	for _, in := range t.instances {
		if err := in.ready(ctx, progress); err != nil {
			where := "REDIS_URL=" + masked(t.s.Redis)
			if t.s.LockType == locks.ZooKeeper {
				where = "ZOOKEEPER_SERVERS=" + t.s.ZooKeeper
			}
			return fmt.Errorf("%w\n  next step: see that what is there answers: DATABASE_URL=%s %s", err, masked(t.s.Database), where)
		}
	}
	return nil
}

// ready waits until an instance can sell. When it can't, the error says what it logged last.
func (in *instance) ready(ctx context.Context, progress io.Writer) error {
	c := client.New("http://"+in.listen, 5*time.Second)
	say := func(err error) { fmt.Fprintf(progress, "waiting for %s: %v\n", in.name, err) }
	err := insist(ctx, 15*time.Second, say, func(ctx context.Context) error {
		select {
		case <-in.exited:
			return fmt.Errorf("%w: %w", errEnded, cmp.Or(in.ending, errors.New("exit status 0")))
		default:
			return c.Ready(ctx)
		}
	})
	if err == nil || errors.Is(err, errInterrupted) {
		return err
	}
	logged, _ := os.ReadFile(in.log) // it may be empty
	lines := strings.Split(strings.TrimSpace(string(logged)), "\n")
	return fmt.Errorf("%s does not come up %w\n  it logged last: %s", in.name, err, lines[len(lines)-1])
}

func (t *troupe) urls() (urls []string) {
	for _, in := range t.instances {
		urls = append(urls, "http://"+in.listen)
	}
	return urls
}

func (t *troupe) start(in *instance) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(in.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, "serve", "--listen", in.listen, "--instance", in.name, "--lock-type", t.s.LockType,
		"--reserve-for", t.s.ReserveFor.String(), "--redis-url", t.s.Redis,
		"--zookeeper-servers", t.s.ZooKeeper, "--session-timeout", t.s.SessionTimeout.String())
	cmd.Env = append(os.Environ(), "DATABASE_URL="+t.s.Database) // its password is not for `ps`
	cmd.Stdout, cmd.Stderr = log, log
	// None outlives us, however we end, and were it paused.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error), make(chan struct{})
	go func() { // ends with the process
		// The kernel sends Pdeathsig when the thread ends that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			in.ending = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.process, in.exited = cmd, exited
	return nil
}

// harass kills and pauses instances, one at a time, until ctx ends. One that was killed is
// started again; one that is paused sleeps for longer than any lock of its holds.
func (t *troupe) harass(ctx context.Context, f *faults) {
	asleep := t.s.ReserveFor
	if t.s.LockType == locks.ZooKeeper {
		asleep = max(asleep, t.s.SessionTimeout)
	}
	for n := rand.IntN(2); ; n++ {
		rest(ctx, 100*time.Millisecond+rand.N(200*time.Millisecond))
		if ctx.Err() != nil {
			return
		}
		in := t.instances[rand.IntN(len(t.instances))]
		if n%2 == 0 {
			in.signal(syscall.SIGKILL)
			<-in.exited
			f.kills++
			rest(ctx, rand.N(300*time.Millisecond))
			if err := t.start(in); err != nil {
				fmt.Fprintln(os.Stderr, "tickets: an instance was not started again:", err)
				return
			}
			continue
		}
		in.signal(syscall.SIGSTOP)
		f.pauses++
		rest(ctx, asleep+rand.N(asleep/2))
		in.signal(syscall.SIGCONT)
	}
}

func (in *instance) signal(s syscall.Signal) {
	in.mu.Lock()
	defer in.mu.Unlock()
	_ = in.process.Process.Signal(s) // it may have ended
}

// end ends all instances, at once when they do not in time.
func (t *troupe) end() {
	for _, in := range t.instances {
		in.signal(syscall.SIGCONT)
		in.signal(syscall.SIGTERM)
	}
	late, cancel := context.WithTimeout(context.Background(), lastWords+2*time.Second)
	defer cancel()
	for _, in := range t.instances {
		select {
		case <-in.exited:
		case <-late.Done():
			in.signal(syscall.SIGKILL)
			<-in.exited
		}
	}
	os.RemoveAll(t.dir)
}
