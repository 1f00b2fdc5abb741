package filelock_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func (f *fleet) turnNode(n uint64) string { return f.root.Turn(incarnation.ID, n) }

// wantTurn wants that a turn's node holds exactly that turn.
func (f *fleet) wantTurn(want frame.Turn) {
	f.t.Helper()
	name := filelock.TurnName{Incarnation: want.Incarnation, Number: want.Number}
	got, err := filelock.ReadTurn(background(f.t), f.sess, f.root, name)
	if err != nil {
		f.t.Errorf("turn %d: %v", want.Number, err)
	} else if !bytes.Equal(got.Encode(), want.Encode()) {
		f.t.Errorf("turn %d is %s, want %s", want.Number, got.Encode(), want.Encode())
	}
}

// make makes a node by hand.
func (f *fleet) make(path, data string) {
	f.t.Helper()
	if _, err := f.sess.Create(background(f.t), path, []byte(data), 0); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) isThere(path string) bool {
	f.t.Helper()
	return f.node(path).Stat.Czxid != 0
}

// counts has the member's transactions counted from now on.
func (m *member) counts() *atomic.Int32 {
	n := &atomic.Int32{}
	m.proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) {
			n.Add(1)
		}
		return true
	})
	return n
}

// Head, the turn's node, our place and the next one change in one transaction.
func TestOneTransactionCommitsATurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	m := f.member("a")
	place := m.join()
	for n, label := range []string{"one", "two"} {
		hold := m.wait(place)
		old := f.queue()[0].Place
		turn := turn(hold, label)
		next, err := hold.Commit(background(t), filelock.Commit{Turn: turn, Again: true})
		if err != nil {
			t.Fatal(err)
		}
		f.wantTurn(turn)
		head, node, entries := f.head(), f.node(f.turnNode(turn.Number)), f.queue()
		if len(entries) != 1 || entries[0].Place == old {
			t.Fatalf("in the queue: %+v, was %s", entries, old)
		}
		if zxid := head.Stat.Mzxid; node.Stat.Czxid != zxid || int64(entries[0].Token) != zxid || next.Token() != uint64(zxid) {
			t.Errorf("turn %d: head was set at %#x, the turn made at %#x, the next place at %#x, its token is %#x",
				n, zxid, node.Stat.Czxid, entries[0].Token, next.Token())
		}
		got, err := frame.ParseHead(head.Data)
		if err != nil || got.Turn != turn.Number || got.Start != turn.Offset || got.Offset != turn.End() || got.Sum != turn.Sum() {
			t.Errorf("head %+v, %v, after turn %+v", got, err, turn)
		}
		place = next
	}
	f.wantTurns(1, 2)
}

// Whatever it is that fails, nothing of the commit happens.
func TestACommitThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fleet){
		"evicted":                             func(f *fleet) { f.evict(f.placeOf("a")) },
		"evicted, and the next has committed": func(f *fleet) { f.evict(f.placeOf("a")); f.make(f.turnNode(1), "the next's") },
		"head moved":                          func(f *fleet) { f.setHead("moved") },
		"head is gone":                        func(f *fleet) { is(f.t, "delete", f.sess.Delete(background(f.t), f.root.Head()), nil) },
		"the turn's node exists":              func(f *fleet) { f.make(f.turnNode(1), "foreign") },
		"turns/ is gone":                      func(f *fleet) { is(f.t, "delete", f.sess.Delete(background(f.t), f.root.Turns()), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, _, hold := newHolder(t)
			spoil(f)
			before, turns := f.head(), f.turns()
			next, err := tryCommit(t, hold, "late", true)
			var refused *filelock.RefusedError
			var made *filelock.TurnError
			var gone *filelock.NodeError
			switch name { // what does not pass is not told as a turn that was lost
			case "the turn's node exists":
				if !errors.As(err, &made) || errors.Is(err, filelock.ErrLost) {
					t.Errorf("commit: %v, want that the node is not believed", err)
				}
			case "turns/ is gone":
				if !errors.As(err, &gone) || errors.Is(err, filelock.ErrLost) {
					t.Errorf("commit: %v, want that it needs a person", err)
				}
			default:
				is(t, "commit", err, filelock.ErrLost)
			}
			if next != nil || errors.As(err, &refused) || errors.Is(err, filelock.ErrUnknown) {
				t.Errorf("next %v, %v", next, err)
			}
			if after := f.head(); !bytes.Equal(after.Data, before.Data) || *after.Stat != *before.Stat {
				t.Errorf("head is %s, was %s", after.Data, before.Data)
			}
			if !slices.Equal(f.turns(), turns) {
				t.Errorf("in turns/: %v, were %v", f.turns(), turns)
			}
			f.wantAgents("") // and so nobody is held up
		})
	}
}

