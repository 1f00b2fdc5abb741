package ids_test

import (
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
)

func TestTheLowestFreeNumberIsTaken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.pool(5)
	var held []*ids.ID
	for n := 1; n <= 5; n++ {
		id := s.take(p)
		wantNumber(t, id, n)
		held = append(held, id)
	}
	_, err := p.Try(recipetest.Background(t))
	wantErr(t, "a sixth", err, ids.ErrFull)
	held[3].Close()
	held[1].Close()
	held[1].Close()
	again := s.take(p)
	wantNumber(t, again, 2)
	if again.Token() <= held[1].Token() {
		t.Errorf("number 2 had token %d, then %d", held[1].Token(), again.Token())
	}
	fourth, err := p.Try(recipetest.Background(t))
	if err != nil {
		t.Fatal(err)
	}
	wantNumber(t, fourth, 4)
	for _, id := range append(held, again, fourth) {
		id.Close()
		wantErr(t, "cause after Close", context.Cause(id.Context()), context.Canceled)
	}
	s.NothingLeft()
}

func TestWaitersAreServedInOrderThoughOthersCome(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	first, second := s.take(s.pool(2)), s.take(s.pool(2))
	var line []*taking
	for range 4 {
		line = append(line, s.waits(recipetest.Background(t), s.pool(2)))
	}
	late := s.pool(2)
	for i, leaving := range []*ids.ID{second, first} {
		leaving.Close()
		_, err := late.Try(recipetest.Background(t)) // perhaps before the first in the line has it
		wantErr(t, "a try while others wait", err, ids.ErrFull)
		next := line[i].must(t)
		wantNumber(t, next, leaving.Number())
		select {
		case <-line[i+1].done:
			t.Errorf("waiter %d has a number before its turn", i+1)
		default:
		}
		defer next.Close()
	}
	line[0].id.Close()
	line[1].id.Close()
	for _, w := range line[2:] {
		w.must(t).Close()
	}
	s.NothingLeft()
}

func TestTryTakesWhatNoWaiterCouldHave(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.take(s.pool(3)).Close()
	// Somebody who joined the line and is slow.
	slow := &queue.Line{Sess: s.Sess, Dir: s.Dir + "/waiting", Log: zap.NewNop()}
	place, err := slow.Join(recipetest.Background(t))
	if err != nil {
		t.Fatal(err)
	}
	s.create(s.Dir + "/waiting/foreign")
	p := s.pool(3)
	for _, number := range []int{2, 3} { // 1 is the waiter's
		id, err := p.Try(recipetest.Background(t))
		if err != nil {
			t.Fatalf("with one waiter and numbers to spare: %v", err)
		}
		wantNumber(t, id, number)
		defer id.Close()
	}
	_, err = p.Try(recipetest.Background(t))
	wantErr(t, "the waiter's own number", err, ids.ErrFull)
	w := s.waits(recipetest.Background(t), s.pool(3))
	place.Leave()
	w.must(t).Close()
	id, err := p.Try(recipetest.Background(t))
	if err != nil {
		t.Fatal(err)
	}
	id.Close()
}

// Who is woken because the one before it went away is not the first by that.
func TestAWaiterMovesUpWhenOneBeforeItGivesUp(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	holder := s.take(s.pool(1))
	slow := &queue.Line{Sess: s.Sess, Dir: s.Dir + "/waiting", Log: zap.NewNop()}
	place, err := slow.Join(recipetest.Background(t))
	if err != nil {
		t.Fatal(err)
	}
	watches := s.Server.Watches(t)
	ctx, cancel := context.WithCancel(recipetest.Background(t))
	second := s.waits(ctx, s.pool(1))
	p := s.pool(1)
	third := s.waits(recipetest.Background(t), p)
	recipetest.Eventually(t, "both watch", func() bool { return s.Server.Watches(t) == watches+4 })
	cancel()
	<-second.done
	recipetest.Eventually(t, "the third watches anew", func() bool { return s.Server.Watches(t) == watches+3 })
	holder.Close()
	for range 10 { // time enough for it, were it to believe that its turn has come
		if err := queue.Barrier(recipetest.Background(t), p.Sess, s.Dir); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-third.done:
		t.Error("the third was served before the first")
	default:
	}
	place.Leave()
	third.must(t).Close()
	s.NothingLeft()
}

