// Package recipetest breaks what a recipe stands on, in each of the ways in which it
// breaks in life, and looks whether anything is left behind. It is for recipes with which
// one holds something and others wait for it.
package recipetest

import (
	"context"
	"errors"
	"path"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// Held is what a recipe gives to who has it.
type Held interface {
	Context() context.Context
	Close()
}

// Take waits until it has what only one can have at a time. dir is a node that need not be
// there; its parent is.
type Take func(ctx context.Context, sess *session.Session, dir string) (Held, error)

// Patience is for what should happen soon, on a busy machine too.
const Patience = 30 * time.Second

// Background ends before a test that hangs would be killed.
func Background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patience)
	t.Cleanup(cancel)
	return ctx
}

// Dial gives a session that ends with the test.
func Dial(t testing.TB, addr string, timeout time.Duration) *session.Session {
	t.Helper()
	sess, err := session.Dial(Background(t), session.Options{Servers: []string{addr}, Timeout: timeout, ConnectTimeout: Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sess.Close)
	return sess
}

// Eventually waits for what has no event to wait for.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Stage is a server of a test's own, and an onlooker's session with it.
type Stage struct {
	T      testing.TB
	Server *zktest.Server
	Sess   *session.Session
	Dir    string
	before int // watches
}

// NewStage starts a server, with the parent of Dir on it.
func NewStage(t testing.TB) *Stage {
	t.Helper()
	s := &Stage{T: t, Server: zktest.Start(t), Dir: "/turnstile/stage/it"}
	s.Sess = s.Dial()
	if err := queue.EnsurePath(Background(t), s.Sess, path.Dir(s.Dir)); err != nil {
		t.Fatal(err)
	}
	s.before = s.Server.Watches(t)
	return s
}

// Dial gives a session which, should its goodbye not reach the server on a busy machine, is
// dead before a test loses its patience.
func (s *Stage) Dial() *session.Session {
	s.T.Helper()
	return Dial(s.T, s.Server.Addr, 20*time.Second)
}

// Ephemeral lists the nodes of sessions under Dir.
func (s *Stage) Ephemeral() (nodes []string) {
	s.walk("/", func(node string, stat *zk.Stat) {
		if stat.EphemeralOwner != 0 {
			nodes = append(nodes, node)
		}
	})
	return nodes
}

// Owned lists the nodes of one session.
func (s *Stage) Owned(sess *session.Session) (nodes []string) {
	s.walk("/", func(node string, stat *zk.Stat) {
		if stat.EphemeralOwner == sess.ID() {
			nodes = append(nodes, node)
		}
	})
	return nodes
}

// All lists every node there is.
func (s *Stage) All() (nodes []string) {
	s.walk("/", func(node string, _ *zk.Stat) { nodes = append(nodes, node) })
	return nodes
}

func (s *Stage) walk(node string, see func(string, *zk.Stat)) {
	if node == "/zookeeper" {
		return
	}
	n, err := s.Sess.Get(Background(s.T), node)
	if errors.Is(err, zk.ErrNoNode) {
		return
	}
	if err != nil {
		s.T.Fatal(err)
	}
	see(node, n.Stat)
	names, err := s.Sess.Children(Background(s.T), node)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		s.T.Fatal(err)
	}
	for _, name := range names {
		s.walk(path.Join(node, name), see)
	}
}

// NothingLeft checks that neither nodes of sessions nor watches are there any more.
func (s *Stage) NothingLeft() {
	s.T.Helper()
	Eventually(s.T, "nothing is left behind", func() bool { return len(s.Ephemeral()) == 0 && s.Server.Watches(s.T) == s.before })
}

// Delete removes a node behind everybody's back.
func (s *Stage) Delete(node string) {
	s.T.Helper()
	if err := s.Sess.Delete(Background(s.T), node); err != nil {
		s.T.Fatal(err)
	}
}
