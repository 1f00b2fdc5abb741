package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// The library sets many watches again in several requests, one after the other.
func TestManyWatchesAreSetAgain(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess, other := dial(t, 20*time.Second, proxy.Addr), dial(t, 20*time.Second, shared(t))
	base := node(t, other, fmt.Sprintf("%0200d-", 0))
	watches := map[string]<-chan zk.Event{}
	for i := range 1500 {
		path := fmt.Sprint(base, i)
		create(t, other, path, 0)
		n, err := sess.Watch(background(t), path)
		if err != nil {
			t.Fatal(err)
		}
		watches[path] = n.Watch
	}
	proxy.Refuse(true)
	for paths := range slices.Chunk(slices.Collect(maps.Keys(watches)), 100) {
		var sets []any
		for _, path := range paths {
			sets = append(sets, &zk.SetDataRequest{Path: path, Version: -1})
		}
		if _, err := other.Multi(background(t), sets...); err != nil {
			t.Fatal(err)
		}
	}
	var requests atomic.Int32
	proxy.OnRequest(func(p []byte) bool {
		const setWatches = 101
		if zktest.Op(p) == setWatches {
			requests.Add(1)
		}
		return true
	})
	proxy.Refuse(false)
	for path, watch := range watches {
		select {
		case <-watch:
		case <-time.After(patience):
			t.Fatalf("never told of %s, with %d requests", path[len(base):], requests.Load())
		}
	}
	if requests.Load() < 2 {
		t.Errorf("%d requests: too few watches to prove anything", requests.Load())
	}
}

// A server that takes connections only to break them is not asked without a rest.
func TestReconnectingIsNoHotLoop(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 20*time.Second, proxy.Addr)
	path := node(t, sess, "watched")
	create(t, sess, path, 0)
	if _, err := sess.Watch(background(t), path); err != nil {
		t.Fatal(err)
	}
	const many = 8
	begun := make(chan struct{}, 100)
	proxy.OnRequest(func(p []byte) bool {
		const setWatches = 101
		if zktest.Op(p) == setWatches {
			begun <- struct{}{}
			return false
		}
		return true
	})
	start := time.Now()
	proxy.Cut()
	for range many {
		<-begun
	}
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("%d connections in %v", many, took)
	}
	proxy.OnRequest(nil)
	if !exists(t, sess, path) {
		t.Error("the node is gone")
	}
}

// An answer that the library has no room for is told, and not asked for again and again.
func TestAnAnswerThatIsTooLong(t *testing.T) {
	t.Parallel()
	sess := dial(t, 20*time.Second, shared(t))
	dir := node(t, sess, "big")
	create(t, sess, dir, 0)
	for i := 0; i < 4600; i += 100 {
		var ops []any
		for j := range 100 {
			ops = append(ops, &zk.CreateRequest{Path: fmt.Sprintf("%s/%0240d", dir, i+j), Acl: sess.ACL()})
		}
		if _, err := sess.Multi(background(t), ops...); err != nil {
			t.Fatal(err)
		}
	}
	_, err := sess.Children(background(t), dir)
	if err == nil || errors.Is(err, session.ErrBroken) || errors.Is(err, context.DeadlineExceeded) || !contains(err, "1 MiB") {
		t.Errorf("the list ended with %v", err)
	}
	if !exists(t, sess, dir) {
		t.Error("the session did not survive")
	}
}

// resetting passes connections on, and resets the next few just after their session was
// granted.
type resetting struct {
	net.Listener
	target string
	resets atomic.Int32
	open   atomic.Pointer[net.TCPConn]
}

func (r *resetting) serve() { // ends with the listener
	for {
		c, err := r.Accept()
		if err != nil {
			return
		}
		client := c.(*net.TCPConn)
		r.open.Store(client)
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			client.Close()
			continue
		}
		if r.resets.Add(-1) >= 0 {
			packet(server, client)
			packet(client, server)
			client.SetLinger(0)
			client.Close()
			server.Close()
			continue
		}
		go func() { io.Copy(server, client); server.Close(); client.Close() }() //nolint:errcheck // it ends with either
		go func() { io.Copy(client, server); server.Close(); client.Close() }() //nolint:errcheck // 〃
	}
}

func packet(to io.Writer, from io.Reader) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(from, head); err == nil {
		_, _ = to.Write(head)
		_, _ = io.CopyN(to, from, int64(binary.BigEndian.Uint32(head)))
	}
}

// The library is stuck for good when its request to authenticate meets a connection that
// is broken.
func TestAConnectionResetJustBeforeWeAuthenticateAgain(t *testing.T) {
	t.Parallel()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listen.Close()
	line := &resetting{Listener: listen, target: shared(t)}
	go line.serve()
	sess := dialWith(t, session.Options{Servers: []string{listen.Addr().String()}, Timeout: 10 * time.Second, ConnectTimeout: patience, Digest: "u:p"})
	for round := range 8 {
		line.resets.Store(4)
		line.open.Load().Close()
		if _, err := sess.Get(background(t), "/"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}
