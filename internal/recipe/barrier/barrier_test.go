package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/barrier"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestMain(m *testing.M) { zktest.Together(m) }

// brief is a session's timeout that a test waits for.
const brief = 2 * time.Second

// stage is a barrier and its members.
type stage struct {
	*recipetest.Stage
	t    *testing.T
	size int

	counted atomic.Int32 // by a, the first
}

func newStage(t *testing.T, size int) *stage {
	t.Parallel()
	return &stage{Stage: recipetest.NewStage(t), t: t, size: size}
}

// member is one under way.
type member struct {
	t    *testing.T
	name string
	sess *session.Session
	in   *barrier.Inside
	err  error
	done chan struct{}
	stop context.CancelCauseFunc
}

func (s *stage) barrier(name string, sess *session.Session) *barrier.Barrier {
	return &barrier.Barrier{Sess: sess, Dir: s.Dir, Size: s.size, Who: queue.Member{Agent: name, Host: "here"}, Log: zaptest.NewLogger(s.t)}
}

func (s *stage) start(b *barrier.Barrier) *member {
	ctx, stop := context.WithCancelCause(recipetest.Background(s.t))
	m := &member{t: s.t, name: b.Who.Agent, sess: b.Sess, done: make(chan struct{}), stop: stop}
	go func() {
		defer close(m.done)
		m.in, m.err = b.Enter(ctx)
	}()
	return m
}

// enters has a member enter, with a session of its own.
func (s *stage) enters(name string) *member { return s.start(s.barrier(name, s.Dial())) }

// waits has it enter, and returns when it is there.
func (s *stage) waits(name string, sess *session.Session) *member {
	s.t.Helper()
	there := make(chan struct{}, 100)
	b := s.barrier(name, sess)
	b.Progress = func(n int) {
		if name == "a" { // only the first is told again
			s.counted.Store(int32(n))
		}
		there <- struct{}{}
	}
	m := s.start(b)
	select {
	case <-there:
	case <-m.done:
		s.t.Fatalf("%s does not wait: %v", name, m.err)
	case <-time.After(recipetest.Patience):
		s.t.Fatalf("%s does not arrive", name)
	}
	return m
}

func (s *stage) several(names ...string) (all []*member) {
	for _, name := range names {
		all = append(all, s.enters(name))
	}
	return all
}

func (m *member) entered() *barrier.Inside {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(recipetest.Patience):
		m.t.Fatalf("%s does not enter", m.name)
	}
	if m.err != nil {
		m.t.Fatalf("%s: %v", m.name, m.err)
	}
	return m.in
}

// refused wants it to end with an error that is want and tells of words.
func (m *member) refused(want error, words ...string) {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(recipetest.Patience):
		m.t.Fatalf("%s is left hanging", m.name)
	}
	m.is("ended", m.err, want, words...)
}

func (m *member) is(what string, err, want error, words ...string) {
	m.t.Helper()
	if !errors.Is(err, want) {
		m.t.Errorf("%s %s with %v, want %v", m.name, what, err, want)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			m.t.Errorf("%s %s with %v, which does not tell of %q", m.name, what, err, word)
		}
	}
}

// broken wants what it has inside to end with want.
func (m *member) broken(want error, words ...string) {
	m.t.Helper()
	select {
	case <-m.in.Context().Done():
	case <-time.After(recipetest.Patience):
		m.t.Fatalf("%s, who is inside, is never told", m.name)
	}
	m.is("was told", context.Cause(m.in.Context()), want, words...)
}

// leave has all leave, and wants each to end with want.
func leave(want error, all ...*member) {
	var group sync.WaitGroup
	for _, m := range all {
		group.Go(func() {
			err := m.in.Leave(recipetest.Background(m.t))
			if !errors.Is(err, want) {
				m.t.Errorf("%s left with %v, want %v", m.name, err, want)
			}
		})
	}
	group.Wait()
}

// clean wants the barrier's directory, and nothing in it, nor elsewhere.
// met waits until each of so many members inside has met the one that it looks after, and
// so can name it: it watches that one's node, its own, and the round.
func (s *stage) met(inside int) {
	s.T.Helper()
	recipetest.Eventually(s.T, "each looks after another", func() bool { return s.Server.Watches(s.T) >= 3*inside })
}

