package fleet_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// goesOn has another agent, in this process, write a turn.
func (n *nursery) goesOn(name string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	opts, err := n.orders(name).options(&fleet.Ticker{Agent: func() string { return name }, Lines: 1, Turns: 1})
	if err != nil {
		n.t.Fatal(err)
	}
	agent := fleet.New(opts)
	if err := agent.Run(ctx); err != nil {
		n.t.Errorf("%s: %v", name, err)
	}
	if turns, _ := agent.Acknowledged(); turns != 1 {
		n.t.Errorf("%s had %d turns", name, turns)
	}
}

func TestRun_aCrashInATurnHealsWithoutWaitingForTheSession(t *testing.T) {
	t.Parallel()
	n := newNursery(t)
	a, b := n.child("a"), (*child)(nil)
	a.turn("one")
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

func TestRun_severalThatCrashAtOnce(t *testing.T) {
	t.Parallel()
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
	last.turn("last")
	n.wantOpen(sessions...)
	n.verify()
}

// Who waits behind a dead one removes that one, and takes nobody else for dead.
func TestRun_aDeadWaiterCostsTheHolderNothing(t *testing.T) {
	t.Parallel()
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
	c.turn("two")
	if got := n.records(); strings.Join(got, " ") != "one two" {
		t.Errorf("the file holds %q", got)
	}
}

// The holder dies when its commit is on its way. The commit arrives when the next one's
// turn is over.
func TestRun_aCrashDuringTheCommitHeals(t *testing.T) {
	t.Parallel()
	n := newNursery(t)
	arrived, held := make(chan struct{}), make(chan struct{})
	var dead int64
	var once sync.Once
	a := n.child("a")
	a.turn("one")
	a.hear("turn")
	dead = n.queued("a")
	n.server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at == zkdev.BeforeEffect && r.Session == dead && isCommit(r.Paths) {
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
}

// The holder is stopped: it keeps its turn, and ends it when it is continued.
func TestRun_aStoppedHolderIsNotTakenForDead(t *testing.T) {
	t.Parallel()
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
	b.turn("two")
	if got := n.records(); strings.Join(got, " ") != "one two" {
		t.Errorf("the file holds %q", got)
	}
}

// An agent that lost its session goes on in another; its lifeline is the same, and its
// death is noticed.
func TestRun_aLifelineSpansSessions(t *testing.T) {
	t.Parallel()
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
func TestRun_whoComesAfterTheDeathLearnsOfIt(t *testing.T) {
	t.Parallel()
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
func TestRun_theNameOfADeadAgentIsFreeAtOnce(t *testing.T) {
	t.Parallel()
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
