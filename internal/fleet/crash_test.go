package fleet_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// goesOn has another agent, in this process, write a turn.
func (n *nursery) goesOn(name string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	agent := fleet.New(n.orders(name).options(&fleet.Ticker{Agent: func() string { return name }, Lines: 1, Turns: 1}))
	if err := agent.Run(ctx); err != nil {
		n.t.Errorf("%s: %v", name, err)
	}
	if turns, _ := agent.Acknowledged(); turns != 1 {
		n.t.Errorf("%s had %d turns", name, turns)
	}
}

func TestACrashInATurnHealsWithoutWaitingForTheSession(t *testing.T) {
	n := newNursery(t)
	a, b := n.child("a"), (*child)(nil)
	a.hear("turn")
	a.write("one")
	a.hear("acknowledged")
	a.hear("turn")
	b = n.child("b")
	dead, next := n.queued("a"), n.queued("b") // b waits already
	a.kill()
	b.hear("turn")
	n.wantOpen(dead, next)
	b.write("two")
	b.hear("acknowledged")
	b.hear("turn")
	b.kill()
	n.goesOn("c") // c comes when b is dead
	n.wantOpen(dead, next)
	n.verify()
	if got := n.records(); len(got) != 3 || got[0] != "one" || got[1] != "two" {
		t.Errorf("the file holds %q", got)
	}
}

func TestSeveralThatCrashAtOnce(t *testing.T) {
	n := newNursery(t)
	var dead []*child
	var sessions []int64
	for i := range 4 {
		c := n.child(fmt.Sprint("dead-", i))
		dead = append(dead, c)
		sessions = append(sessions, n.queued(c.name)) // one behind the other
	}
	last := n.child("last")
	sessions = append(sessions, n.queued("last"))
	for _, i := range []int{1, 0, 3, 2} {
		dead[i].kill()
	}
	last.hear("turn")
	last.write("last")
	last.hear("acknowledged")
	n.wantOpen(sessions...)
	n.verify()
}

// Who waits behind a dead one removes that one, and takes nobody else for dead.
func TestADeadWaiterCostsTheHolderNothing(t *testing.T) {
	n := newNursery(t)
	a := n.child("a")
	a.hear("turn")
	b := n.child("b")
	n.queued("b")
	c := n.child("c")
	n.queued("c")
	b.kill()
	n.until("b is removed", func() bool { _, there := n.place("b"); return !there })
	a.write("one")
	a.hear("acknowledged")
	c.hear("turn")
	c.write("two")
	c.hear("acknowledged")
	if got := n.records(); strings.Join(got, " ") != "one two" {
		t.Errorf("the file holds %q", got)
	}
}

// The holder dies when its commit is on its way, its frame behind head. The commit
// arrives when the next one's turn is over.
func TestACrashDuringTheCommitHeals(t *testing.T) {
	n := newNursery(t)
	arrived, held := make(chan struct{}), make(chan struct{})
	var dead int64
	var once sync.Once
	a := n.child("a")
	a.hear("turn")
	a.write("one")
	a.hear("acknowledged")
	a.hear("turn")
	dead = n.queued("a")
	n.server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at == zkdev.BeforeEffect && r.Session == dead && r.Op == zkdev.OpMulti {
			once.Do(func() { close(arrived) })
			<-held
		}
		return zkdev.Proceed
	})
	release := sync.OnceFunc(func() { close(held) })
	defer release()
	a.write("never committed")
	select {
	case <-arrived:
	case <-time.After(30 * time.Second):
		t.Fatal("a does not commit")
	}
	a.kill()
	n.goesOn("b")
	n.wantOpen(dead)
	release()
	n.goesOn("c")
	n.verify()
	if got := n.records(); len(got) != 3 || strings.Contains(strings.Join(got, " "), "never committed") {
		t.Errorf("the file holds %q", got)
	}
	if orphans, err := os.ReadDir(n.path + ".orphans"); err != nil || len(orphans) != 1 {
		t.Errorf("put aside: %v, %v", orphans, err)
	}
}

// The holder is stopped: it keeps its turn, and ends it when it is continued.
func TestAStoppedHolderIsNotTakenForDead(t *testing.T) {
	n := newNursery(t)
	a := n.child("a")
	a.hear("turn")
	b := n.child("b")
	n.queued("b")
	a.stop()
	place, _ := n.place("a")
	a.write("one") // which it reads when it can
	// b looks at a's lifeline, again: it is written into a's place.
	n.touch(place.Place)
	if e, ok := n.place("a"); !ok || e.Place != place.Place {
		t.Error("a lost its place")
	}
	a.resume()
	a.hear("acknowledged")
	b.hear("turn")
	b.write("two")
	b.hear("acknowledged")
	if got := n.records(); strings.Join(got, " ") != "one two" {
		t.Errorf("the file holds %q", got)
	}
}

// An agent that lost its session goes on in another; its lifeline is the same, and its
// death is noticed.
func TestALifelineSpansSessions(t *testing.T) {
	n := newNursery(t)
	a := n.child("a")
	a.hear("turn")
	life := n.lives()
	first := n.queued("a")
	a.stop()
	n.server.ExpireSession(first)
	a.resume()
	a.write("fenced")
	a.hear("turn")
	second := n.queued("a")
	if first == second || n.lives() != life {
		t.Errorf("sessions 0x%x and 0x%x, lifelines %s and %s", first, second, life, n.lives())
	}
	a.kill()
	n.goesOn("b")
	n.wantOpen(second)
	n.verify()
}