func (s *stage) clean() {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%d watches, nodes of sessions %v, of all %v", s.Server.Watches(s.t), s.Ephemeral(), s.All())
		}
	}()
	s.NothingLeft()
	names, err := s.Sess.Children(recipetest.Background(s.t), s.Dir)
	if err != nil || len(names) > 0 {
		s.t.Errorf("left behind: %v, %v\n%v", names, err, s.All())
	}
}

func TestAllEnterTogetherAndAllLeaveTogether(t *testing.T) {
	for _, size := range []int{1, 2, 3, 50} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newStage(t, size)
			var arrived, left atomic.Int32
			var all sync.WaitGroup
			for n := range size {
				sess := s.Dial()
				all.Go(func() {
					arrived.Add(1)
					in, err := s.barrier(fmt.Sprint("m", n), sess).Enter(recipetest.Background(t))
					if err != nil {
						t.Error(err)
						return
					}
					if got := arrived.Load(); int(got) != size {
						t.Errorf("inside when %d had arrived", got)
					}
					left.Add(1)
					if err := in.Leave(recipetest.Background(t)); err != nil {
						t.Error(err)
					}
					if got := left.Load(); int(got) != size {
						t.Errorf("out when %d had left", got)
					}
					if !errors.Is(context.Cause(in.Context()), context.Canceled) {
						t.Errorf("afterwards its context says %v", context.Cause(in.Context()))
					}
				})
			}
			all.Wait()
			s.clean()
		})
	}
}

