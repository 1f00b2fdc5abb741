package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// The connection goes silent: when ZooKeeper gives the lock to the next, nothing of the
// command lives, whatever it did to get away.
func TestLockKillsTheTreeBeforeTheNextHasTheLock(t *testing.T) {
	l := newLockTest(t)
	proxy := zktest.NewProxy(t, l.addr)
	r := l.startTree(proxy.Addr, lockTimeout)
	next := l.next(func() {
		if left := l.except(r); len(left) > 0 {
			t.Errorf("the next has the lock, and %v of the command live", left)
		}
	})
	proxy.HalfOpen(true)
	l.ends(r, exitLost)
	if !strings.Contains(r.errs.String(), "it was lost, and the command was ended: ZooKeeper is silent") {
		t.Errorf("it says %s", r.errs.String())
	}
	<-next
}

// It is told first, while the lock is still ours, and may end in peace.
func TestLockTellsTheCommandBeforeItIsKilled(t *testing.T) {
	l := newLockTest(t)
	proxy := zktest.NewProxy(t, l.addr)
	r := l.start(proxy.Addr, lockTimeout, "--grace", "1500ms", "--lost-code", "77", "--",
		"sh", "-c", `trap 'echo told >told; exit 0' TERM; echo up >up; sleep 1000 & wait`)
	l.eventually("it is up", func() bool { return l.file("up") != "" })
	next := l.next(func() {
		if l.file("told") == "" || len(l.except(r)) > 0 {
			t.Errorf("told: %q, alive: %v", l.file("told"), l.except(r))
		}
	})
	proxy.HalfOpen(true)
	l.eventually("it is told", func() bool { return l.file("told") != "" })
	select {
	case <-next:
		t.Error("the next had it before the command was told")
	default:
	}
	l.ends(r, 77)
	<-next
}

