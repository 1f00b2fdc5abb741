package filelock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
)

func TestForeignNodesAreIgnoredAndReported(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	names := []string{
		"_c_", "_c_x", "x", "lock-0000000000", id("0"), id("0") + "-", id("0") + "-1", id("0") + "-00000000000x",
		id("g") + nth(0), id("A") + nth(0), "_c_" + id("0") + "-lock" + nth(0), "-0000000000", "ü",
		id("0") + "_0000000000", id("0") + "--00000001",
	}
	for i, name := range names {
		f.plant(name, []int32{0, zk.FlagEphemeral}[i%2])
	}
	a, b := f.member("a"), f.member("b")
	hold := a.hold()
	waits := b.waits(b.join())
	next := f.commit(hold, "one", true)
	f.wantHold(waits, "one")
	next.Leave()
	entries := f.queue()
	if len(entries) != 1+len(names) || entries[0].Agent != "b" || entries[0].Foreign {
		t.Fatalf("%d entries, the first is %+v", len(entries), entries[0])
	}
	for _, e := range entries[1:] {
		if !e.Foreign {
			t.Errorf("%q counts as a place", e.Place)
		}
	}
	for _, name := range names {
		if b.log.FilterMessageSnippet("foreign").FilterField(zapName(name)).Len() == 0 {
			t.Errorf("%q was not reported", name)
		}
		f.evict(name)
	}
	f.wantAgents("b")
}

// A node with a place's name that belongs to no session does not go by itself.
func TestAPersistentNodeAheadIsWaitedForAndCanBeEvicted(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	a, b := f.member("a"), f.member("b")
	a.hold() // so that b's sequence is not the first
	planted := f.plant(id("0")+nth(0), 0)
	waits := b.waits(b.join())
	f.evict(f.placeOf("a"))
	// b watches the planted one now, after one more list.
	eventually(t, "b warns", func() bool { return b.log.FilterMessageSnippet("evict").Len() > 0 })
	f.wantWaiting(waits)
	e := f.queue()[0]
	if e.Place != planted || e.Session != 0 || e.Foreign {
		t.Errorf("%+v", e)
	}
	f.evict(planted)
	f.wantHold(waits, "")
}

// A client that has died and whose session lives on.
func TestAPhantomPlaceCanBeEvicted(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.plant(id("0")+"-", zk.FlagEphemeral|zk.FlagSequence)
	a := f.member("a")
	waits := a.waits(a.join())
	f.evict(f.queue()[0].Place)
	f.wantHold(waits, "")
}

func TestLookInOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, name := range []string{
		"zzz", id("f") + nth(1), id("0") + nth(3), "aaa", id("a") + nth(2147483647), id("5") + nth(2),
		id("b") + "--2147483648", id("c") + "--2147483647", "_c_",
	} {
		f.plant(name, 0)
	}
	var got []string
	for _, e := range f.queue() {
		if e.Foreign {
			got = append(got, "foreign")
		} else {
			got = append(got, e.Place[:1])
		}
	}
	if want := "b c f 5 0 a foreign foreign foreign"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	none, err := filelock.Look(background(t), f.sess, f.root+"-none")
	if err != nil || none != nil {
		t.Errorf("a fleet that is not there: %v, %v", none, err)
	}
}

func TestEvictOfNobodyIsFine(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.evict(id("0") + nth(0))
}

// What cannot be a place is refused, in time, and nothing else is deleted.
func TestEvictTouchesNothingButPlaces(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("head")
	for _, place := range []string{"", ".", "../head", "../agents", "../turns", "with\x00nul"} {
		ctx, cancel := context.WithTimeout(background(t), time.Second)
		err := filelock.Evict(ctx, f.sess, f.root, place)
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("evict %q: %v", place, err)
		}
		cancel()
	}
	f.wantHead("head")
	for _, node := range []string{f.root.Queue(1), f.root.Agents()} {
		if _, err := f.sess.Get(background(t), node); err != nil {
			t.Errorf("%s: %v", node, err)
		}
	}
}
