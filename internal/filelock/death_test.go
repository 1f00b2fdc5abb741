package filelock_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// lives is what is known of who died, as the test will have it.
type lives struct {
	mu    sync.Mutex
	died  map[string]chan struct{}
	asked map[string]int
}

func newLives(names ...string) *lives {
	l := &lives{died: map[string]chan struct{}{}, asked: map[string]int{}}
	for _, name := range names {
		l.died[name] = make(chan struct{})
	}
	return l
}

// tell is a Queue's Died.
func (l *lives) tell(m filelock.Member) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[m.Life]++
	return l.died[m.Life]
}

func (l *lives) askedAbout(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[name]
}

func (l *lives) end(name string) { close(l.died[name]) }

const boot = "this boot"

// mortal is a member whose death the others can notice, by its name.
func (f *fleet) mortal(name string, l *lives) *member {
	f.t.Helper()
	return f.as(filelock.Member{Agent: name, BootID: boot, Life: name}, l)
}

func (f *fleet) as(who filelock.Member, l *lives) *member {
	f.t.Helper()
	m := f.member(who.Agent)
	core, logs := observer.New(zap.DebugLevel)
	m.log = logs
	m.Queue = filelock.New(m.sess, f.root, who, l.tell, zap.New(core))
	return m
}

// enter makes the member's name under agents/.
func (m *member) enter() {
	m.f.t.Helper()
	if _, err := m.sess.Create(background(m.f.t), m.f.root.Agents()+"/"+m.name, nil, zk.FlagEphemeral); err != nil {
		m.f.t.Fatal(err)
	}
}

func (f *fleet) isIn(name string) bool {
	f.t.Helper()
	names, err := f.sess.Children(background(f.t), f.root.Agents())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// The dead one's session lives on to the end: it was not waited for.
func TestADeadHoldersPlaceIsRemovedAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a", "b")
	a, b := f.mortal("a", l), f.mortal("b", l)
	a.enter()
	b.enter()
	f.setHead("before")
	hold := a.hold()
	waits := b.waits(b.join())
	l.end("a")
	f.wantHold(waits, "before")
	f.wantAgents("b")
	if f.isIn("a") || !f.isIn("b") {
		t.Errorf("in the fleet: a %v, b %v", f.isIn("a"), f.isIn("b"))
	}
	// It lives after all. That does no harm.
	_, err := tryCommit(t, hold, "late", true)
	is(t, "commit after the eviction", err, filelock.ErrLost)
	f.wantHead("before")
	if err := a.sess.Err(); err != nil {
		t.Errorf("the session of the dead: %v", err)
	}
}

func TestSeveralDeadAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a", "b", "c", "d")
	f.mortal("a", l).hold()
	f.mortal("b", l).join()
	f.mortal("c", l).join()
	d := f.mortal("d", l)
	waits := d.waits(d.join())
	for _, name := range []string{"a", "c", "b"} {
		l.end(name)
	}
	f.wantHold(waits, "")
	f.wantAgents("d")
}

// The dead one is in the middle: those before it keep their turns.
func TestADeadWaiterIsRemovedAndNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a", "b", "c")
	a, b, c := f.mortal("a", l), f.mortal("b", l), f.mortal("c", l)
	hold := a.hold()
	b.join()
	waits := c.waits(c.join())
	l.end("b")
	eventually(t, "c asks about a", func() bool { return l.askedAbout("a") > 0 })
	f.wantAgents("a c")
	is(t, "the holder", hold.Confirm(), nil)
	f.commit(hold, "one", false)
	f.wantHold(waits, "one")
}

func TestOnlyMembersOfOurMachineAreAskedAbout(t *testing.T) {
	t.Parallel()
	for name, card := range map[string]string{
		"of another machine": `{"agent":"a","boot_id":"another boot","life":"a"}`,
		"of no machine":      `{"agent":"a","life":"a"}`,
		"without a life":     `{"agent":"a","boot_id":"this boot"}`,
		"malformed":          `{"agent":"a","boot_id":"this boot","life":"a"`,
		"of another kind":    `{"agent":"a","boot_id":"this boot","life":["a"]}`,
		"partly understood":  `{"agent":["a"],"boot_id":"this boot","life":"a"}`,
		"a list":             `["a"]`,
		"empty":              ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			l := newLives("a", "")
			l.end("a")
			l.end("")
			place := f.plantCard(id("0")+"-", card, zk.FlagEphemeral|zk.FlagSequence)
			b := f.mortal("b", l)
			waits := b.waits(b.join())
			f.evict(place)
			f.wantHold(waits, "")
			if l.askedAbout("a") > 0 || l.askedAbout("") > 0 {
				t.Error("it was asked about")
			}
		})
	}
}

