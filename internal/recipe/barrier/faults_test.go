package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/barrier"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// together are a, b and c, as many as asked for, who came in this order and know of each
// other.
func (s *stage) together(n int) (all []*member) {
	for _, name := range []string{"a", "b", "c"}[:n] {
		if len(all) == s.size-1 {
			all = append(all, s.enters(name))
			break
		}
		all = append(all, s.waits(name, s.Dial()))
		s.known(len(all))
	}
	return all
}

// known waits until the first to arrive knows of so many.
func (s *stage) known(n int) {
	s.t.Helper()
	recipetest.Eventually(s.t, "they know of each other", func() bool { return int(s.counted.Load()) == n })
}

// without is all but one.
func without(all []*member, i int) []*member {
	return append(append([]*member{}, all[:i]...), all[i+1:]...)
}

func TestAMemberThatGivesUpReleasesTheRest(t *testing.T) {
	for i, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 4)
			all := s.together(3)
			why := errors.New("enough")
			all[i].stop(why)
			all[i].refused(why, "of 4 were there")
			for _, m := range without(all, i) {
				m.refused(barrier.ErrBroken, name+" on here gave up", "enough")
			}
			s.clean()
		})
	}
}

func TestAMemberThatDiesWhileItWaitsReleasesTheRest(t *testing.T) {
	for i, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 4)
			all := s.together(3)
			all[i].sess.Close() // without a word to the others, like a crash
			all[i].refused(session.ErrClosed)
			for _, m := range without(all, i) {
				m.refused(barrier.ErrBroken, name+" on here died before all were there")
			}
			s.clean()
		})
	}
}

func TestAMemberThatDiesInsideReleasesTheRest(t *testing.T) {
	for i, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, 3)
			all := s.together(3)
			for _, m := range all {
				m.entered()
			}
			s.met(3)
			rest := without(all, i)
			left := make(chan error, 1) // one of them waits for the others already
			go func() { left <- rest[0].in.Leave(recipetest.Background(t)) }()
			s.marked(1)
			all[i].sess.Close()
			if err := <-left; !errors.Is(err, barrier.ErrBroken) || !strings.Contains(err.Error(), name+" on here died inside") {
				t.Errorf("who waited to leave ended with %v", err)
			}
			rest[1].broken(barrier.ErrBroken, name+" on here died inside")
			leave(barrier.ErrBroken, rest[1])
			s.clean()
		})
	}
}

// marked waits until so many have said that they leave.
func (s *stage) marked(n int) {
	s.t.Helper()
	recipetest.Eventually(s.t, "they leave", func() bool {
		found := 0
		for _, node := range s.All() {
			if strings.HasPrefix(path.Base(node), "left-") {
				found++
			}
		}
		return found >= n
	})
}

func TestWhoGivesUpInsideReleasesTheRest(t *testing.T) {
	s := newStage(t, 3)
	all := s.together(3)
	for _, m := range all {
		m.entered()
	}
	all[1].in.Close()
	all[1].in.Close()
	all[1].broken(context.Canceled)
	for _, m := range without(all, 1) {
		m.broken(barrier.ErrBroken, "b on here gave up inside")
		m.in.Close()
	}
	s.clean()
}

// Who has left and does not wait for the others, or dies, is no loss to them.
func TestWhoHasLeftMayGo(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint(dies), func(t *testing.T) {
			s := newStage(t, 3)
			all := s.together(3)
			for _, m := range all {
				m.entered()
			}
			why := errors.New("enough")
			for n, m := range all[:2] {
				ctx, stop := context.WithCancelCause(recipetest.Background(t))
				left := make(chan error, 1)
				go func() { left <- m.in.Leave(ctx) }()
				s.marked(n + 1)
				want := why
				if dies {
					want = session.ErrClosed
					m.sess.Close()
				}
				stop(why)
				if err := <-left; !errors.Is(err, want) {
					t.Errorf("it left with %v", err)
				}
			}
			if err := context.Cause(all[2].in.Context()); err != nil {
				t.Errorf("the last was told %v", err)
			}
			leave(nil, all[2])
			s.play("d", "e", "f") // and sweep up, should the dead have been the last to go
			s.clean()
		})
	}
}

// Who died after it left is no longer looked after, but whoever was before it is.
func TestADeathBehindOneThatIsNoLossIsNoticed(t *testing.T) {
	s := newStage(t, 3)
	all := s.together(3)
	for _, m := range all {
		m.entered()
	}
	go all[2].in.Leave(recipetest.Background(t)) //nolint:errcheck // it dies
	s.marked(1)
	gone := s.Owned(all[2].sess)[0]
	all[2].sess.Close()
	recipetest.Eventually(t, "it is dead", func() bool { return !slices.Contains(s.All(), gone) })
	s.met(2)
	all[1].sess.Close()
	all[0].broken(barrier.ErrBroken, "b on here died inside")
	leave(barrier.ErrBroken, all[0])
	s.clean()
}