func TestBeginMakesHeadAndTheFirstNodeAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	hold := f.member("a").hold()
	if err := begin(t, hold, "begun"); err != nil {
		t.Fatal(err)
	}
	head, first := f.head(), f.node(f.turnNode(0))
	if head.Stat.Czxid != first.Stat.Czxid {
		t.Errorf("head was made at %#x, turn 0 at %#x", head.Stat.Czxid, first.Stat.Czxid)
	}
	f.wantTurn(frame.First(incarnation, run))
	f.wantAgents("a") // the turn goes on
	f.commit(hold, "one", false)
	f.wantTurns(0, 1)
}

func TestABeginningThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*fleet){
		"evicted":              func(f *fleet) { f.evict(f.placeOf("a")) },
		"another has begun":    func(f *fleet) { f.setHead("another") },
		"turn 0 is there":      func(f *fleet) { f.make(f.turnNode(0), "foreign") },
		"evicted, begun since": func(f *fleet) { f.evict(f.placeOf("a")); f.commit(f.member("b").hold(), "b", false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			hold := f.member("a").hold()
			spoil(f)
			before, turns := f.head(), f.turns()
			err := begin(t, hold, "late")
			var made *filelock.TurnError // by hand, or it would be another's whose head is there
			if name != "turn 0 is there" {
				is(t, "begin", err, filelock.ErrLost)
			} else if !errors.As(err, &made) || made.Node != f.turnNode(0) {
				t.Errorf("begin: %v, want that the node is not believed", err)
			}
			if after := f.head(); !bytes.Equal(after.Data, before.Data) || !slices.Equal(f.turns(), turns) {
				t.Errorf("head is %s, was %s; turns %v, were %v", after.Data, before.Data, f.turns(), turns)
			}
		})
	}
}

func TestPublishNeedsTheVersionThatWasRead(t *testing.T) {
	t.Parallel()
	f, _, hold := newHolder(t)
	f.setHead("moved")
	is(t, "publish", hold.Publish(background(t), beginning("stale")), filelock.ErrLost)
	f.wantHead("moved")
}

// with makes nodes, and gives the operations that delete them.
func (f *fleet) with(names ...string) (nodes []string, ops []any) {
	f.t.Helper()
	for _, name := range names {
		node := string(f.root) + "/" + name
		nodes = append(nodes, node)
		ops = append(ops, &zk.DeleteRequest{Path: node, Version: -1})
		f.make(node, "")
	}
	return nodes, ops
}

