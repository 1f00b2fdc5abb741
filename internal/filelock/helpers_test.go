package filelock_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestMain(m *testing.M) { zktest.Together(m) }

// patience is for what should happen soon, on a busy machine too.
const patience = 10 * time.Second

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	return ctx
}

func shared(t testing.TB) string { return strings.Split(zktest.Shared(t), ",")[0] }

// fleet is a queue of the test's own, and an onlooker's session.
type fleet struct {
	t    testing.TB
	addr string
	root filelock.Root
	sess *session.Session // the onlooker's
}

func newFleet(t testing.TB) *fleet { return newFleetAt(t, shared(t)) }

func newFleetAt(t testing.TB, addr string) *fleet {
	f := &fleet{t: t, addr: addr, root: filelock.Root(zktest.Root(t))}
	f.sess = f.dial(addr, 20*time.Second)
	if err := filelock.Ensure(background(t), f.sess, f.root); err != nil {
		t.Fatalf("ensure: %v", err)
	}
	if err := queue.Ensure(background(t), f.sess, f.root.Queue(1)); err != nil { // to plant nodes in
		t.Fatal(err)
	}
	return f
}

func (f *fleet) dial(addr string, timeout time.Duration) *session.Session {
	f.t.Helper()
	sess, err := session.Dial(background(f.t), session.Options{
		Servers: []string{addr}, Timeout: timeout, ConnectTimeout: patience,
	})
	if err != nil {
		f.t.Fatalf("dial: %v", err)
	}
	f.t.Cleanup(sess.Close)
	return sess
}

// queue is the queue as the onlooker sees it now.
func (f *fleet) queue() []filelock.Entry {
	f.t.Helper()
	if err := f.sess.Sync(background(f.t), f.root.Queue(1)); err != nil {
		f.t.Fatalf("sync: %v", err)
	}
	entries, err := filelock.Look(background(f.t), f.sess, f.root)
	if err != nil {
		f.t.Fatalf("look: %v", err)
	}
	return entries
}

// agents is who is in the queue, in order.
func (f *fleet) agents() string {
	f.t.Helper()
	var names []string
	for _, e := range f.queue() {
		names = append(names, e.Agent)
	}
	return strings.Join(names, " ")
}

func (f *fleet) wantAgents(want string) {
	f.t.Helper()
	if got := f.agents(); got != want {
		f.t.Errorf("in the queue: %q, want %q", got, want)
	}
}

func (f *fleet) node(path string) session.Node {
	f.t.Helper()
	if err := f.sess.Sync(background(f.t), path); err != nil {
		f.t.Fatal(err)
	}
	node, err := f.sess.Get(background(f.t), path)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		f.t.Fatalf("%s: %v", path, err)
	}
	return node
}

func (f *fleet) head() session.Node { return f.node(f.root.Head()) }

// wantHead wants that head was made by the commit with that label; "" means no head.
func (f *fleet) wantHead(want string) {
	f.t.Helper()
	got := ""
	if node := f.head(); len(node.Data) > 0 {
		head, err := frame.ParseHead(node.Data)
		if err != nil {
			f.t.Fatal(err)
		}
		got = head.Agent
	}
	if got != want {
		f.t.Errorf("head is %q, want %q", got, want)
	}
}

var incarnation = frame.Incarnation{ID: uuid.MustParse("5f0c2e3a-0000-4000-8000-000000000001"), From: 1}

var run = uuid.MustParse("0d9b6d5a-0000-4000-8000-000000000002")

func beginning(label string) frame.Head {
	return frame.Begin(incarnation, 0, nil, label, time.Now())
}

// setHead is somebody who meddles.
func (f *fleet) setHead(label string) {
	f.t.Helper()
	data := beginning(label).Encode()
	op := any(&zk.SetDataRequest{Path: f.root.Head(), Data: data, Version: -1})
	if stat := f.head().Stat; stat == nil || stat.Mzxid == 0 {
		op = &zk.CreateRequest{Path: f.root.Head(), Data: data, Acl: f.sess.ACL()}
	}
	if _, err := f.sess.Multi(background(f.t), op); err != nil {
		f.t.Fatal(err)
	}
}

// labelOf is what a hold's head says: the label of the last commit, "" when there is none.
func labelOf(h *filelock.Hold) string {
	head, _ := h.Head()
	return head.Agent
}

// turn is the hold's next turn, of one record: its label.
func turn(h *filelock.Hold, label string) frame.Turn {
	head, _ := h.Head()
	return head.Next(frame.Header{Token: h.Token(), Agent: label, At: time.Now()}, run, [][]byte{[]byte(label)})
}

// tryCommit commits a turn with that label.
func tryCommit(t testing.TB, h *filelock.Hold, label string, again bool) (*filelock.Place, error) {
	t.Helper()
	return h.Commit(background(t), filelock.Commit{Turn: turn(h, label), Again: again})
}

// begin makes head, and the node of the turn 0.
func begin(t testing.TB, h *filelock.Hold, label string) error {
	t.Helper()
	return h.Begin(background(t), beginning(label), frame.First(incarnation, run))
}

// turns lists the nodes of turns/ by number.
func (f *fleet) turns() (numbers []uint64) {
	f.t.Helper()
	if err := f.sess.Sync(background(f.t), f.root.Turns()); err != nil {
		f.t.Fatal(err)
	}
	names, err := filelock.ListTurns(background(f.t), f.sess, f.root)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range names {
		numbers = append(numbers, name.Number)
	}
	return numbers
}

func (f *fleet) wantTurns(want ...uint64) {
	f.t.Helper()
	if got := f.turns(); !slices.Equal(got, want) {
		f.t.Errorf("in turns/: %v, want %v", got, want)
	}
}

func (f *fleet) evict(place string) {
	f.t.Helper()
	if err := filelock.Evict(background(f.t), f.sess, f.root, place); err != nil {
		f.t.Fatal(err)
	}
}

// plant makes a node in the queue by hand.
func (f *fleet) plant(name string, flags int32) string {
	f.t.Helper()
	return f.plantCard(name, "planted", flags)
}

func (f *fleet) plantCard(name, card string, flags int32) string {
	f.t.Helper()
	got, err := f.sess.Create(background(f.t), f.root.Queue(1)+"/"+name, []byte(card), flags)
	if err != nil {
		f.t.Fatalf("plant %q: %v", name, err)
	}
	return path.Base(got)
}

// placeOf is the name of an agent's place.
func (f *fleet) placeOf(agent string) string {
	f.t.Helper()
	for _, e := range f.queue() {
		if e.Agent == agent {
			return e.Place
		}
	}
	f.t.Fatalf("%s is not in the queue", agent)
	return ""
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func is(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// id is a name's first part that no agent of ours has.
func id(letter string) string { return strings.Repeat(letter, 32) }

func nth(seq int) string { return fmt.Sprintf("-%010d", seq) }

// touch writes into a place.
func (f *fleet) touch(place string) {
	f.t.Helper()
	_, err := f.sess.Multi(background(f.t), &zk.SetDataRequest{
		Path: f.root.Queue(1) + "/" + place, Data: []byte(`{"agent":"a"}`), Version: -1,
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func zapName(name string) zap.Field { return zap.String("node", name) }
