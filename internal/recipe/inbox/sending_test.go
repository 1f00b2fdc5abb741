package inbox_test

import (
	"context"
	"errors"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/test/recipetest"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// A sender whose node somebody removed makes itself another, when it is clear that nothing
// was sent; when it isn't, it says so.
func TestASendersNodeThatIsGone(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	proxy := zktest.NewProxy(t, b.Server.Addr)
	s := b.sender(proxy.Addr)
	remove := func() {
		names, err := b.Sess.Children(recipetest.Background(t), b.dir.Sending())
		if err != nil || len(names) != 1 {
			t.Fatalf("%v, %v", names, err)
		}
		b.Delete(path.Join(b.dir.Sending(), names[0]))
	}
	for _, r := range []string{"one", "two"} {
		if _, err := s.Send(t.Context(), []byte(r)); err != nil {
			t.Fatal(err)
		}
		remove()
	}
	if _, err := s.Send(t.Context(), []byte("three")); err != nil {
		t.Fatal(err)
	}
	lost := false
	proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) && !lost {
			lost = true
			remove()
			return false
		}
		return true
	})
	_, err := s.Send(t.Context(), []byte("four"))
	var doubt *inbox.DoubtError
	if !errors.As(err, &doubt) {
		t.Errorf("got %v, want doubt", err)
	}
	b.want("one", "two", "three")
}

// Another's write to a sender's node is not taken for the sender's own.
func TestAMeddlerIsNotBelieved(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	proxy := zktest.NewProxy(t, b.Server.Addr)
	s := b.sender(proxy.Addr)
	if _, err := s.Send(t.Context(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	lost := false
	proxy.OnRequest(func(p []byte) bool {
		if zktest.IsMulti(p) && !lost {
			lost = true
			names, _ := b.Sess.Children(context.Background(), b.dir.Sending())
			b.Sess.Set(context.Background(), path.Join(b.dir.Sending(), names[0]), []byte("{}"), -1) //nolint:errcheck // or the test fails
			return false
		}
		return true
	})
	_, err := s.Send(t.Context(), []byte("two"))
	var doubt *inbox.DoubtError
	if !errors.As(err, &doubt) {
		t.Errorf("got %v, want doubt", err)
	}
	b.want("one")
}

// A dead sender's node goes after a day, by ZooKeeper's clock, and no other does. One that
// was not dead goes on with another.
func TestADeadSendersNodeIsSwept(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	one, two := b.sender(b.Server.Addr), b.sender(b.Server.Addr)
	var nodes []string
	for _, s := range []*inbox.Sender{one, two} {
		if _, err := s.Send(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		for _, name := range b.children(b.dir.Sending()) {
			if !slices.Contains(nodes, name) {
				nodes = append(nodes, name)
			}
		}
	}
	foreign := path.Join(b.dir.Sending(), "foreign")
	if _, err := b.Sess.Create(t.Context(), foreign, nil, 0); err != nil {
		t.Fatal(err)
	}
	sweep := func(after time.Duration) int {
		inbox.Sweep(t.Context(), b.Sess, b.dir, path.Join(b.dir.Sending(), nodes[1]), after)
		return len(b.children(b.dir.Sending()))
	}
	if left := sweep(time.Hour); left != 3 {
		t.Errorf("%d are left", left)
	}
	if left := sweep(-time.Hour); left != 1 { // both senders were dead before they lived
		t.Errorf("%d are left", left)
	}
	if _, err := one.Send(t.Context(), []byte("y")); err != nil {
		t.Error(err)
	}
	b.want("x", "x", "y")
}

func (b *box) children(node string) []string {
	b.t.Helper()
	names, err := b.Sess.Children(recipetest.Background(b.t), node)
	if err != nil {
		b.t.Fatal(err)
	}
	return names
}