// A connection that breaks and comes again costs nothing.
func TestLockOutlivesABrokenConnection(t *testing.T) {
	l := newLockTest(t)
	proxy := zktest.NewProxy(t, l.addr)
	r := l.start(proxy.Addr, lockTimeout, "--", "sh", "-c", `echo up >up; until test -e go; do sleep 0.1; done; exit 3`)
	l.eventually("it is up", func() bool { return l.file("up") != "" })
	proxy.Refuse(true)
	time.AfterFunc(time.Second, func() { proxy.Refuse(false) })
	connected := make(chan struct{}, 100)
	proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == zktest.OpPing {
			connected <- struct{}{}
		}
		return true
	})
	<-connected
	if err := os.WriteFile(filepath.Join(l.tmp, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l.ends(r, 3)
}

// Even we cannot look after it: we are stopped.
func TestLockThatIsStoppedLeavesNothingToTheNext(t *testing.T) {
	l := newLockTest(t)
	r := l.start(l.addr, lockTimeout, "--", "sh", "-c", `trap "" TERM; sleep 1000 & echo up >up; while :; do sleep 1000; done`)
	l.eventually("it is up", func() bool { return l.file("up") != "" })
	next := l.next(func() {
		if left := l.except(r); len(left) > 0 {
			t.Errorf("the next has the lock, and %v of the command live", left)
		}
	})
	r.Process.Signal(syscall.SIGSTOP)
	<-next
	r.Process.Signal(syscall.SIGCONT)
	l.ends(r, exitLost)
}

// We are killed: the group dies at once, and who waits on this machine goes on long
// before the session expires, but not before all are dead.
func TestLockThatIsKilled(t *testing.T) {
	l := newLockTest(t)
	r := l.start(l.addr, "30s", "--", "sh", "-c", `trap "" TERM; sleep 1000 & echo up >up; while :; do sleep 1000; done`)
	l.eventually("it is up", func() bool { return l.file("up") != "" })
	next := l.wait(l.here(), func() {
		if left := l.marked(); len(left) > 0 {
			t.Errorf("the next has the lock, and %v of the command live", left)
		}
	})
	l.eventually("the next waits", func() bool {
		state, err := lock.Look(l.ctx(), l.sess, lockTestDir)
		return err == nil && len(state.Waiting) == 1
	})
	r.Process.Kill()
	select {
	case <-next:
	case <-time.After(lockPatience): // the session lives longer
		t.Error("the next waits for the session to expire")
	}
}

// We and the guard are killed: as long as something of the command lives, nobody here takes
// that for the death of all.
func TestLockThatIsKilledWithItsGuard(t *testing.T) {
	l := newLockTest(t)
	r := l.start(l.addr, "30s", "--", "sh", "-c", `sleep 1000 >/dev/null 2>&1 & echo $! >left; ps -o pgid= -p $$ >guard; echo up >up; wait`)
	l.eventually("it is up", func() bool { return l.file("up") != "" })
	var guard, left int
	fmt.Sscan(l.file("guard")+" "+l.file("left"), &guard, &left)
	r.Process.Signal(syscall.SIGSTOP) // else we would notice, and do the guard's work
	syscall.Kill(guard, syscall.SIGKILL)
	r.Process.Kill()
	<-r.done
	l.eventually("one is left", func() bool { pids := l.marked(); return len(pids) == 1 && pids[0] == left })
	next := l.wait(l.here(), func() {
		if left := l.marked(); len(left) > 0 {
			t.Errorf("the next has the lock, and %v of the command live", left)
		}
	})
	l.eventually("the next waits", func() bool {
		state, err := lock.Look(l.ctx(), l.sess, lockTestDir)
		return err == nil && len(state.Waiting) == 1
	})
	syscall.Kill(left, syscall.SIGKILL)
	select {
	case <-next:
	case <-time.After(lockPatience):
		t.Error("the next waits for the session to expire")
	}
}

// Somebody removes our node.
func TestLockThatIsEvicted(t *testing.T) {
	l := newLockTest(t)
	r := l.startTree(l.addr, "30s") // it ends long before its session could
	state, err := lock.Look(l.ctx(), l.sess, lockTestDir)
	if err != nil || len(state.Holders) != 1 {
		t.Fatal(state, err)
	}
	if err := queue.Evict(l.ctx(), l.sess, path.Join(lockTestDir, "line"), state.Holders[0].Place); err != nil {
		t.Fatal(err)
	}
	l.ends(r, exitLost)
}

// An agent lock under the same lock ends with it, and all its own.
func TestLockWithinALockEndsWithIt(t *testing.T) {
	l := newLockTest(t)
	proxy := zktest.NewProxy(t, l.addr)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(l.tmp, "agent")); err != nil {
		t.Fatal(err)
	}
	r := l.start(proxy.Addr, lockTimeout, "--", "./agent", "lock", "it", "--zookeeper", l.addr, "--", "sh", "-c", tree)
	l.eventually("the tree is up", func() bool { return l.file("up") != "" && len(l.except(r)) >= treeSize+3 })
	next := l.next(func() {
		if left := l.except(r); len(left) > 0 {
			t.Errorf("the next has the lock, and %v of the command live", left)
		}
	})
	proxy.HalfOpen(true)
	l.ends(r, exitLost)
	<-next
}

func TestLockWaitsAgainWhenItsSessionExpires(t *testing.T) {
	l := newLockTest(t)
	proxy := zktest.NewProxy(t, l.addr)
	holder := &lock.Lock{Sess: l.sess, Dir: lockTestDir, Log: zap.NewNop()}
	held, err := holder.Exclusive(l.ctx())
	if err != nil {
		t.Fatal(err)
	}
	waiting := func() (place string) {
		state, err := lock.Look(l.ctx(), l.sess, lockTestDir)
		if err == nil && len(state.Waiting) == 1 {
			place = state.Waiting[0].Place
		}
		return place
	}
	r := l.start(proxy.Addr, "3s", "--", "true")
	var first string
	l.eventually("it waits", func() bool { first = waiting(); return first != "" })
	proxy.HalfOpen(true)
	l.eventually("it is expired", func() bool { return waiting() == "" })
	proxy.HalfOpen(false)
	proxy.Cut()
	l.eventually("it waits again", func() bool { again := waiting(); return again != "" && again != first })
	held.Close()
	l.ends(r, 0)
}

func TestLockEnvironment(t *testing.T) {
	for _, bad := range []string{"default/it=line/x", "default/it=", "default/it=line/x@7"} {
		if _, _, err := heldAbove([]string{envHeld + "=other/it=x@0x1 " + bad}, config.Config{Fleet: "default"}, "it"); !errors.As(err, new(usageError)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	where, token, err := heldAbove([]string{envHeld + "=other/it=x@0x1 default/it=line/y@0x2a"}, config.Config{Fleet: "default"}, "it")
	if where != "line/y" || token != 42 || err != nil {
		t.Error(where, token, err)
	}
}
