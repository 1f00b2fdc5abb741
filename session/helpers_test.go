package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

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

// dial gives a session that asked for timeout and ends with the test.
func dial(t testing.TB, timeout time.Duration, servers ...string) *session.Session {
	t.Helper()
	return dialWith(t, session.Options{Servers: servers, Timeout: timeout, ConnectTimeout: patience})
}

func dialWith(t testing.TB, opts session.Options) *session.Session {
	t.Helper()
	sess, err := session.Dial(background(t), opts)
	if err != nil {
		t.Fatalf("dial %v: %v", opts.Servers, err)
	}
	t.Cleanup(sess.Close)
	return sess
}

func shared(t testing.TB) string { return strings.Split(zktest.Shared(t), ",")[0] }

// node is a node of this test's own, below a fresh persistent parent.
func node(t testing.TB, sess *session.Session, name string) string {
	t.Helper()
	root := zktest.Root(t)
	for _, path := range []string{"/turnstile", root} {
		if _, err := sess.Create(background(t), path, nil, 0); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			t.Fatalf("create %s: %v", path, err)
		}
	}
	return root + "/" + name
}

func create(t testing.TB, sess *session.Session, path string, flags int32) {
	t.Helper()
	if _, err := sess.Create(background(t), path, []byte("x"), flags); err != nil {
		t.Fatalf("create %s: %v", path, err)
	}
}

func exists(t testing.TB, sess *session.Session, path string) bool {
	t.Helper()
	if err := sess.Sync(background(t), path); err != nil {
		t.Fatalf("sync: %v", err)
	}
	_, err := sess.Get(background(t), path)
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		t.Fatalf("get %s: %v", path, err)
	}
	return err == nil
}

// goneAt gives the moment at which sess is told that the node has gone.
func goneAt(t testing.TB, sess *session.Session, path string) <-chan time.Time {
	t.Helper()
	seen, err := sess.Watch(background(t), path)
	if err != nil {
		t.Fatalf("watch %s: %v", path, err)
	}
	at := make(chan time.Time, 1)
	go func() {
		if e := <-seen.Watch; e.Type == zk.EventNodeDeleted {
			at <- time.Now()
		}
	}()
	return at
}

// over waits until the session has ended and gives the moment and the cause.
func over(t testing.TB, sess *session.Session, within time.Duration) (time.Time, error) {
	t.Helper()
	select {
	case <-sess.Done():
		return time.Now(), context.Cause(sess.Context())
	case <-time.After(within):
		t.Fatalf("the session still lasts after %v", within)
		return time.Time{}, nil
	}
}

// eventually asks again and again until what holds, for there is no event to wait for.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// quick fails the test when f takes longer than limit.
func quick(t testing.TB, what string, limit time.Duration, f func()) time.Duration {
	t.Helper()
	start := time.Now()
	f()
	took := time.Since(start)
	if took > limit {
		t.Errorf("%s took %v, more than %v", what, took.Round(time.Millisecond), limit)
	}
	return took
}

// goroutines counts those in our package's code or the library's, but not tests.
func goroutines() (n int, stacks string) {
	mine := stacksWith("turnstile/session.", "go-zookeeper/zk.")
	return len(mine), strings.Join(mine, "\n\n")
}

// stacksWith gives the stacks of the goroutines that have one of these in it.
func stacksWith(some ...string) (stacks []string) {
	buf := make([]byte, 4<<20)
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if s := string(stack); slices.ContainsFunc(some, func(part string) bool { return strings.Contains(s, part) }) {
			stacks = append(stacks, s)
		}
	}
	return stacks
}

// silent is a listener that accepts and never says a word.
func silent(t testing.TB) string {
	t.Helper()
	return listener(t, func(net.Conn) {})
}

// listener hands every connection to serve and closes them with the test.
func listener(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

// nobody is an address at which nothing listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
