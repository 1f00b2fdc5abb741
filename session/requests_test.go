package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestDefiniteIsOnlyTheServersWord(t *testing.T) {
	tests := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{zk.ErrNoNode, true}, {zk.ErrNodeExists, true}, {zk.ErrBadVersion, true}, {zk.ErrNotEmpty, true},
		{zk.ErrNoAuth, true}, {zk.ErrNoChildrenForEphemerals, true}, {zk.ErrInvalidACL, true}, {zk.ErrBadArguments, true},
		{fmt.Errorf("wrapped: %w", zk.ErrNoNode), true},
		// Each of these may come after a write that took effect.
		{zk.ErrConnectionClosed, false}, {zk.ErrNoServer, false}, {zk.ErrSessionExpired, false},
		{zk.ErrSessionMoved, false}, {zk.ErrClosing, false}, {zk.ErrUnknown, false}, {zk.ErrAuthFailed, false},
		{context.Canceled, false}, {context.DeadlineExceeded, false},
		{session.ErrExpired, false}, {session.ErrClosed, false}, {session.ErrUnavailable, false},
		{errors.New("anything else"), false},
	}
	for _, test := range tests {
		if got := session.Definite(test.err); got != test.want {
			t.Errorf("Definite(%v) = %v, want %v", test.err, got, test.want)
		}
	}
}

func TestRefusalsOfARealServerAreDefinite(t *testing.T) {
	t.Parallel()
	sess := dial(t, 20*time.Second, shared(t))
	ctx, path := background(t), node(t, sess, "a")
	create(t, sess, path, 0)
	create(t, sess, path+"/b", zk.FlagEphemeral)
	_, noNode := sess.Get(ctx, path+"-none")
	_, exist := sess.Create(ctx, path, nil, 0)
	_, child := sess.Create(ctx, path+"/b/c", nil, 0)
	_, multi := sess.Multi(ctx,
		&zk.CreateRequest{Path: path + "-new", Acl: sess.ACL()},
		&zk.SetDataRequest{Path: path, Version: 7})
	for _, test := range []struct{ got, want error }{
		{noNode, zk.ErrNoNode}, {exist, zk.ErrNodeExists}, {child, zk.ErrNoChildrenForEphemerals},
		{multi, zk.ErrBadVersion}, {sess.Delete(ctx, path), zk.ErrNotEmpty},
	} {
		if !errors.Is(test.got, test.want) || !session.Definite(test.got) {
			t.Errorf("got %v, want %v, definite", test.got, test.want)
		}
	}
	if exists(t, sess, path+"-new") {
		t.Error("half of a refused transaction took effect")
	}
}

func TestWatchOnAMissingNodeLeavesNoWatch(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	sess := dial(t, 20*time.Second, server.Addr)
	path := node(t, sess, "missing")
	if _, err := sess.Watch(background(t), path); !errors.Is(err, zk.ErrNoNode) {
		t.Fatalf("got %v, want ErrNoNode", err)
	}
	if n := server.Watches(t); n != 0 {
		t.Errorf("%d watches are left", n)
	}
	create(t, sess, path, 0)
	if _, err := sess.Watch(background(t), path); err != nil {
		t.Fatal(err)
	}
	if n := server.Watches(t); n != 1 {
		t.Errorf("the server counts %d watches, this test one", n)
	}
}

func TestARequestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 20*time.Second, proxy.Addr)
	path := node(t, sess, "a")
	proxy.Silence(true)
	why := errors.New("enough")
	requests := map[string]func(context.Context) error{
		"get":      func(ctx context.Context) error { _, err := sess.Get(ctx, path); return err },
		"watch":    func(ctx context.Context) error { _, err := sess.Watch(ctx, path); return err },
		"children": func(ctx context.Context) error { _, err := sess.Children(ctx, path); return err },
		"sync":     func(ctx context.Context) error { return sess.Sync(ctx, path) },
		"create":   func(ctx context.Context) error { _, err := sess.Create(ctx, path, nil, 0); return err },
		"delete":   func(ctx context.Context) error { return sess.Delete(ctx, path) },
		"multi": func(ctx context.Context) error {
			_, err := sess.Multi(ctx, &zk.DeleteRequest{Path: path, Version: -1})
			return err
		},
	}
	for name, request := range requests {
		ctx, stop := context.WithCancelCause(background(t))
		answer := make(chan error, 1)
		go func() { answer <- request(ctx) }()
		stop(why)
		select {
		case err := <-answer:
			if !errors.Is(err, why) {
				t.Errorf("%s ended with %v", name, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s did not end with its context", name)
		}
	}
	proxy.Silence(false)
	proxy.Cut()
}

func TestARequestEndsWithItsSession(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 20*time.Second, proxy.Addr)
	proxy.Silence(true)
	asked := make(chan struct{})
	var once sync.Once
	proxy.OnRequest(func([]byte) bool { once.Do(func() { close(asked) }); return true })
	answer := make(chan error, 1)
	go func() {
		_, err := sess.Get(context.Background(), "/")
		answer <- err
	}()
	<-asked
	sess.Discard("a test says so")
	if err := <-answer; !errors.Is(err, session.ErrExpired) || !strings.Contains(err.Error(), "a test says so") {
		t.Errorf("the request ended with %v", err)
	}
	if _, err := sess.Get(context.Background(), "/"); !errors.Is(err, session.ErrExpired) {
		t.Errorf("a later one ended with %v", err)
	}
	if err := sess.Delete(context.Background(), "/x"); !errors.Is(err, session.ErrExpired) {
		t.Errorf("a later write ended with %v", err)
	}
}