// Not knowing our own machine we cannot know who else is on it.
func TestAMemberOfNoMachineAsksAboutNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a")
	l.end("a")
	hold := f.as(filelock.Member{Agent: "a", Life: "a"}, l).hold()
	b := f.as(filelock.Member{Agent: "b", Life: "b"}, l)
	waits := b.waits(b.join())
	f.commit(hold, "one", false)
	f.wantHold(waits, "one")
	if n := l.askedAbout("a"); n > 0 {
		t.Errorf("asked %d times", n)
	}
}

// The dead one's name is another's by now, in another session: it stays.
func TestANameThatIsAnothersStays(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a")
	a, b := f.mortal("a", l), f.mortal("b", l)
	a.hold()
	other := f.member("a")
	other.enter()
	waits := b.waits(b.join())
	l.end("a")
	f.wantHold(waits, "")
	f.wantAgents("b")
	if !f.isIn("a") {
		t.Error("the name of another was removed")
	}
}

// The dead one's session ends between our look at its name and our removing it, and
// somebody takes the name in that very moment.
func TestANameThatBecomesAnothersMeanwhileStays(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a")
	a, b := f.mortal("a", l), f.mortal("b", l)
	a.enter()
	a.hold()
	waits := b.waits(b.join())
	var once sync.Once
	b.proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) {
			once.Do(func() {
				a.sess.Close()
				f.member("a").enter()
			})
		}
		return true
	})
	l.end("a")
	f.wantHold(waits, "")
	f.wantAgents("b")
	if !f.isIn("a") {
		t.Error("the name of another was removed")
	}
}

// Its commit is on its way when its death is noticed: the next one has it, or it never
// will be.
func TestACommitThatOvertakesTheEvictionCounts(t *testing.T) {
	t.Parallel()
	for _, entered := range []bool{false, true} {
		t.Run(fmt.Sprint("with a name: ", entered), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			l := newLives("a")
			a, b := f.mortal("a", l), f.mortal("b", l)
			if entered {
				a.enter()
			}
			hold := a.hold()
			waits := b.waits(b.join())
			place := []byte(f.placeOf("a"))
			var once sync.Once
			b.proxy.OnRequest(func(p []byte) bool {
				if op := zktest.Op(p); (op == zktest.OpDelete || op == zktest.OpMulti) && bytes.Contains(p, place) {
					once.Do(func() { f.commit(hold, "committed", false) })
				}
				return true
			})
			l.end("a")
			f.wantHold(waits, "committed")
			f.wantAgents("b")
		})
	}
}

func TestACommitThatComesAfterTheEvictionNeverCounts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a")
	a, b := f.mortal("a", l), f.mortal("b", l)
	f.setHead("before")
	hold := a.hold()
	waits := b.waits(b.join())
	evicted := make(chan struct{})
	a.proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) {
			<-evicted
		}
		return true
	})
	sent := make(chan error, 1)
	go func() {
		_, err := tryCommit(t, hold, "late", false)
		sent <- err
	}()
	l.end("a")
	got := f.get(waits)
	close(evicted)
	is(t, "the late commit", <-sent, filelock.ErrLost)
	if got.err != nil || labelOf(got.hold) != "before" {
		t.Errorf("the next: %v", got.err)
	}
	f.wantHead("before")
}

// A place that cannot be removed is waited for, as if nothing were known.
func TestAPlaceThatCannotBeRemovedIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a")
	l.end("a")
	card := fmt.Sprintf(`{"agent":"a","boot_id":%q,"life":"a"}`, boot)
	place := f.plantCard(id("0")+nth(0), card, 0)
	f.member("x").join().Leave() // so that b's sequence is not the first
	inside := f.root.Queue(1) + "/" + place + "/inside"
	if _, err := f.sess.Create(background(t), inside, nil, 0); err != nil {
		t.Fatal(err)
	}
	b := f.mortal("b", l)
	waits := b.waits(b.join())
	eventually(t, "b says so", func() bool { return b.log.FilterMessageSnippet("cannot be removed").Len() > 0 })
	f.wantWaiting(waits)
	if err := f.sess.Delete(background(t), inside); err != nil {
		t.Fatal(err)
	}
	f.evict(place)
	f.wantHold(waits, "")
	if n := b.log.FilterMessageSnippet("has died").Len(); n != 1 {
		t.Errorf("tried %d times", n)
	}
}

// While the death cannot be made known, because the line is dead, the wait ends with
// its context.
func TestBuryingEndsWithTheWait(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	l := newLives("a")
	a, b := f.mortal("a", l), f.mortal("b", l)
	a.hold()
	ctx, stop := context.WithTimeout(background(t), time.Hour)
	defer stop()
	place := b.join()
	seen := b.sees(4)
	waits := b.waiting(ctx, place)
	b.settledIn(seen, 2)
	b.proxy.HalfOpen(true)
	l.end("a")
	eventually(t, "b buries", func() bool { return b.log.FilterMessageSnippet("has died").Len() > 0 })
	stop()
	is(t, "wait", f.get(waits).err, context.Canceled)
}
