package fleet_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// setHead is somebody who restores what ZooKeeper held.
func (s *site) setHead(sess fleet.Session, data []byte) {
	s.t.Helper()
	ops := []any{&zk.SetDataRequest{Path: s.root.Head(), Data: data, Version: -1}}
	if _, err := sess.Get(s.t.Context(), s.root.Head()); err != nil {
		ops = []any{&zk.CreateRequest{Path: s.root.Head(), Data: data, Acl: sess.ACL()}}
	}
	if _, err := sess.Multi(s.t.Context(), ops...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) getHead(sess fleet.Session) []byte {
	s.t.Helper()
	if err := queue.Barrier(s.t.Context(), sess, string(s.root)); err != nil { // its server may lag
		s.t.Fatal(err)
	}
	node, err := sess.Get(s.t.Context(), s.root.Head())
	if err != nil {
		s.t.Fatal(err)
	}
	return node.Data
}

// A ZooKeeper that was wiped, or restored to the state of any earlier turn, is not
// believed: by newcomers, nor by agents that run.
func TestRun_aZooKeeperThatWentBackIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	sess := s.onlooker()
	var past [][]byte
	for turn := range 4 {
		s.turns(fmt.Sprint("turn ", turn), 1)
		past = append(past, s.getHead(sess))
	}
	begun := strings.Replace(string(past[0]), " turn=1 ", " turn=0 ", 1)
	now := func() []byte { return past[len(past)-1] }
	for name, back := range map[string]func(){
		"wiped": func() {
			if err := sess.Delete(t.Context(), s.root.Head()); err != nil {
				t.Fatal(err)
			}
		},
		// Then the last turn looks like one whose holder died before its commit.
		"one turn back":       func() { s.setHead(sess, past[len(past)-2]) },
		"two turns back":      func() { s.setHead(sess, past[len(past)-3]) },
		"at the first turn":   func() { s.setHead(sess, past[0]) },
		"at another's turn 0": func() { s.setHead(sess, []byte(begun)) },
		"damaged":             func() { s.setHead(sess, now()[:20]) },
		"emptied":             func() { s.setHead(sess, nil) },
		"a newer edition's":   func() { s.setHead(sess, []byte(strings.Replace(string(now()), "head 2 ", "head 3 ", 1))) },
		"not ours":            func() { s.setHead(sess, []byte(`{"turn":4}`)) },
	} {
		back()
		before := s.everything()
		wantRefused(t, name, s.run(s.calm(&script{name: "x", count: 1})))
		s.wantUnchanged(before)
		s.setHead(sess, now())

		source := &script{name: name, count: 2}
		source.before = func(turn int) {
			if turn == 1 {
				past = append(past, s.getHead(sess))
				back()
				before = s.everything()
			}
		}
		wantRefused(t, name+", while an agent runs", s.run(s.calm(source)))
		s.wantUnchanged(before)
		if source.Pending() != 1 {
			t.Errorf("%s: %d records are not acknowledged, want 1", name, source.Pending())
		}
		s.setHead(sess, now())
	}
	s.turns("goes on", 1)
	s.verify()
}

// Another ZooKeeper stands at the same address, with nothing in it, or with head as it
// was some turns ago. Its tokens have nothing to do with the old one's.
func TestRun_anotherZooKeeperInItsPlaceIsRefused(t *testing.T) {
	t.Parallel()
	for name, ago := range map[string]int{"empty": -1, "one turn back": 1, "two turns back": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, err := zkdev.Start(zkdev.Config{TickTime: 100 * time.Millisecond, MaxSessionTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			addr := server.Addr()
			s := newSite(t, addr)
			source := &script{name: "mine", count: 6}
			var heads [][]byte
			var before map[string]string
			var second *zkdev.Server
			source.before = func(turn int) {
				if turn > 0 && turn <= 3 {
					heads = append(heads, s.headAt(addr))
				}
				if turn != 3 {
					return
				}
				before = s.everything()
				server.Close()
				if second, err = zkdev.Start(zkdev.Config{Listen: addr, TickTime: 100 * time.Millisecond, MaxSessionTimeout: time.Minute}); err != nil {
					t.Fatal(err)
				}
				if ago >= 0 {
					sess := s.onlooker()
					if err := filelock.Ensure(t.Context(), sess, s.root); err != nil {
						t.Fatal(err)
					}
					s.setHead(sess, heads[len(heads)-1-ago])
				}
			}
			// It refuses the session, and does not say that there is none: the agent has
			// seen a later zxid. So the agent's own deadline ends it.
			wantRefused(t, name, s.run(s.options(source)))
			defer second.Close()
			s.wantUnchanged(before)
			if source.Pending() != 3 {
				t.Errorf("%d records are not acknowledged, want 3", source.Pending())
			}
			wantRefused(t, name+", by a newcomer", s.run(s.calm(&script{name: "x", count: 1})))
			s.wantUnchanged(before)
		})
	}
}