func TestARefusedOperationOfTheCallersLeavesTheTurn(t *testing.T) {
	t.Parallel()
	for at := range 3 {
		t.Run(fmt.Sprint("operation ", at), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			f.setHead("before")
			a, b := f.member("a"), f.member("b")
			hold := a.hold()
			waits := b.waits(b.join())
			nodes, ops := f.with("x", "y", "z")
			is(t, "delete", f.sess.Delete(background(t), nodes[at]), nil)
			turn := turn(hold, "one")
			next, err := hold.Commit(background(t), filelock.Commit{Turn: turn, Again: true, With: ops, Drop: []string{f.turnNode(9)}})
			var refused *filelock.RefusedError
			if !errors.As(err, &refused) || refused.At != at || !errors.Is(err, zk.ErrNoNode) || next != nil {
				t.Fatalf("next %v, %v", next, err)
			}
			if errors.Is(err, filelock.ErrLost) || errors.Is(err, filelock.ErrUnknown) {
				t.Errorf("%v", err)
			}
			for i, node := range nodes {
				if f.isThere(node) != (i != at) {
					t.Errorf("%s is there: %v", node, i == at)
				}
			}
			f.wantHead("before")
			f.wantTurns()
			f.wantAgents("a b")
			ops = slices.Delete(ops, at, at+1)
			next, err = hold.Commit(background(t), filelock.Commit{Turn: turn, Again: true, With: ops})
			if err != nil || next == nil {
				t.Fatalf("then: %v, %v", next, err)
			}
			for _, node := range nodes {
				if f.isThere(node) {
					t.Errorf("%s is still there", node)
				}
			}
			f.wantTurn(turn)
			f.wantAgents("b a")
			f.wantHold(waits, "one")
		})
	}
}

func TestAnyOperationOfTheCallersMayBeRefused(t *testing.T) {
	t.Parallel()
	f, _, hold := newHolder(t)
	nodes, _ := f.with("x")
	for what, op := range map[string]any{
		"a create": &zk.CreateRequest{Path: nodes[0], Acl: f.sess.ACL()},
		"a set":    &zk.SetDataRequest{Path: nodes[0], Version: 7},
		"a check":  &zk.CheckVersionRequest{Path: nodes[0], Version: 7},
	} {
		_, err := hold.Commit(background(t), filelock.Commit{Turn: turn(hold, "one"), With: []any{op}})
		var refused *filelock.RefusedError
		if !errors.As(err, &refused) || refused.At != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.commit(hold, "one", false)
}

// With the place, the right to say anything about the operations is gone.
func TestAnEvictedHoldersOperationsAreNotRefusedButLost(t *testing.T) {
	t.Parallel()
	f, _, hold := newHolder(t)
	nodes, ops := f.with("x")
	is(t, "delete", f.sess.Delete(background(t), nodes[0]), nil)
	f.evict(f.placeOf("a"))
	_, err := hold.Commit(background(t), filelock.Commit{Turn: turn(hold, "late"), With: ops})
	is(t, "commit", err, filelock.ErrLost)
	var refused *filelock.RefusedError
	if errors.As(err, &refused) {
		t.Error(err)
	}
}

// drops makes nodes of turns, from the number 100 on.
func (f *fleet) drops(n int) (nodes []string) {
	f.t.Helper()
	for i := range n {
		nodes = append(nodes, f.turnNode(uint64(100+i)))
		f.make(nodes[i], "")
	}
	return nodes
}

func TestADropThatSomebodyElseDidIsLeftOut(t *testing.T) {
	t.Parallel()
	f, m, hold := newHolder(t)
	nodes := f.drops(5)
	for _, i := range []int{2, 4} {
		is(t, "delete", f.sess.Delete(background(t), nodes[i]), nil)
	}
	_, ops := f.with("x")
	multis := m.counts()
	turn := turn(hold, "one")
	next, err := hold.Commit(background(t), filelock.Commit{Turn: turn, Again: true, With: ops, Drop: nodes})
	if err != nil || next == nil {
		t.Fatalf("next %v, %v", next, err)
	}
	if n := multis.Load(); n != 2 {
		t.Errorf("%d transactions, want one more, however many nodes were gone", n)
	}
	if !slices.Equal(hold.Kept(), nodes[3:]) {
		t.Errorf("%q stay, want those behind the first that was gone, %q", hold.Kept(), nodes[3:])
	}
	f.wantTurn(turn)
	f.wantTurns(1, 103)
	f.wantAgents("a")
	if f.head().Stat.Version != 1 || next.Token() != uint64(f.head().Stat.Mzxid) {
		t.Errorf("head's version %d, the next place's token %#x", f.head().Stat.Version, next.Token())
	}
	f.commit(m.wait(next), "two", false)
}

func TestACommitDropsAtMostSoMany(t *testing.T) {
	t.Parallel()
	f, _, hold := newHolder(t)
	nodes := f.drops(70)
	if _, err := hold.Commit(background(t), filelock.Commit{Turn: turn(hold, "one"), Drop: nodes}); err != nil {
		t.Fatal(err)
	}
	f.wantTurns(1, 164, 165, 166, 167, 168, 169)
}

// The first sending may have done it all: what the second is told proves nothing.
func TestAfterALostAnswerNothingIsLeftOutAndNothingIsRefused(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]func(f *fleet, c *filelock.Commit){
		"a drop": func(f *fleet, c *filelock.Commit) { c.Drop = []string{f.turnNode(9)} },
		"one of With": func(f *fleet, c *filelock.Commit) {
			c.With = []any{&zk.DeleteRequest{Path: f.turnNode(9), Version: -1}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, m, hold := newHolder(t)
			var multis atomic.Int32
			m.proxy.OnRequest(func(p []byte) bool { return !zktest.IsMulti(p) || multis.Add(1) > 1 })
			c := filelock.Commit{Turn: turn(hold, "one"), Again: true}
			commit(f, &c)
			_, err := hold.Commit(background(t), c)
			is(t, "commit", err, filelock.ErrUnknown)
			var refused *filelock.RefusedError
			if errors.Is(err, filelock.ErrLost) || errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
			if n := multis.Load(); n != 2 {
				t.Errorf("sent %d times", n)
			}
			m.proxy.OnRequest(nil)
			head, err := m.Settle(background(t), hold)
			if err != nil || head.Agent != "before" {
				t.Errorf("settled: %q, %v", head.Agent, err)
			}
			f.wantTurns()
			f.wantAgents("")
		})
	}
}

