package meeting_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/meeting"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

// stage has a meeting of so many.
type stage struct {
	*recipetest.Stage
	t    *testing.T
	dir  string
	size int
}

func newStage(t *testing.T, size int) *stage {
	s := recipetest.NewStage(t)
	return &stage{Stage: s, t: t, dir: path.Join(s.Dir, "here"), size: size}
}

// clean is true when nothing of the meetings is left, the directories included.
func (s *stage) clean() {
	s.t.Helper()
	recipetest.Eventually(s.t, "all nodes are gone", func() bool {
		for _, node := range s.All() {
			if strings.HasPrefix(node, s.Dir) {
				return false
			}
		}
		return true
	})
}

// member is a Begin under way.
type member struct {
	t     *testing.T
	sess  *session.Session
	there chan int // how many are there, each time that it waits
	stop  context.CancelCauseFunc
	done  chan struct{}
	group *meeting.Group
	err   error
}

func (s *stage) comes(name string) *member { return s.comesBy(name, s.Dial(), s.dir, s.size) }

func (s *stage) comesBy(name string, sess *session.Session, dir string, size int) *member {
	ctx, stop := context.WithCancelCause(recipetest.Background(s.t))
	m := &member{t: s.t, sess: sess, stop: stop, there: make(chan int, 100), done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.group, m.err = meeting.Meeting{
			Sess: sess, Dir: dir, Size: size, Who: queue.Member{Agent: name, Host: "host"},
			Progress: func(there []queue.Member) { m.there <- len(there) },
		}.Begin(ctx)
	}()
	return m
}

// waits waits until it waits with so many.
func (m *member) waits(n int) *member {
	m.t.Helper()
	for {
		select {
		case got := <-m.there:
			if got == n {
				return m
			}
		case <-m.done:
			m.t.Fatalf("it does not wait: %v", m.err)
		case <-time.After(recipetest.Patience):
			m.t.Fatalf("it does not wait with %d", n)
		}
	}
}

func (m *member) begins() *meeting.Group {
	m.t.Helper()
	if err := m.ends(); err != nil {
		m.t.Fatal(err)
	}
	return m.group
}

func (m *member) ends() error {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(recipetest.Patience):
		m.t.Fatal("it neither begins nor ends")
	}
	return m.err
}

// exchange is one step of several.
func exchange(t *testing.T, step string, groups ...*meeting.Group) [][]json.RawMessage {
	t.Helper()
	all, errs := make([][]json.RawMessage, len(groups)), make(chan error, len(groups))
	for i, g := range groups {
		go func() {
			var err error
			all[i], err = g.Exchange(recipetest.Background(t), json.RawMessage(fmt.Sprintf(`"%s of %d"`, step, g.Index)))
			errs <- err
		}()
	}
	for range groups {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	return all
}
