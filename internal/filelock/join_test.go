package filelock_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestAJoinWhoseAnswerIsLostTakesOnePlace(t *testing.T) {
	t.Parallel()
	for name, reaches := range map[string]bool{"the server got it": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			m := f.member("a")
			var creates atomic.Int32
			m.proxy.OnRequest(func(p []byte) bool {
				if zktest.Op(p) != zktest.OpCreate || creates.Add(1) > 1 {
					return true
				}
				if reaches {
					m.proxy.LoseAnswer()
				}
				return reaches
			})
			hold := m.hold()
			f.wantAgents("a")
			if want := map[bool]int32{true: 1, false: 2}[reaches]; creates.Load() != want {
				t.Errorf("%d creates, want %d", creates.Load(), want)
			}
			f.commit(hold, "one", false)
			f.wantAgents("")
		})
	}
}

func TestAJoinThatIsCancelledLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"before its answer": false, "with its answer lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			m := f.memberFor("a", 3*time.Second)
			ctx, stop := context.WithCancel(background(t))
			m.proxy.OnRequest(func(p []byte) bool {
				if zktest.Op(p) == zktest.OpCreate {
					if lost {
						m.proxy.LoseAnswer()
					}
					stop()
				}
				return true
			})
			if place, err := m.Join(ctx); err == nil {
				place.Leave() // it was quicker
			}
			m.proxy.OnRequest(nil)
			if err := m.sess.Err(); err != nil { // it could not be removed in time
				t.Log(err)
				eventually(t, "nothing in the queue", func() bool { return f.agents() == "" })
				return
			}
			if err := m.sess.Sync(background(t), "/"); err != nil { // behind everything it sent
				t.Fatal(err)
			}
			f.wantAgents("")
		})
	}
}

func TestAJoinOnADeadLineGivesTheSessionUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.memberFor("a", 4*time.Second)
	ctx, stop := context.WithCancel(background(t))
	m.proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == zktest.OpCreate {
			m.proxy.Silence(true)
			stop()
		}
		return true
	})
	start := time.Now()
	_, err := m.Join(ctx)
	is(t, "join", err, context.Canceled)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	is(t, "session", m.sess.Err(), session.ErrExpired)
	eventually(t, "nothing in the queue", func() bool { return f.agents() == "" })
}

func TestAJoinMakesTheQueueThatHeadNames(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	if err := f.sess.Delete(background(t), f.root.Queue(1)); err != nil {
		t.Fatal(err)
	}
	f.commit(m.hold(), "one", false)
	if err := f.sess.Delete(background(t), f.root.Queue(1)); err != nil {
		t.Fatal(err)
	}
	head := beginning("elsewhere")
	head.Queue = 7
	_, err := f.sess.Multi(background(t), &zk.SetDataRequest{Path: f.root.Head(), Data: head.Encode(), Version: -1})
	if err != nil {
		t.Fatal(err)
	}
	if hold := m.hold(); labelOf(hold) != "elsewhere" {
		t.Errorf("head %q", labelOf(hold))
	}
	if names, err := f.sess.Children(background(t), f.root.Queue(7)); err != nil || len(names) != 1 {
		t.Errorf("in queue-7: %v, %v", names, err)
	}
	if err := f.sess.Delete(background(t), string(f.root.Agents())); err != nil {
		t.Fatal(err)
	}
	none := filelock.New(m.sess, f.root+"-none", filelock.Member{Agent: "a"}, nil, nil)
	_, err = none.Join(background(t))
	is(t, "join a fleet that is not there", err, zk.ErrNoNode)
	if err := m.sess.Err(); err != nil {
		t.Errorf("nothing was created, yet the session was given up: %v", err)
	}
}

func TestTheCardSaysWhoWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	before := time.Now().Add(-time.Second)
	hold := m.hold()
	f.commit(hold, "one", true)
	entries := f.queue()
	if len(entries) != 1 {
		t.Fatalf("%d places", len(entries))
	}
	e := entries[0]
	if e.Agent != "a" || e.Host != "test" || e.Member.Since.Before(before) || e.Since.IsZero() || e.Foreign || e.Session != m.sess.ID() {
		t.Errorf("%+v", e)
	}
	out, err := json.Marshal(e)
	if err != nil || strings.Count(string(out), `"since"`) != 1 || !strings.Contains(string(out), e.Place) {
		t.Errorf("%s, %v", out, err)
	}
}

func TestEnsureMayBeRepeatedAndSurvivesACutConnection(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a")
	var creates atomic.Int32
	m.proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == zktest.OpCreate && creates.Add(1)%2 == 1 {
			m.proxy.LoseAnswer()
		}
		return true
	})
	fresh := filelock.Root(zktest.Root(t) + "-fresh")
	for range 2 {
		if err := filelock.Ensure(background(t), m.sess, fresh); err != nil {
			t.Fatal(err)
		}
	}
	names, err := m.sess.Children(background(t), string(fresh))
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"agents", "turns"}) {
		t.Errorf("%v, %v", names, err)
	}
	err = filelock.Ensure(background(t), m.sess, fresh+"/no/no/such")
	is(t, "a root whose parent's parent is missing", err, zk.ErrNoNode)
}
