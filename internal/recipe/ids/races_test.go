package ids_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// before does something when the first transaction of a client of the proxy is on its
// way: pass lets it through after that, else it is lost with its connection.
func before(proxy *zktest.Proxy, pass bool, do func()) {
	var once sync.Once
	proxy.OnRequest(func(p []byte) bool {
		if !zktest.IsMulti(p) {
			return true
		}
		ours := false
		once.Do(func() { do(); ours = true })
		return !ours || pass
	})
}

// behind is a pool whose session goes through a proxy.
func (s stage) behind(size int) (*ids.Pool, *zktest.Proxy) {
	s.T.Helper()
	proxy := zktest.NewProxy(s.T, s.Server.Addr)
	return pool(recipetest.Dial(s.T, proxy.Addr, recipetest.Patience), s.Dir, size), proxy
}

// Who does not know whether it has a number must not take another's for its own.
func TestAnothersNumberIsNotTakenForOurs(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.take(s.pool(2)).Close()
	p, proxy := s.behind(2)
	var other *ids.ID
	before(proxy, false, func() { other = s.take(s.pool(2)) })
	wantNumber(t, s.take(p), 2)
	wantNumber(t, other, 1)
}

// Sessions may be shared.
func TestTwoOnOneSessionHaveTwoNumbers(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.pool(2)
	for range 4 {
		both := make(chan *ids.ID, 2)
		for range cap(both) {
			go func() {
				id, err := p.Take(recipetest.Background(t))
				if err != nil {
					t.Error(err)
				}
				both <- id
			}()
		}
		a, b := <-both, <-both
		if a == nil || b == nil || a.Number() == b.Number() || a.Token() == b.Token() {
			t.Fatalf("two on one session have %+v and %+v", a, b)
		}
		a.Close()
		b.Close()
	}
	s.NothingLeft()
}

// The size is made sure of by the transaction that takes the number.
func TestASizeThatChangesInBetweenIsNoticed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.take(s.pool(3)).Close()
	p, proxy := s.behind(3)
	five := s.pool(5)
	before(proxy, true, func() { defer s.take(five) })
	_, err := p.Try(recipetest.Background(t))
	wantErr(t, "a number of three when there are five", err, ids.ErrSize)
	if u, err := ids.Look(recipetest.Background(t), s.Sess, s.Dir); err != nil || u.Size != 5 || len(u.Taken) != 1 {
		t.Errorf("the pool is %+v, %v", u, err)
	}
	// An idle pool is not resized if that ceases to be so in between.
	s = newStage(t)
	s.take(s.pool(3)).Close()
	p, proxy = s.behind(5)
	three := s.pool(3)
	before(proxy, true, func() { s.take(three) })
	_, err = p.Take(recipetest.Background(t))
	wantErr(t, "five of three", err, ids.ErrSize)
}

// Who was removed from the line while its transaction was on the way takes nothing.
func TestAWaiterRemovedAtTheLastMomentTakesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	holder := s.take(s.pool(1))
	p, proxy := s.behind(1)
	w := s.waits(recipetest.Background(t), p)
	before(proxy, true, func() { s.Delete(s.Dir + "/waiting/" + s.waiting()[0]) })
	holder.Close()
	<-w.done
	wantErr(t, "Take", w.err, queue.ErrLost)
	if left := s.Owned(p.Sess); len(left) > 0 {
		t.Errorf("it took %v", left)
	}
}

// What is ours is removed by somebody before we have looked at it.
func TestANumberLostAtOnceIsNotHeld(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.take(s.pool(1)).Close()
	p, proxy := s.behind(1)
	taken := false
	proxy.OnRequest(func(r []byte) bool {
		if zktest.IsMulti(r) {
			taken = true
		} else if taken && zktest.Op(r) == zktest.OpGetData {
			if err := s.Sess.Delete(recipetest.Background(t), s.Dir+"/taken/1"); err != nil && !errors.Is(err, zk.ErrNoNode) {
				t.Error(err)
			}
		}
		return true
	})
	_, err := p.Take(recipetest.Background(t))
	wantErr(t, "Take", err, queue.ErrLost)
	s.NothingLeft()
}

// Containers that are started together are called agent-1 to agent-60, without a gap.
func TestManyWhoComeAtOnceHaveTheLowest(t *testing.T) {
	t.Parallel()
	const many = 60
	s := newStage(t)
	var pools []*ids.Pool
	for range many {
		pools = append(pools, s.pool(ids.MaxSize))
	}
	numbers := make(chan int, many)
	for i, p := range pools {
		go func() {
			take := p.Take
			if i%2 == 0 {
				take = p.Try
			}
			id, err := take(recipetest.Background(t))
			if err != nil {
				t.Error(err)
				numbers <- 0
				return
			}
			numbers <- id.Number()
		}()
	}
	had := map[int]bool{}
	for range many {
		n := <-numbers
		if n < 1 || n > many || had[n] {
			t.Errorf("somebody has number %d", n)
		}
		had[n] = true
	}
}
