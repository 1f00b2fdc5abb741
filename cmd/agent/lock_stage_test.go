package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// lockTest is a server of a test's own, with one lock on it. Whatever is started under
// the lock carries a mark in its environment.
type lockTest struct {
	t    *testing.T
	addr string
	mark string
	tmp  string
	sess *session.Session
}

const (
	lockPatience = 20 * time.Second
	// lockTimeout is a session's: what is to be dead before ZooKeeper ends it is killed a
	// tenth of it earlier, which is enough on a machine that does much else.
	lockTimeout = "10s"
)

func newLockTest(t *testing.T) *lockTest {
	t.Parallel()
	l := &lockTest{t: t, addr: zktest.Start(t).Addr, tmp: t.TempDir()}
	l.mark = "TURNSTILE_TEST_MARK=" + filepath.Base(filepath.Dir(l.tmp)) + queue.NewID()
	sess, err := session.Dial(l.ctx(), session.Options{Servers: []string{l.addr}, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sess.Close)
	l.sess = sess
	t.Cleanup(func() {
		defer func() {
			for _, pid := range l.marked() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}()
		l.eventually("nothing is left", func() bool { return len(l.marked()) == 0 })
	})
	return l
}

func (l *lockTest) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*lockPatience)
	l.t.Cleanup(cancel)
	return ctx
}

const lockTestDir = "/turnstile/default/locks/it"

// running is an `agent lock`.
type running struct {
	*exec.Cmd
	out, errs bytes.Buffer
	done      chan struct{}
}

// start starts `agent lock` with a session of its own at addr.
func (l *lockTest) start(addr, timeout string, args ...string) *running {
	l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	r := &running{Cmd: exec.Command(self, args...), done: make(chan struct{})}
	r.Args = append([]string{"agent", "lock", "it"}, args...)
	r.Dir, r.Stdout, r.Stderr = l.tmp, &r.out, &r.errs
	r.Env = append(os.Environ(), l.mark, "TMPDIR="+l.tmp, "TURNSTILE_ZOOKEEPER_SERVERS="+addr,
		"TURNSTILE_ZOOKEEPER_SESSION_TIMEOUT="+timeout, "TURNSTILE_LOG_LEVEL=error")
	if err := r.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() { // ends with the process, which ends with the test
		r.Wait()
		close(r.done)
	}()
	l.t.Cleanup(func() {
		r.Process.Kill()
		<-r.done
	})
	return r
}

// ends waits for its exit code.
func (l *lockTest) ends(r *running, code int) {
	l.t.Helper()
	select {
	case <-r.done:
	case <-time.After(lockPatience):
		l.t.Fatalf("agent lock does not end; it says %s", r.errs.String())
	}
	if got := r.ProcessState.ExitCode(); got != code {
		l.t.Errorf("exit code %d, want %d; it says %s", got, code, r.errs.String())
	}
}

// marked lists the processes with the mark.
func (l *lockTest) marked() (pids []int) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, environ := range environs {
		text, err := os.ReadFile(environ)
		if err != nil || !bytes.Contains(text, []byte(l.mark)) {
			continue
		}
		var pid int
		fmt.Sscanf(environ, "/proc/%d/", &pid)
		pids = append(pids, pid)
	}
	return pids
}

// except is marked without some that may live.
func (l *lockTest) except(may ...*running) (pids []int) {
	for _, pid := range l.marked() {
		mine := false
		for _, r := range may {
			mine = mine || r.Process.Pid == pid
		}
		if !mine {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (l *lockTest) eventually(what string, holds func() bool) {
	l.t.Helper()
	for end := time.Now().Add(lockPatience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("never: %s", what)
		}
	}
}

func (l *lockTest) file(name string) string {
	text, _ := os.ReadFile(filepath.Join(l.tmp, name))
	return strings.TrimSpace(string(text))
}

// tree is a command with all manner of processes: a shell that ignores SIGTERM, one in the
// background, one that has left the process group, one that has left its parent too.
const tree = `trap "" TERM
sleep 1000 &
setsid sleep 1000 &
(setsid sh -c 'sleep 1000 & sleep 1000' &)
echo up >up
while :; do sleep 1000; done`

const treeSize = 1 + 2 + 3 + 1 // with the loop's sleep

func (l *lockTest) startTree(addr, timeout string, args ...string) *running {
	l.t.Helper()
	r := l.start(addr, timeout, append(args, "--", "sh", "-c", tree)...)
	l.eventually("the tree is up", func() bool {
		return l.file("up") != "" && len(l.except(r)) >= treeSize+1 // and the guard
	})
	return r
}

// next waits for the lock as another machine does, and calls check when it has it.
func (l *lockTest) next(check func()) (done chan struct{}) {
	return l.wait(&lock.Lock{Sess: l.sess, Dir: lockTestDir, Log: zap.NewNop()}, check)
}

func (l *lockTest) wait(waiter *lock.Lock, check func()) (done chan struct{}) {
	done = make(chan struct{})
	ctx := l.ctx()
	go func() {
		defer close(done)
		held, err := waiter.Exclusive(ctx)
		if err != nil {
			l.t.Error(err)
			return
		}
		check()
		held.Close()
	}()
	return done
}

// here is the lock as another process of this machine and user sees it.
func (l *lockTest) here() *lock.Lock {
	l.t.Helper()
	lives := lifeline.Dir(filepath.Join(l.tmp, fmt.Sprintf("turnstile-%d", os.Getuid()), "default/locks/it"))
	return &lock.Lock{
		Sess: l.sess, Dir: lockTestDir, Log: zap.NewNop(), Who: queue.Member{BootID: fleet.BootID()},
		Died: queue.BeginLife(lives, queue.NewID(), zap.NewNop()).Watch,
	}
}