// Head is read, found to be the predecessor's commit, and so the newest: it costs no
// second list.
func TestHeadThatFollowsIsBelievedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	a, b := f.member("a"), f.member("b")
	hold := a.hold()
	waits := b.waits(b.join())
	asked := make(chan int32, 100)
	b.proxy.OnRequest(func(p []byte) bool {
		if op := zktest.Op(p); op != zktest.OpPing {
			asked <- op
		}
		return true
	})
	f.commit(hold, "one", false)
	got := f.get(waits)
	b.proxy.OnRequest(nil)
	if got.err != nil || labelOf(got.hold) != "one" {
		t.Fatal(got.err)
	}
	if len(asked) != 1 || <-asked != zktest.OpGetData {
		t.Errorf("%d requests more than the read of head", len(asked))
	}
}

// The one before us went without a commit: another may be before us still.
func TestAPredecessorThatLeavesMakesUsLookAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	a, b, c := f.member("a"), f.member("b"), f.member("c")
	hold := a.hold()
	inBetween := b.join()
	waits := c.waits(c.join())
	inBetween.Leave()
	f.commit(hold, "one", false)
	f.wantHold(waits, "one")
}

func TestConnectionCounts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	hold := m.hold()
	first := hold.Connection()
	m.proxy.Cut()
	is(t, "confirm", hold.Confirm(), nil)
	if again := hold.Connection(); again <= first {
		t.Errorf("connection %d after %d", again, first)
	}
}

// A head of another edition is nobody's to go on from; who has a place is seen all the same.
func TestAHeadOfAnotherEdition(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	place := m.join()
	f.make(f.root.Head(), "head 3 something=else")
	if entries, err := filelock.Look(background(t), f.sess, f.root); err != nil || len(entries) != 1 {
		t.Errorf("look: %v, %v", entries, err)
	}
	_, err := place.Wait(background(t))
	is(t, "wait", err, frame.ErrFormat)
	f.wantAgents("")
	_, _, err = filelock.FreshHead(background(t), f.sess, f.root)
	is(t, "read", err, frame.ErrFormat)
}

// A quorum is asked before head is read: a read of a server that is cut off is no news.
func TestFreshHeadIsNotContentWithARead(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	s := &stale{Session: f.member("a").sess}
	if _, _, err := filelock.FreshHead(background(t), s, f.root); err == nil || s.writes == 0 {
		t.Errorf("read without a quorum: %v", err)
	}
}