// headAt is head as a session of its own sees it.
func (s *site) headAt(addr string) []byte {
	s.t.Helper()
	sess, err := s.dialer(addr)(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	defer sess.Close()
	return s.getHead(sess)
}

// foreign are names in the queue that are no places.
var foreign = []string{
	"x", "lock-0000000000", strings.Repeat("0", 32), strings.Repeat("0", 32) + "-1",
	strings.Repeat("g", 32) + "-0000000000", "_c_" + strings.Repeat("0", 32) + "-lock-0000000000", "ü", "agent-1",
}

// Nodes that are none of ours, or ours and spoilt, wherever they are: the fleet writes,
// and the status tells of them.
func TestRun_aFleetWritesAmongForeignAndMalformedNodes(t *testing.T) {
	t.Parallel()
	s := newSite(t, zktest.Shared(t))
	sess := s.onlooker()
	if err := filelock.Ensure(t.Context(), sess, s.root); err != nil {
		t.Fatal(err)
	}
	plant := func(path, data string, flags int32) {
		t.Helper()
		if _, err := sess.Create(t.Context(), path, []byte(data), flags); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if err := queue.Ensure(t.Context(), sess, s.root.Queue(1)); err != nil {
		t.Fatal(err)
	}
	for i, name := range foreign {
		plant(s.root.Queue(1)+"/"+name, `{"agent":`, []int32{0, zk.FlagEphemeral}[i%2])
	}
	plant(s.root.Queue(1)+"/x/below", "", 0)
	plant(s.root.Agents()+"/agent-1", "no JSON", 0) // a name that never gets free
	plant(s.root.Agents()+"/Nobody At All", `{"agent":7}`, 0)
	plant(string(s.root)+"/stranger", "", 0)

	var sources []*script
	var group sync.WaitGroup
	for i := range 3 {
		source := &script{name: fmt.Sprint("mine ", i), count: 10}
		sources = append(sources, source)
		group.Go(func() {
			if err := s.run(s.calm(source)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	report := s.verify()
	s.wantOnce(sources...)
	for _, a := range report.Agents {
		if a.Agent == "agent-1" {
			t.Error("two have the name agent-1")
		}
	}
	status := s.look(sess)
	if len(status.Foreign) != len(foreign) || status.Holder != nil || len(status.Agents) != 2 || status.Head.Turn != 30 {
		t.Errorf("%+v", status)
	}
}

// A place whose card cannot be read is a place all the same: its turn is waited for, the
// status names it, and it can be evicted.
func TestRun_aPlaceWithASpoiltCardIsWaitedForAndEvicted(t *testing.T) {
	t.Parallel()
	for name, card := range map[string]string{"nothing": "", "no JSON": "\x00\xff", "other types": `{"agent":{},"host":[],"boot_id":7,"since":"never","life":1}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begun(t)
			sess := s.onlooker()
			place, err := sess.Create(t.Context(), s.root.Queue(1)+"/"+strings.Repeat("a", 32)+"-", []byte(card), zk.FlagEphemeral|zk.FlagSequence)
			if err != nil {
				t.Fatal(err)
			}
			source := &script{name: "mine", count: 2}
			agent := s.start(s.calm(source))
			s.until("it waits", func() bool { return len(s.look(sess).Waiting) == 1 })
			holder := s.look(sess).Holder
			if holder == nil || !strings.HasSuffix(place, holder.Place) || holder.Session != fmt.Sprintf("0x%x", sess.ID()) {
				t.Errorf("the holder is %+v", holder)
			}
			s.evict(sess)
			if err := agent.wait(); err != nil {
				t.Error(err)
			}
			s.verify()
			s.wantOnce(&script{name: "before", count: 1}, source)
		})
	}
}
