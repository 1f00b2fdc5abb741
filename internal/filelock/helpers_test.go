package filelock_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

// Many tests here wait for a session to expire: they may do so together.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

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
	if err := f.sess.Sync(background(f.t), f.root.Queue()); err != nil {
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

func (f *fleet) head() session.Node {
	f.t.Helper()
	node, err := f.sess.Get(background(f.t), f.root.Head())
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		f.t.Fatalf("head: %v", err)
	}
	return node
}

func (f *fleet) wantHead(want string) {
	f.t.Helper()
	if err := f.sess.Sync(background(f.t), f.root.Head()); err != nil {
		f.t.Fatal(err)
	}
	if got := string(f.head().Data); got != want {
		f.t.Errorf("head is %q, want %q", got, want)
	}
}

// setHead is somebody who meddles.
func (f *fleet) setHead(data string) {
	f.t.Helper()
	op := any(&zk.SetDataRequest{Path: f.root.Head(), Data: []byte(data), Version: -1})
	if stat := f.head().Stat; stat == nil || stat.Mzxid == 0 {
		op = &zk.CreateRequest{Path: f.root.Head(), Data: []byte(data), Acl: f.sess.ACL()}
	}
	if _, err := f.sess.Multi(background(f.t), op); err != nil {
		f.t.Fatal(err)
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
	got, err := f.sess.Create(background(f.t), f.root.Queue()+"/"+name, []byte("planted"), flags)
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

// done is closed when ctx is, with a cause that must be want.
func ends(t testing.TB, ctx context.Context, want error) {
	t.Helper()
	select {
	case <-ctx.Done():
		is(t, "the context's cause", context.Cause(ctx), want)
	case <-time.After(patience):
		t.Fatal("the context does not end")
	}
}

// id is a name's first part that no agent of ours has.
func id(letter string) string { return strings.Repeat(letter, 32) }

func nth(seq int) string { return fmt.Sprintf("-%010d", seq) }

// touch writes into a place.
func (f *fleet) touch(place string) {
	f.t.Helper()
	_, err := f.sess.Multi(background(f.t), &zk.SetDataRequest{
		Path: f.root.Queue() + "/" + place, Data: []byte(`{"agent":"a"}`), Version: -1,
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func zapName(name string) zap.Field { return zap.String("node", name) }