// Nobody waits when the holder dies, and the first to come clears up what the dead left
// on the volume: it must still learn of the death, and not just then clear it away.
func TestWhoComesAfterTheDeathLearnsOfIt(t *testing.T) {
	n := newNursery(t)
	a := n.child("a")
	a.hear("turn")
	dead := n.queued("a")
	life := n.lives()
	a.kill()
	other := n.child("other") // which comes, and goes on at once
	other.hear("turn")
	if !strings.Contains(n.lives(), life) {
		t.Error("a's lifeline went before its place")
	}
	n.wantOpen(dead)
	other.write("mine")
	other.hear("acknowledged")
	other.hear("turn")
	other.kill()
	n.goesOn("third") // by now a is buried
	if strings.Contains(n.lives(), life) {
		t.Error("a's lifeline stays for ever")
	}
	n.wantOpen(dead)
}

// The names of the dead are free again, the lowest first, while their sessions last.
func TestTheNameOfADeadAgentIsFreeAtOnce(t *testing.T) {
	n := newNursery(t)
	o := n.orders("")
	a := n.childWith(o)
	a.hear("turn")
	dead := n.queued("agent-1")
	b := n.childWith(o)
	n.queued("agent-2")
	a.kill()
	b.hear("turn")
	c := n.childWith(o)
	n.queued("agent-1")
	n.wantOpen(dead)
	status, err := fleet.Look(t.Context(), n.sess, n.root, "x")
	if err != nil || len(status.Agents) != 2 || len(status.Waiting) != 1 {
		t.Errorf("%+v, %v", status, err)
	}
	b.write("two")
	c.hear("turn")
}

// What others do to the directory costs no live agent its turn.
func TestALiveHolderWhoseLifelineWasTakenAway(t *testing.T) {
	for name, meddle := range map[string]func(path string) error{
		"removed": os.Remove,
		"a file": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o644)
		},
		"a link": func(path string) error {
			if err := os.Rename(path, path+"-moved"); err != nil {
				return err
			}
			return os.Symlink(filepath.Base(path)+"-moved", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNursery(t)
			a := n.child("a")
			a.hear("turn")
			if err := meddle(filepath.Join(n.alive(), n.lives())); err != nil {
				t.Fatal(err)
			}
			b := n.child("b")
			n.queued("b")
			place, _ := n.place("a")
			a.write("one")
			a.hear("acknowledged")
			b.hear("turn")
			b.write("two")
			b.hear("acknowledged")
			if got := n.records(); strings.Join(got, " ") != "one two" {
				t.Errorf("the file holds %q, a's place was %s", got, place.Place)
			}
		})
	}
}

// Without a lifeline the session's end is what the others wait for.
func TestWithoutALifelineTheSessionIsTheBound(t *testing.T) {
	n := newNursery(t)
	if err := os.WriteFile(n.alive(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	opts := n.orders("warned").options(&fleet.Ticker{Agent: func() string { return "warned" }, Lines: 1, Turns: 3})
	opts.Log = zap.New(core)
	if err := fleet.New(opts).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if logs.Len() != 1 || logs.FilterMessageSnippet("until its session expires").Len() != 1 ||
		!strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "is not a directory") {
		t.Errorf("it warns %v", logs.All())
	}
	a := n.child("a")
	a.hear("turn")
	b := n.child("b")
	dead := n.queued("a")
	n.queued("b")
	if place, _ := n.place("a"); place.Life != "" {
		t.Errorf("a says that its death is noticed by %q", place.Life)
	}
	a.kill()
	if !n.server.ExpireSession(dead) {
		t.Error("a's session had ended before")
	}
	b.hear("turn")
}

func TestAgentsThatEndLeaveNothingBehind(t *testing.T) {
	n := newNursery(t)
	fleetOf := func(agents int) {
		var group sync.WaitGroup
		for i := range agents {
			name := fmt.Sprint("a", i)
			opts := n.orders(name).options(&fleet.Ticker{Agent: func() string { return name }, Lines: 1, Turns: 20})
			group.Go(func() {
				if err := fleet.New(opts).Run(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		group.Wait()
	}
	fleetOf(1) // what the process has from here on, it keeps
	settled := func(before, goroutines int) bool {
		return descriptors(t) <= before && runtime.NumGoroutine() <= goroutines
	}
	var before, goroutines int
	n.until("the first has ended", func() bool {
		runtime.Gosched()
		stats := n.server.Stats()
		before, goroutines = descriptors(t), runtime.NumGoroutine()
		return stats.Connections == 1 && stats.Watches == 0
	})
	fleetOf(4)
	n.until("descriptors and goroutines are as before", func() bool { return settled(before, goroutines) })
	if got := n.lives(); got != "" {
		t.Errorf("left on the volume: %s", got)
	}
	if s := n.server.Stats(); s.Watches != 0 || s.Ephemerals != 0 {
		t.Errorf("left in ZooKeeper: %+v", s)
	}
	n.verify()
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
