package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// A holder that neither commits nor dies. The status says who it is, evicting it is safe,
// and whatever it does when it wakes up is refused (row 19).
func TestRun_aPhantomIsToldOfAndEvictedSafely(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 2)
	p := s.ghost("phantom")
	hold := p.hold()
	source := &script{name: "mine", count: 3}
	agent := s.start(s.calm(source))
	sess := s.onlooker()
	s.until("it waits", func() bool { return len(s.look(sess).Waiting) == 1 })

	status := s.look(sess)
	if h := status.Holder; h == nil || h.Agent != "phantom" || h.Host != "haunted" || h.Since.IsZero() ||
		h.Token != hold.Token() || h.Session != fmt.Sprintf("0x%x", p.sess.ID()) {
		t.Errorf("the holder is %+v", status.Holder)
	}
	// Its client pings as it should.
	if _, err := p.sess.Children(t.Context(), "/"); err != nil || !slices.Contains(server.Sessions(), p.sess.ID()) {
		t.Errorf("the phantom's session is gone: %v", err)
	}
	s.evict(sess)
	if err := agent.wait(); err != nil {
		t.Fatal(err)
	}
	before := s.everything()
	if _, err := hold.Commit(t.Context(), filelock.Commit{Turn: p.turn(hold, "a phantom's")}); !errors.Is(err, filelock.ErrLost) {
		t.Errorf("its commit: %v", err)
	}
	s.wantUnchanged(before)
	s.turns("after", 1)
	s.verify()
	s.wantOnce(&script{name: "before", count: 2}, source, &script{name: "after", count: 1})
}

// moment is when something is done to an agent.
type moment int

const (
	waiting   moment = iota // behind another
	holding                 // before it commits
	committed               // its commit is under way, and has no effect yet
)

// Somebody removes the agent's place, or ends its session, at any moment of its turn:
// it queues again, and its records are written once (row 18).
func TestRun_anAgentWhosePlaceIsTakenAwayQueuesAgain(t *testing.T) {
	t.Parallel()
	for what, deed := range map[string]func(s *site, server *zkdev.Server, sess fleet.Session, victim int64){
		"its place is removed": func(s *site, _ *zkdev.Server, sess fleet.Session, victim int64) {
			for _, e := range s.places(sess) {
				if e.Session == victim {
					if err := filelock.Evict(context.Background(), sess, s.root, e.Place); err != nil {
						s.t.Error(err)
					}
				}
			}
		},
		"its session is ended": func(s *site, server *zkdev.Server, _ fleet.Session, victim int64) {
			if !server.ExpireSession(victim) {
				s.t.Error("no such session")
			}
		},
	} {
		for when, at := range map[string]moment{"while it waits": waiting, "in its turn": holding, "during its commit": committed} {
			t.Run(what+" "+when, func(t *testing.T) {
				t.Parallel()
				server := own(t)
				s := newSite(t, server.Addr())
				sess := s.onlooker()
				s.turns("before", 1)
				source := &script{name: "mine", count: 4}
				opts := s.calm(source)
				opts.Acks = ackLog(t, filepath.Join(s.dir, "acks"))
				var victim atomic.Int64
				opts.Dial = dialFor(s.zk, func(got fleet.Session) { victim.Store(got.ID()) })
				var once sync.Once
				do := func() { once.Do(func() { deed(s, server, sess, victim.Load()) }) }
				var before *filelock.Hold
				switch at {
				case waiting:
					before = s.ghost("phantom").hold()
				case holding:
					source.during = func(turn int) {
						if turn == 2 {
							do()
						}
					}
				case committed:
					server.SetHook(func(point zkdev.Point, r zkdev.Request) zkdev.Action {
						if point == zkdev.BeforeEffect && isCommit(r.Paths) && r.Session == victim.Load() {
							do()
						}
						return zkdev.Proceed
					})
				}
				agent := s.start(opts)
				if at == waiting {
					s.until("it waits", func() bool { return len(s.look(sess).Waiting) == 1 })
					do()
					before.Release() // only now it looks at its place again
				}
				if err := agent.wait(); err != nil {
					t.Fatal(err)
				}
				s.verify(filepath.Join(s.dir, "acks"))
				s.wantOnce(&script{name: "before", count: 1}, source)
				if !agent.says("queueing again") && !agent.says("asking for a new one") {
					t.Error("it does not say that it lost its place")
				}
			})
		}
	}
}

func (s *site) places(sess fleet.Session) []filelock.Entry {
	s.t.Helper()
	entries, err := filelock.Look(context.Background(), sess, s.root)
	if err != nil {
		s.t.Error(err)
	}
	return entries
}

// Somebody removes an agent's name from the fleet, and another takes it: two agents of
// one name are two agents all the same.
func TestRun_twoAgentsOfOneNameDoNoHarm(t *testing.T) {
	t.Parallel()
	s := newSite(t, own(t).Addr())
	sess := s.onlooker()
	second := &script{name: "second", count: 5}
	var other *outing
	first := &script{name: "first", count: 5}
	first.before = func(turn int) {
		if turn != 2 {
			return
		}
		if err := sess.Delete(t.Context(), s.root.Agents()+"/twin"); err != nil {
			t.Error(err)
		}
		opts := s.calm(second)
		opts.Name = "twin"
		other = s.start(opts)
	}
	opts := s.calm(first)
	opts.Name = "twin"
	if err := s.run(opts); err != nil {
		t.Fatal(err)
	}
	if err := other.wait(); err != nil {
		t.Fatal(err)
	}
	s.verify()
	s.wantOnce(first, second)
}
