package elect_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/lifeline"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// candidate is a Runner and what it told.
type candidate struct {
	elect.Runner
	t      *testing.T
	mu     sync.Mutex
	events []elect.Event
	led    chan *elect.Leadership // told of each leadership
	expiry time.Duration          // its sessions' timeout
	enough chan error             // ends one
	ended  chan error
}

func newCandidate(t *testing.T, addr, dir string) *candidate {
	c := &candidate{t: t, expiry: 20 * time.Second, led: make(chan *elect.Leadership, 10), enough: make(chan error), ended: make(chan error, 1)}
	c.Runner = elect.Runner{
		Dial: func(ctx context.Context, notify func(session.State)) (elect.Session, error) {
			return session.Dial(ctx, session.Options{
				Servers: []string{addr}, Timeout: c.expiry, ConnectTimeout: recipetest.Patience, Notify: notify,
			})
		},
		Dir: dir, Who: queue.Member{Agent: "a", BootID: "b"}, Log: zap.NewNop(),
		Events: func(e elect.Event) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, e)
		},
	}
	return c
}

func (c *candidate) start(ctx context.Context) *candidate {
	go func() {
		c.ended <- c.Run(ctx, func(ctx context.Context, l *elect.Leadership) error {
			c.led <- l
			select {
			case err := <-c.enough:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	return c
}

func (c *candidate) elected() *elect.Leadership {
	c.t.Helper()
	select {
	case l := <-c.led:
		return l
	case err := <-c.ended:
		c.t.Fatalf("ended with %v", err)
	case <-time.After(recipetest.Patience):
		c.t.Fatal("never elected")
	}
	return nil
}

func (c *candidate) end(want error) {
	c.t.Helper()
	select {
	case err := <-c.ended:
		if !errors.Is(err, want) {
			c.t.Errorf("ended with %v, want %v", err, want)
		}
	case <-time.After(recipetest.Patience):
		c.t.Fatal("does not end")
	}
}

func (c *candidate) told() (kinds []elect.Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (c *candidate) mustHaveTold(want ...elect.Kind) {
	c.t.Helper()
	if got := c.told(); !slices.Equal(got, want) {
		c.t.Errorf("it told %v, want %v", got, want)
	}
}

func TestARunEndsWhenTheLeaderHasEnough(t *testing.T) {
	s := recipetest.NewStage(t)
	why := errors.New("enough")
	c := newCandidate(t, s.Server.Addr, s.Dir).start(recipetest.Background(t))
	l := c.elected()
	c.enough <- why
	c.end(why)
	c.mustHaveTold(elect.Connected, elect.Elected, elect.Resigned)
	if c.events[1].Token != l.Token() || !errors.Is(c.events[2].Why, why) {
		t.Errorf("told %+v", c.events)
	}
	s.NothingLeft()
}

func TestARunThatIsToldToStopResigns(t *testing.T) {
	s := recipetest.NewStage(t)
	ctx, stop := context.WithCancel(recipetest.Background(t))
	c := newCandidate(t, s.Server.Addr, s.Dir).start(ctx)
	c.elected()
	next := newCandidate(t, s.Server.Addr, s.Dir).start(recipetest.Background(t))
	recipetest.Eventually(t, "the next waits", func() bool { return len(s.Ephemeral()) == 2 })
	stop()
	c.end(nil)
	c.mustHaveTold(elect.Connected, elect.Elected, elect.Resigned)
	next.elected()
	next.enough <- nil
	next.end(nil)
	s.NothingLeft()
}

// TestTheNextLeadsOnlyWhenTheLeadersWorkHasEnded lets a leader linger that was told to stop.
func TestTheNextLeadsOnlyWhenTheLeadersWorkHasEnded(t *testing.T) {
	s := recipetest.NewStage(t)
	ctx, stop := context.WithCancel(recipetest.Background(t))
	lingers, linger := make(chan struct{}), make(chan struct{})
	first := newCandidate(t, s.Server.Addr, s.Dir)
	go func() {
		first.ended <- first.Run(ctx, func(ctx context.Context, l *elect.Leadership) error {
			first.led <- l
			<-ctx.Done()
			close(lingers)
			<-linger
			return nil
		})
	}()
	first.elected()
	next := newCandidate(t, s.Server.Addr, s.Dir).start(recipetest.Background(t))
	recipetest.Eventually(t, "the next waits", func() bool { return len(s.Ephemeral()) == 2 })
	stop()
	<-lingers
	if n := len(s.Ephemeral()); n != 2 {
		t.Errorf("%d candidates while the leader still works", n)
	}
	close(linger)
	first.end(nil)
	next.elected()
	next.enough <- nil
	next.end(nil)
	s.NothingLeft()
}

func TestARunGoesOnInAnotherSession(t *testing.T) {
	s := recipetest.NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	c := newCandidate(t, proxy.Addr, s.Dir)
	c.expiry = 2 * time.Second
	c.start(recipetest.Background(t))
	first := c.elected()
	proxy.Refuse(true)
	select {
	case <-first.Context().Done():
	case <-time.After(recipetest.Patience):
		t.Fatal("it leads for ever")
	}
	proxy.Refuse(false)
	if second := c.elected(); second.Token() <= first.Token() {
		t.Errorf("token %d follows %d", second.Token(), first.Token())
	}
	c.enough <- nil
	c.end(nil)
	c.mustHaveTold(elect.Connected, elect.Elected, elect.Suspended, elect.Lost, elect.Resigned,
		elect.Connected, elect.Elected, elect.Resigned)
	s.NothingLeft()
}

func TestAShortCutOfTheConnectionEndsNoLeadership(t *testing.T) {
	s := recipetest.NewStage(t)
	proxy := zktest.NewProxy(t, s.Server.Addr)
	c := newCandidate(t, proxy.Addr, s.Dir).start(recipetest.Background(t))
	l := c.elected()
	proxy.Cut()
	recipetest.Eventually(t, "it is connected again", func() bool { return len(c.told()) == 4 })
	if l.Err() != nil {
		t.Error(l.Err())
	}
	c.enough <- nil
	c.end(nil)
	c.mustHaveTold(elect.Connected, elect.Elected, elect.Suspended, elect.Connected, elect.Resigned)
	s.NothingLeft()
}

func TestARunWhoseCandidacyIsRemovedStandsAgain(t *testing.T) {
	s := recipetest.NewStage(t)
	c := newCandidate(t, s.Server.Addr, s.Dir).start(recipetest.Background(t))
	l := c.elected()
	s.Delete(s.Ephemeral()[0])
	if again := c.elected(); again.Token() <= l.Token() || !errors.Is(l.Err(), queue.ErrLost) {
		t.Errorf("token %d follows %d, which ended with %v", again.Token(), l.Token(), l.Err())
	}
	c.enough <- nil
	c.end(nil)
	c.mustHaveTold(elect.Connected, elect.Elected, elect.Resigned, elect.Elected, elect.Resigned)
	s.NothingLeft()
}

func TestThatNoServerAnswersIsAnErrorAtFirst(t *testing.T) {
	proxy := zktest.NewProxy(t, "127.0.0.1:1")
	c := newCandidate(t, proxy.Addr, "/nowhere")
	c.Dial = func(ctx context.Context, notify func(session.State)) (elect.Session, error) {
		return session.Dial(ctx, session.Options{Servers: []string{proxy.Addr}, Timeout: time.Second, ConnectTimeout: 50 * time.Millisecond})
	}
	c.start(recipetest.Background(t)).end(session.ErrUnavailable)
	c.mustHaveTold()
}

// TestADeadLeadersMachineDoesNotWaitForItsSession lets a leader's lifeline end, as the
// kernel does when its process is killed, while its session lives.
func TestADeadLeadersMachineDoesNotWaitForItsSession(t *testing.T) {
	s := recipetest.NewStage(t)
	dir := lifeline.Dir(t.TempDir())
	mortal, heir := recipetest.NewMortals(dir), recipetest.NewMortals(dir)
	life, _, err := mortal.Hold("killed")
	if err != nil {
		t.Fatal(err)
	}
	dead := recipetest.Dial(t, s.Server.Addr, 40*time.Second)
	e := elect.Election{Sess: dead, Dir: s.Dir, Who: queue.Member{Agent: "dead", BootID: "b", Life: life}}
	l, err := e.Campaign(recipetest.Background(t))
	if err != nil {
		t.Fatal(err)
	}
	c := newCandidate(t, s.Server.Addr, s.Dir)
	c.Lives = heir
	c.start(recipetest.Background(t))
	<-heir.Watched
	since := time.Now()
	mortal.Die()
	c.elected()
	t.Logf("healed in %v", time.Since(since))
	if !errors.Is(l.Err(), queue.ErrLost) {
		recipetest.Eventually(t, "the other is told", func() bool { return errors.Is(l.Err(), queue.ErrLost) })
	}
	c.enough <- nil
	c.end(nil)
	l.Close()
	s.NothingLeft()
}