// A context that has ended is no reason not to say goodbye.
func TestLeaveSaysSoThoughItsContextEnded(t *testing.T) {
	s := newStage(t, 2)
	all := s.together(2)
	for _, m := range all {
		m.entered()
	}
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	cancel()
	if err := all[0].in.Leave(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it left with %v", err)
	}
	leave(nil, all[1])
	s.clean()
}

func TestASessionThatExpires(t *testing.T) {
	t.Run("while waiting", func(t *testing.T) {
		s := newStage(t, 4)
		proxy := zktest.NewProxy(t, s.Server.Addr)
		a := s.waits("a", s.Dial())
		b := s.waits("b", recipetest.Dial(t, proxy.Addr, brief))
		c := s.waits("c", s.Dial())
		proxy.HalfOpen(true)
		b.refused(session.ErrExpired)
		a.refused(barrier.ErrBroken, "b on here died")
		c.refused(barrier.ErrBroken, "b on here died")
		s.clean()
	})
	t.Run("inside", func(t *testing.T) {
		s := newStage(t, 3)
		proxy := zktest.NewProxy(t, s.Server.Addr)
		all := []*member{s.enters("a"), s.start(s.barrier("b", recipetest.Dial(t, proxy.Addr, brief))), s.enters("c")}
		for _, m := range all {
			m.entered()
		}
		proxy.HalfOpen(true)
		all[1].broken(session.ErrExpired)
		leave(session.ErrExpired, all[1])
		for _, m := range without(all, 1) {
			m.broken(barrier.ErrBroken, "b on here died")
			m.in.Close()
		}
		s.clean()
	})
}

func TestANodeThatIsRemoved(t *testing.T) {
	t.Run("while waiting", func(t *testing.T) {
		s := newStage(t, 4)
		all := s.together(3)
		s.Delete(s.Owned(all[1].sess)[0])
		all[1].refused(queue.ErrLost)
		for _, m := range without(all, 1) {
			m.refused(barrier.ErrBroken, "b on here")
		}
		s.clean()
	})
	t.Run("alone", func(t *testing.T) {
		s := newStage(t, 4)
		all := s.together(1)
		s.Delete(s.Owned(all[0].sess)[0])
		all[0].refused(queue.ErrLost)
		s.clean()
	})
	t.Run("inside", func(t *testing.T) {
		s := newStage(t, 3)
		all := s.together(3)
		for _, m := range all {
			m.entered()
		}
		s.met(3)
		s.Delete(s.Owned(all[1].sess)[0])
		all[1].broken(queue.ErrLost)
		leave(queue.ErrLost, all[1])
		for _, m := range without(all, 1) {
			m.broken(barrier.ErrBroken, "b on here")
			m.in.Close()
		}
		s.clean()
	})
}

// A death that the machine itself tells of is not waited out.
func TestADeathThatIsHeardOfReleasesAtOnce(t *testing.T) {
	for _, inside := range []bool{false, true} {
		for i, name := range []string{"a", "b", "c"} {
			t.Run(fmt.Sprint(name, inside), func(t *testing.T) {
				s := newStage(t, 4)
				if inside {
					s.size = 3
				}
				died := make(chan struct{})
				start := func(name string) *member {
					b := s.barrier(name, s.Dial())
					b.Who.Life, b.Who.BootID = name, "this machine"
					there := make(chan struct{}, 10)
					b.Progress = func(int) { there <- struct{}{} }
					b.Died = func(who queue.Member) <-chan struct{} {
						if who.Life == []string{"a", "b", "c"}[i] {
							return died
						}
						return nil
					}
					m := s.start(b)
					<-there
					return m
				}
				all := []*member{start("a"), start("b"), start("c")}
				if inside {
					for _, m := range all {
						m.entered()
					}
				}
				close(died)
				for _, m := range without(all, i) {
					if inside {
						m.broken(barrier.ErrBroken, name+" on here")
						m.in.Close()
					} else {
						m.refused(barrier.ErrBroken, name+" on here")
					}
				}
				<-all[i].done
				if inside {
					all[i].in.Close()
				}
				s.clean()
			})
		}
	}
}

func TestTheServerIsRestarted(t *testing.T) {
	s := newStage(t, 3)
	restart := func() {
		s.Server.Kill()
		s.Server.Restart(t)
		if _, err := s.Sess.Get(recipetest.Background(t), "/"); err != nil {
			t.Fatal(err)
		}
	}
	all := []*member{s.waits("a", s.Dial()), s.waits("b", s.Dial())}
	restart()
	all = append(all, s.enters("c"))
	for _, m := range all {
		m.entered()
	}
	restart()
	leave(nil, all...)
	s.clean()
}