func TestTwentyRoundsInARow(t *testing.T) {
	s := newStage(t, 3)
	var entered atomic.Int32
	var all sync.WaitGroup
	for n := range s.size {
		b := s.barrier(fmt.Sprint("m", n), s.Dial())
		all.Go(func() {
			for round := range 20 {
				in, err := b.Enter(recipetest.Background(t))
				if err != nil {
					t.Error(err)
					return
				}
				if got := int(entered.Add(1)); got <= round*s.size || got > (round+1)*s.size {
					t.Errorf("round %d: entry %d", round, got)
				}
				if err := in.Leave(recipetest.Background(t)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	s.clean()
}

// Seven come for groups of three: two rounds, at the same time, and one who waits.
func TestWhoComesTooLateIsInTheNextRound(t *testing.T) {
	s := newStage(t, 3)
	var all []*member
	for n := range 7 {
		all = append(all, s.enters(fmt.Sprint("m", n)))
	}
	inside := func() (in, out []*member) {
		for _, m := range all {
			select {
			case <-m.done:
				in = append(in, m)
			default:
				out = append(out, m)
			}
		}
		return in, out
	}
	recipetest.Eventually(t, "six are inside", func() bool { in, _ := inside(); return len(in) >= 6 })
	in, waiting := inside()
	for _, m := range in {
		m.entered()
	}
	leave(nil, in...)
	if len(waiting) != 1 {
		t.Fatalf("%d wait", len(waiting))
	}
	enough := errors.New("enough")
	waiting[0].stop(enough)
	waiting[0].refused(enough, "1 of 3 were there")
	s.clean()
}

func TestSizesInDisputeAreRefusedByName(t *testing.T) {
	s := newStage(t, 3)
	a := s.waits("a", s.Dial())
	other := s.barrier("b", s.Dial())
	other.Size = 4
	m := s.start(other)
	m.refused(barrier.ErrSize, "a on here waits here for 3", "b on here for 4")
	all := append(s.several("c", "d"), a) // the others are none the worse for it
	for _, m := range all {
		m.entered()
	}
	leave(nil, all...)
	// A round whose only member died is in nobody's way.
	lone := s.waits("e", s.Dial())
	s.Delete(s.Owned(lone.sess)[0])
	other.Size = 1
	m = s.start(other)
	m.entered()
	leave(nil, m)
	lone.refused(queue.ErrLost)
	s.clean()
	other.Size = 0
	if _, err := other.Enter(recipetest.Background(t)); err == nil {
		t.Error("size 0 is taken")
	}
}

// Only the first hears of an arrival.
func TestArrivalsDoNotWakeTheOthers(t *testing.T) {
	const size = 30
	s := newStage(t, size+1)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	s.waits("first", s.Dial())
	var woken atomic.Int32
	proxy.OnEvent(func(string) { woken.Add(1) })
	var all []*member
	for n := 1; n < size; n++ {
		all = append(all, s.waits(fmt.Sprint("m", n), recipetest.Dial(t, proxy.Addr, 20*time.Second)))
	}
	if n := woken.Load(); n != 0 {
		t.Errorf("%d were woken by the arrivals of others", n)
	}
	all[0].stop(errors.New("enough"))
	for _, m := range all[1:] {
		m.refused(barrier.ErrBroken, "m1 on here gave up", "enough")
	}
}

func TestARoundThatABadHandWroteIntoIsBroken(t *testing.T) {
	s := newStage(t, 3)
	all := []*member{s.waits("a", s.Dial()), s.waits("b", s.Dial())}
	if _, err := s.Sess.Set(recipetest.Background(t), s.round(), []byte("?"), -1); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		m.refused(barrier.ErrBroken, "somebody wrote into its node")
	}
	next := s.several("a", "b", "c")
	for _, m := range next {
		m.entered()
	}
	// The state is as it was, the version is not; and the directory's is not either.
	node, err := s.Sess.Get(recipetest.Background(t), s.round())
	if err == nil {
		_, err = s.Sess.Set(recipetest.Background(t), s.round(), node.Data, -1)
	}
	if err == nil {
		_, err = s.Sess.Set(recipetest.Background(t), s.Dir, []byte("?"), -1)
	}
	if err != nil {
		t.Fatal(err)
	}
	leave(nil, next...)
	s.clean()
}

// round is the one round that is there.
func (s *stage) round() string {
	s.t.Helper()
	names, err := s.Sess.Children(recipetest.Background(s.t), s.Dir)
	if err != nil || len(names) != 1 {
		s.t.Fatalf("rounds: %v, %v", names, err)
	}
	return path.Join(s.Dir, names[0])
}

func TestForeignNodesAreIgnored(t *testing.T) {
	s := newStage(t, 3)
	a := s.waits("a", s.Dial())
	var planted []string
	for _, dir := range []string{s.Dir, s.round()} {
		for _, name := range []string{"foreign", "_c_", "left-", "left-x", "99999999999", "-1", strings.Repeat("0", 32) + "-1", "5000"} {
			node, err := s.Sess.Create(recipetest.Background(t), path.Join(dir, name), []byte("{"), 0)
			if err != nil {
				t.Fatal(err)
			}
			planted = append(planted, node)
		}
	}
	all := append(s.several("b", "c"), a)
	for _, m := range all {
		m.entered()
	}
	leave(nil, all...)
	s.play("a", "b", "c") // in which the strangers of the first are in nobody's way
	for _, node := range planted {
		s.Delete(node)
	}
	s.play("a", "b", "c")
	s.clean()
}

func TestLivesAreThoseOfTheMembers(t *testing.T) {
	s := newStage(t, 3)
	lives := func() []string {
		lives, err := barrier.Lives(recipetest.Background(t), s.Sess, s.Dir)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(lives)
		return lives
	}
	if got := lives(); len(got) > 0 {
		t.Errorf("%v are at a barrier that is not there", got)
	}
	var all []*member
	for _, name := range []string{"a", "b", "c"} {
		b := s.barrier(name, s.Dial())
		b.Who.Life = "life of " + name
		all = append(all, s.start(b))
	}
	for _, m := range all {
		m.entered()
	}
	if got := lives(); !slices.Equal(got, []string{"life of a", "life of b", "life of c"}) {
		t.Errorf("there are %v", got)
	}
	leave(nil, all...)
	s.clean()
}

// play is a round, from its beginning to its end.
func (s *stage) play(names ...string) {
	s.t.Helper()
	all := s.several(names...)
	for _, m := range all {
		m.entered()
	}
	leave(nil, all...)
}