// Whoever loops over requests must learn that the session is over, and not that some
// connection was closed.
func TestAReadThatASessionsEndBreaksSaysSo(t *testing.T) {
	t.Parallel()
	for range 30 {
		sess := dial(t, 20*time.Second, shared(t))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					_, err := sess.Get(context.Background(), "/")
					if errors.Is(err, session.ErrExpired) {
						return
					}
					if err != nil {
						t.Errorf("the read ended with %v, want ErrExpired", err)
						return
					}
				}
			})
		}
		sess.Discard("a test says so")
		wg.Wait()
		sess.Close()
	}
}

func TestDigestKeepsOthersOut(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	ours := dialWith(t, session.Options{Servers: []string{proxy.Addr}, Timeout: 20 * time.Second, Digest: "fleet:secret"})
	other := dial(t, 20*time.Second, shared(t))
	path := node(t, other, "ours")
	create(t, ours, path, 0)
	if _, err := other.Get(background(t), path); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("without the digest a read ended with %v", err)
	}
	_, err := other.Multi(background(t), &zk.SetDataRequest{Path: path, Version: -1})
	if !errors.Is(err, zk.ErrNoAuth) || !session.Definite(err) {
		t.Errorf("without the digest a write ended with %v", err)
	}
	proxy.Cut() // a new connection has to authenticate again
	if got, err := ours.Get(background(t), path); err != nil || string(got.Data) != "x" {
		t.Errorf("after a reconnect: %q, %v", got.Data, err)
	}
	wrong := dialWith(t, session.Options{Servers: []string{shared(t)}, Timeout: 20 * time.Second, Digest: "fleet:guess"})
	if _, err := wrong.Get(background(t), path); !errors.Is(err, zk.ErrNoAuth) {
		t.Errorf("with another password a read ended with %v", err)
	}
}

// A connection that breaks while we authenticate is no server's word: whoever dials
// must be able to see that trying again is right.
func TestAConnectionCutWhileAuthenticating(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	const opAuth = 100
	var once sync.Once
	proxy.OnRequest(func(p []byte) bool {
		pass := true
		if zktest.Op(p) == opAuth {
			once.Do(func() { pass = false })
		}
		return pass
	})
	sess, err := session.Dial(background(t), session.Options{
		Servers: []string{proxy.Addr}, Timeout: 4 * time.Second, Digest: "fleet:secret",
	})
	if err == nil {
		sess.Close()
		return
	}
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("dial ended with %v: neither a session nor ErrUnavailable", err)
	}
}

// Otherwise whoever tidies up after it might do so before it has arrived.
func TestAWriteIsAwaitedAMomentBeyondItsContext(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 20*time.Second, proxy.Addr)
	path := node(t, sess, "late")
	var err error
	for try := range 5 { // a busy server may take longer than that moment
		ctx, cancel := context.WithCancel(background(t))
		proxy.OnRequest(func([]byte) bool { cancel(); return true })
		_, err = sess.Create(ctx, fmt.Sprint(path, try), nil, 0)
		proxy.OnRequest(nil)
		if err == nil && ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		t.Errorf("creates that were answered just after their contexts ended: %v", err)
	}
	proxy.Silence(true)
	ctx, cancel := context.WithTimeout(background(t), 10*time.Millisecond)
	defer cancel()
	quick(t, "a delete that is not answered", 2*time.Second, func() {
		if err := sess.Delete(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	})
}