func TestANumberOfSomebodyElsesCountsAsTaken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.take(s.pool(3)).Close()
	for _, name := range []string{"1", "02", "4", "3x"} {
		s.create(path.Join(s.Dir, "taken", name))
	}
	p := s.pool(3)
	id := s.take(p)
	wantNumber(t, id, 2)
	wantNumber(t, s.take(p), 3)
	_, err := p.Try(recipetest.Background(t))
	wantErr(t, "a third", err, ids.ErrFull)
	u, err := ids.Look(recipetest.Background(t), s.Sess, s.Dir)
	if err != nil || u.Size != 3 || len(u.Taken) != 4 || u.Taken[1].Agent != "a" || u.Taken[1].Token != id.Token() || u.Taken[1].Since.IsZero() {
		t.Errorf("an onlooker sees %+v, %v", u, err)
	}
}

func TestTheHolderIsToldWhoeverHasTheNumberNow(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.pool(1)
	id := s.take(p)
	node := s.Dir + "/taken/1"
	if _, err := s.Sess.Set(recipetest.Background(t), node, []byte("{"), -1); err != nil { // changes nothing
		t.Fatal(err)
	}
	if err := queue.Barrier(recipetest.Background(t), p.Sess, node); err != nil {
		t.Fatal(err)
	}
	if err := id.Context().Err(); err != nil {
		t.Errorf("a scribble ended it: %v", err)
	}
	// In one transaction, so that the holder sees a node of that name all the time.
	if _, err := s.Sess.Multi(recipetest.Background(t),
		&zk.DeleteRequest{Path: node, Version: -1},
		&zk.CreateRequest{Path: node, Acl: s.Sess.ACL()}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-id.Context().Done():
		wantErr(t, "cause", context.Cause(id.Context()), queue.ErrLost)
	case <-time.After(recipetest.Patience):
		t.Fatal("the holder was never told")
	}
	id.Close()
	if _, err := s.Sess.Get(recipetest.Background(t), node); err != nil {
		t.Errorf("Close removed what is another's: %v", err)
	}
}

// Close must not remove another's node even when the holder was not told yet.
func TestCloseLeavesAnothersNumberAlone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for range 20 {
		id := s.take(s.pool(1))
		other := s.pool(1)
		s.Delete(s.Dir + "/taken/1")
		its := s.take(other)
		id.Close()
		if err := queue.Barrier(recipetest.Background(t), other.Sess, s.Dir+"/taken/1"); err != nil {
			t.Errorf("the next holder's node: %v", err)
		}
		its.Close()
	}
}

func TestUsersOfDifferentSizesAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ctx := recipetest.Background(t)
	id := s.take(s.pool(3))
	_, err := s.pool(5).Take(ctx)
	wantErr(t, "another size", err, ids.ErrSize)
	t.Log(err)
	for _, want := range []string{"3", "5"} {
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	id.Close()
	five := s.pool(5)
	id = s.take(five) // nobody uses it: it has five from here on
	_, err = s.pool(3).Try(ctx)
	wantErr(t, "the former size", err, ids.ErrSize)
	for range 4 {
		defer s.take(five).Close()
	}
	w := s.waits(ctx, s.pool(5))
	id.Close()
	w.must(t).Close()
	for _, size := range []int{0, -1, ids.MaxSize + 1} {
		_, err = s.pool(size).Take(ctx)
		wantErr(t, fmt.Sprintf("size %d", size), err, ids.ErrSize)
	}
	s.create(path.Dir(s.Dir) + "/other")
	_, err = pool(s.Sess, path.Dir(s.Dir)+"/other", 3).Take(ctx)
	wantErr(t, "a node that is no pool's", err, ids.ErrSize)
	t.Log(err)
}
