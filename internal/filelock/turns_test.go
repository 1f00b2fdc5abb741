package filelock_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestTurnsComeInTheOrderOfJoining(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	members := []*member{f.member("a"), f.member("b"), f.member("c")}
	var waits []<-chan outcome
	for _, m := range members {
		waits = append(waits, m.waits(m.join()))
	}
	f.wantAgents("a b c")
	var last frame.Token
	for round := range 4 {
		for i, m := range members {
			got := f.get(waits[i])
			if got.err != nil {
				t.Fatalf("%s: %v", m.name, got.err)
			}
			entry := f.queue()[0]
			if entry.Agent != m.name || entry.Token != uint64(got.hold.Token()) || entry.Session != m.sess.ID() {
				t.Errorf("the first is %+v, the holder %s, token %d", entry, m.name, got.hold.Token())
			}
			if got.hold.Token() <= last {
				t.Errorf("token %d after %d", got.hold.Token(), last)
			}
			last = got.hold.Token()
			f.wantWaiting(waits[(i+1)%3])
			f.wantWaiting(waits[(i+2)%3])
			head := fmt.Sprintf("%d%s", round, m.name)
			next := f.commit(got.hold, head, true)
			f.wantHead(head)
			if next != nil {
				waits[i] = m.waiting(background(t), next)
			}
		}
	}
}

func TestTheNextPlaceComesWithTheCommit(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	hold := m.hold()
	if head, ok := hold.Head(); ok {
		t.Errorf("head is %+v before anybody made one", head)
	}
	if err := begin(t, hold, "begun"); err != nil {
		t.Fatal(err)
	}
	writes := atomic.Int32{}
	m.proxy.OnRequest(func(p []byte) bool {
		switch zktest.Op(p) {
		case zktest.OpMulti, zktest.OpCreate, zktest.OpDelete:
			writes.Add(1)
		}
		return true
	})
	next := f.commit(hold, "one", true)
	if f.head().Stat.Mzxid != int64(f.queue()[0].Token) {
		t.Error("head and the next place are of two transactions")
	}
	hold = m.wait(next)
	next = f.commit(hold, "two", true)
	set := f.head().Stat.Mzxid
	hold = m.wait(next)
	if hold.Token() != frame.Token(set) || labelOf(hold) != "two" {
		t.Errorf("token %d, head set at %d, head %q", hold.Token(), set, labelOf(hold))
	}
	if n := writes.Load(); n != 2 {
		t.Errorf("%d writes for two turns", n)
	}
	f.commit(hold, "three", false)
	f.wantAgents("")
	f.wantHead("three")
}

func TestPublishKeepsTheTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	hold := f.member("a").hold()
	for _, head := range []string{"made", "set", "again"} {
		if err := hold.Publish(background(t), beginning(head)); err != nil {
			t.Fatal(err)
		}
		f.wantHead(head)
		if err := hold.Confirm(); labelOf(hold) != head || err != nil {
			t.Errorf("head %q, confirm %v", labelOf(hold), err)
		}
	}
	f.wantAgents("a")
	f.commit(hold, "committed", false)
	f.wantHead("committed")
}

func TestReleaseAndLeaveAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	f.setHead("before")
	hold := a.hold()
	inBetween, last := b.join(), c.join()
	waits := c.waits(last)
	inBetween.Leave()
	f.wantAgents("a c")
	hold.Release()
	is(t, "a released hold", hold.Confirm(), filelock.ErrLost)
	f.wantAgents("c")
	f.wantHold(waits, "before")
	if _, err := tryCommit(t, hold, "late", false); err == nil {
		t.Error("a released hold was committed")
	}
	f.wantHead("before")
	f.wantTurns()
}

func TestACommitWakesOneWaiter(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	first := f.member("first")
	hold := first.hold()
	const waiters = 20
	asked := make([]atomic.Int32, waiters)
	members, waits := make([]*member, waiters), make([]<-chan outcome, waiters)
	for i := range waiters {
		members[i] = f.member(fmt.Sprintf("w%02d", i))
		waits[i] = members[i].waits(members[i].join())
	}
	for i, m := range members {
		m.proxy.OnRequest(func(p []byte) bool {
			switch zktest.Op(p) {
			case zktest.OpPing, zktest.OpSync:
			default:
				asked[i].Add(1)
			}
			return true
		})
	}
	f.commit(hold, "one", false)
	if got := f.get(waits[0]); got.err != nil {
		t.Fatal(got.err)
	}
	// Whoever was woken has been told by now, and would have asked.
	for i, m := range members {
		if err := m.sess.Sync(background(t), "/"); err != nil {
			t.Fatal(err)
		}
		if n := asked[i].Load(); i > 0 && n > 0 || i == 0 && n == 0 {
			t.Errorf("waiter %d sent %d requests", i, n)
		}
	}
}

// What one contended cycle costs, counted on the wires.
func TestCostOfAContendedCycle(t *testing.T) {
	t.Parallel()
	for _, agents := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(agents, " agents"), func(t *testing.T) {
			const rounds = 20
			count := contend(t, agents, rounds)
			turns := agents * rounds
			writes := count[zktest.OpMulti] + count[zktest.OpCreate] + count[zktest.OpDelete]
			lists, reads, syncs := count[zktest.OpGetChildren], count[zktest.OpGetData], count[zktest.OpSync]
			t.Logf("a turn: %.2f writes, %.2f lists, %.2f reads, %.2f syncs", float64(writes)/float64(turns),
				float64(lists)/float64(turns), float64(reads)/float64(turns), float64(syncs)/float64(turns))
			// A place that goes between the list and the watch costs another list: with two
			// agents that is every second turn at best.
			most := turns + turns/2
			if agents == 2 {
				most = 2 * turns
			}
			// Each list is followed by a read of the place ahead, each turn reads head; and who
			// joined reads its own place once.
			if writes != turns || lists > most || reads > turns+lists+agents || syncs > 0 {
				t.Error("more than promised")
			}
		})
	}
}

// contend has the agents take turns, and counts their requests by opcode.
func contend(t testing.TB, agents, rounds int) map[int32]int {
	f := newFleet(t)
	f.setHead("before")
	var mu sync.Mutex
	count := map[int32]int{}
	members, places := make([]*member, agents), make([]*filelock.Place, agents)
	for i := range agents {
		members[i] = f.member(fmt.Sprint("m", i))
		places[i] = members[i].join()
		members[i].proxy.OnRequest(func(p []byte) bool {
			mu.Lock()
			defer mu.Unlock()
			count[zktest.Op(p)]++
			return true
		})
	}
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() {
			place, drop := places[i], []string(nil)
			for round := range rounds {
				hold, err := place.Wait(background(t))
				if err == nil {
					turn := turn(hold, m.name)
					place, err = hold.Commit(background(t), filelock.Commit{Turn: turn, Again: round < rounds-1, Drop: drop})
					drop = []string{f.root.Turn(turn.Incarnation, turn.Number)}
				}
				if err != nil {
					t.Errorf("%s: %v", m.name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(f.turns()); n != agents { // the last of each
		t.Errorf("%d nodes are left", n)
	}
	mu.Lock()
	defer mu.Unlock()
	return count
}
