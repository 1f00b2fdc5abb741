package fleet_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// A node of turns/ that is not what was committed is never written: refused, with its name
// (row 23).
func TestRun_aNodeThatWasAlteredIsNeverWritten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		alter func(s *site, sess fleet.Session, node string, turn frame.Turn) error
		why   string
	}{
		"a flipped bit": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			data := turn.Encode()
			data[len(data)-3] ^= 1
			return set(s, sess, node, data)
		}, "its sum is wrong"},
		"cut": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			data := turn.Encode()
			return set(s, sess, node, data[:len(data)-5])
		}, "its sum is wrong"},
		"emptied": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			return set(s, sess, node, nil)
		}, "cannot be believed"},
		"of another incarnation": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			turn.Incarnation = uuid.New()
			return set(s, sess, node, turn.Encode())
		}, "it is of incarnation"},
		"another turn that is whole": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			before := frame.Head{Incarnation: turn.Incarnation, Turn: turn.Number - 1, Start: turn.Before, Offset: turn.Offset, Sum: turn.Prev}
			forged := before.Next(frame.Header{Agent: "dead", Token: turn.Header.Token, At: turn.Header.At}, turn.Run, [][]byte{[]byte("forged")})
			return set(s, sess, node, forged.Encode())
		}, "does not lead to what was committed"},
		"elsewhere": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			turn.Offset += 7
			return set(s, sess, node, turn.Encode())
		}, "does not lead to what was committed"},
		"deleted by hand": {func(s *site, sess fleet.Session, node string, turn frame.Turn) error {
			return sess.Delete(s.t.Context(), node)
		}, "ZooKeeper does not have turn 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begun(t)
			dead := s.ghost("dead")
			turn := dead.commit("left 0")
			dead.sess.Close()
			sess := s.onlooker()
			if err := c.alter(s, sess, s.root.Turn(turn.Incarnation, turn.Number), turn); err != nil {
				t.Fatal(err)
			}
			before := s.everything()
			err := s.run(s.calm(&script{name: "next", count: 1}))
			wantRefused(t, name, err)
			if err == nil || !strings.Contains(err.Error(), c.why) || c.why[:3] != "Zoo" && !strings.Contains(err.Error(), "/turns/"+turn.Incarnation.String()+"-2") {
				t.Errorf("it says: %v", err)
			}
			s.wantUnchanged(before)
		})
	}
}

func set(s *site, sess fleet.Session, node string, data []byte) error {
	_, err := sess.Multi(s.t.Context(), &zk.SetDataRequest{Path: node, Data: data, Version: -1})
	return err
}

// Not to be allowed to read a node is not that there is none: nothing is said of lost data.
func TestRun_aNodeThatMayNotBeReadIsNotAMissingOne(t *testing.T) {
	t.Parallel()
	s := begun(t)
	dead := s.ghost("dead")
	turn := dead.commit("left 0")
	node := s.root.Turn(turn.Incarnation, turn.Number)
	_, err := dead.sess.Multi(t.Context(), &zk.DeleteRequest{Path: node, Version: -1},
		&zk.CreateRequest{Path: node, Data: turn.Encode(), Acl: []zk.ACL{{Perms: zk.PermDelete, Scheme: "world", ID: "anyone"}}})
	if err != nil {
		t.Fatal(err)
	}
	before := s.everything()
	err = s.run(s.calm(&script{name: "next", count: 1}))
	if !errors.Is(err, zk.ErrNoAuth) || errors.Is(err, writer.ErrRefused) {
		t.Errorf("got %v, want that it is not allowed", err)
	}
	s.wantUnchanged(before)
}

// Nodes of a lost incarnation, and strangers, lie there and do no harm.
func TestRun_strangersAmongTheTurnsDoNoHarm(t *testing.T) {
	t.Parallel()
	s := begun(t)
	sess := s.onlooker()
	for _, name := range []string{"x", uuid.NewString() + "-1", uuid.NewString() + "-0", "not-a-turn-7"} {
		if _, err := sess.Create(t.Context(), s.root.Turns()+"/"+name, []byte("rubbish"), 0); err != nil {
			t.Fatal(err)
		}
	}
	source := &script{name: "mine", count: 2}
	source.before = func(turn int) {
		if turn == 1 {
			s.until("it has settled its own", func() bool { return len(s.nodes(sess)) == 2 })
		}
	}
	agent := s.start(s.calm(source))
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, source)
}

// No node where the file is short means that somebody has written the turn: only a look that
// is begun after that answer tells whether data was lost.
func TestRun_aNodeThatIsGoneMeansToLookAgain(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := newSite(t, server.Addr())
	s.turns("before", 1)
	dead := s.ghost("dead")
	turn := dead.commit("left 0")
	node := s.root.Turn(turn.Incarnation, turn.Number)
	var once sync.Once
	server.SetHook(func(at zkdev.Point, r zkdev.Request) zkdev.Action {
		if at == zkdev.BeforeEffect && r.Op == zkdev.OpGetData && len(r.Paths) == 1 && r.Paths[0] == node {
			once.Do(func() { // just now another has written and synced it
				s.put(append(s.read(), turn.Bytes...))
				if err := dead.sess.Delete(context.Background(), node); err != nil {
					t.Error(err)
				}
			})
		}
		return zkdev.Proceed
	})
	source := &script{name: "mine", count: 1}
	agent := s.start(s.calm(source))
	if err := agent.wait(); err != nil {
		t.Error(err)
	}
	if agent.says("looking again") {
		t.Error("it took data for lost")
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, &script{name: "left", count: 1}, source)
}

// Somebody has deleted the first of our nodes: the commit leaves out those behind it, which
// go later, but go.
func TestRun_nodesBehindOneThatIsGoneGoToo(t *testing.T) {
	t.Parallel()
	s := begun(t)
	s.patient = true
	fs, sess := newFaultFS(), s.onlooker()
	let := fs.hang("datasync")
	defer let()
	incarnation := s.parsedHead(sess).Incarnation
	acked := make(chan struct{})
	source := &script{name: "mine", count: 5, more: true}
	source.acking = func(n int) {
		if n == 2 {
			close(acked)
		}
	}
	source.during = func(n int) {
		if n != 3 {
			return
		}
		let()
		select {
		case <-acked: // three nodes may go, and no commit has taken them along
		case <-time.After(20 * time.Second):
			t.Error("the three turns are not acknowledged")
		}
		if err := sess.Delete(t.Context(), s.root.Turn(incarnation, 2)); err != nil {
			t.Error(err)
		}
	}
	if err := s.run(s.on(fs, source)); err != nil {
		t.Fatal(err)
	}
	if nodes := s.nodes(sess); len(nodes) > 0 {
		t.Errorf("the turns %d have a node yet", nodes)
	}
	s.verify()
	s.wantOnce(&script{name: "before", count: 1}, source)
}
