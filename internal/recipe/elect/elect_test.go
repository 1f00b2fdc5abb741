package elect_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func take(ctx context.Context, sess *session.Session, dir string) (recipetest.Held, error) {
	l, err := (&elect.Election{Sess: sess, Dir: dir, Who: queue.Member{Agent: "a"}}).Campaign(ctx)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func campaign(t *testing.T, sess *session.Session, dir string) *elect.Leadership {
	t.Helper()
	l, err := take(recipetest.Background(t), sess, dir)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*elect.Leadership)
}

func TestFaults(t *testing.T) { recipetest.Faults(t, take) }

func TestAmongAHundredTheEndOfOneWakesOne(t *testing.T) { recipetest.Herd(t, take, 100) }

func TestTokensRiseFromLeaderToLeader(t *testing.T) {
	s := recipetest.NewStage(t)
	var before uint64
	for range 5 {
		l := campaign(t, s.Sess, s.Dir)
		if l.Token() <= before {
			t.Fatalf("token %d follows %d", l.Token(), before)
		}
		before = l.Token()
		l.Close()
		l.Close()
		if !errors.Is(l.Err(), context.Canceled) {
			t.Errorf("after Close: %v", l.Err())
		}
	}
	s.NothingLeft()
}

// TestADeposedLeadersTransactionFails is what Check is for: the leader does not know yet,
// and ZooKeeper does.
func TestADeposedLeadersTransactionFails(t *testing.T) {
	s := recipetest.NewStage(t)
	ctx := recipetest.Background(t)
	sess := s.Dial()
	l := campaign(t, sess, s.Dir)
	set := &zk.CreateRequest{Path: s.Dir + "-done", Acl: zk.WorldACL(zk.PermAll)}
	if _, err := sess.Multi(ctx, l.Check(), set); err != nil {
		t.Fatalf("while it leads: %v", err)
	}
	set.Path += "-late"
	s.Delete(s.Owned(sess)[0])
	if _, err := sess.Multi(ctx, l.Check(), set); !errors.Is(err, zk.ErrNoNode) {
		t.Errorf("deposed: %v", err)
	}
	l.Close()
	s.NothingLeft()
}

// TestLeadershipEndsBeforeAnotherCanHaveIt cuts the leader off: its context must have
// ended when the next is elected.
func TestLeadershipEndsBeforeAnotherCanHaveIt(t *testing.T) {
	s := recipetest.NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	l := campaign(t, recipetest.Dial(t, proxy.Addr, 2*time.Second), s.Dir)
	var ended time.Time
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-l.Context().Done()
		ended = time.Now()
	}()
	proxy.Refuse(true)
	next := campaign(t, s.Sess, s.Dir)
	at := time.Now()
	if l.Err() == nil { // which looks at the clock
		t.Error("the next leads, and by the leader's clock it still did")
	}
	<-done
	if !errors.Is(l.Err(), session.ErrExpired) {
		t.Errorf("it ended with %v", l.Err())
	}
	t.Logf("the leader knew %v before the next was elected", at.Sub(ended))
	next.Close()
	l.Close()
	s.NothingLeft()
}

func TestCandidatesAreListedLeaderFirst(t *testing.T) {
	s := recipetest.NewStage(t)
	ctx := recipetest.Background(t)
	if none, err := elect.Look(ctx, s.Sess, s.Dir); err != nil || len(none) != 0 {
		t.Errorf("before anybody stood: %v, %v", none, err)
	}
	first := campaign(t, s.Dial(), s.Dir)
	waiting, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	sess := s.Dial()
	go func() {
		_, err := (&elect.Election{Sess: sess, Dir: s.Dir, Who: queue.Member{Agent: "b"}}).Campaign(waiting)
		ended <- err
	}()
	recipetest.Eventually(t, "both are listed", func() bool {
		entries, err := elect.Look(ctx, s.Sess, s.Dir)
		return err == nil && len(entries) == 2 && entries[0].Agent == "a" && entries[0].Token == first.Token() && entries[1].Agent == "b"
	})
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	first.Close()
	s.NothingLeft()
}
