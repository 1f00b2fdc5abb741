package session_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestSessionSurvivesACutConnection(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 20*time.Second, proxy.Addr)
	path := node(t, sess, "mine")
	create(t, sess, path, zk.FlagEphemeral)
	id := sess.ID()

	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() { // reads make nothing of it
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got, err := sess.Get(background(t), path); err != nil || string(got.Data) != "x" {
					t.Errorf("get: %q, %v", got.Data, err)
					return
				}
			}
		})
	}
	for range 5 {
		proxy.Cut()
		if !exists(t, sess, path) {
			t.Fatal("the ephemeral node did not survive")
		}
	}
	close(stop)
	wg.Wait()
	if sess.ID() != id || sess.Err() != nil {
		t.Fatalf("session 0x%x became 0x%x, err %v", id, sess.ID(), sess.Err())
	}
	got, err := sess.Get(background(t), path)
	if err != nil || got.Stat.EphemeralOwner != id {
		t.Fatalf("owner 0x%x, err %v, want 0x%x", got.Stat.EphemeralOwner, err, id)
	}
}

func TestWatchSurvivesACutConnection(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess, other := dial(t, 20*time.Second, proxy.Addr), dial(t, 20*time.Second, shared(t))
	path := node(t, sess, "watched")
	create(t, other, path, 0)
	gone := goneAt(t, sess, path)
	proxy.Refuse(true)
	if err := other.Delete(background(t), path); err != nil { // while we are away
		t.Fatal(err)
	}
	proxy.Refuse(false)
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("never told that the node has gone")
	}
}

// The two ways in which a line goes dead: the server still hears us, or does not.
func TestDeadlinePassesBeforeTheServerExpiresTheSession(t *testing.T) {
	for name, deaden := range map[string]func(*zktest.Proxy){
		"half open":       func(p *zktest.Proxy) { p.HalfOpen(true) },
		"server unheard":  func(p *zktest.Proxy) { p.Silence(true) },
		"nobody connects": func(p *zktest.Proxy) { p.Refuse(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := zktest.NewProxy(t, shared(t))
			observer := dial(t, 20*time.Second, shared(t))
			sess := dial(t, 6*time.Second, proxy.Addr) // the margin is a tenth, for the machine to be late
			path := node(t, observer, "mine")
			create(t, sess, path, zk.FlagEphemeral)
			gone := goneAt(t, observer, path)

			hold, cancel := context.WithCancel(sess.Context())
			defer cancel()
			deaden(proxy)
			dead := time.Now()
			ended, cause := over(t, sess, patience)
			if !errors.Is(cause, session.ErrExpired) || !errors.Is(sess.Err(), session.ErrExpired) || hold.Err() == nil {
				t.Errorf("cause %v, Err %v, child %v", cause, sess.Err(), hold.Err())
			}
			if took := ended.Sub(dead); took > sess.Timeout() {
				t.Errorf("over %v after the last answer, later than the timeout", took)
			}
			select {
			case at := <-gone:
				if !ended.Before(at) {
					t.Errorf("the server expired the session %v before we knew", ended.Sub(at))
				}
			case <-time.After(patience):
				t.Error("the server never expired the session")
			}
		})
	}
}

func TestSessionOutlivesManyTimeoutsWhileItIsIdle(t *testing.T) {
	t.Parallel()
	sess := dial(t, 2*time.Second, shared(t))
	select {
	case <-sess.Done():
		t.Fatalf("over: %v", sess.Err())
	case <-time.After(5 * time.Second): // the claim is about time
	}
	if err := sess.Sync(background(t), "/"); err != nil {
		t.Fatal(err)
	}
}

func TestServerKilledForGoodExpiresTheSession(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	sess := dial(t, 6*time.Second, server.Addr)
	server.Kill()
	killed := time.Now()
	answer := make(chan error, 1)
	go func() {
		_, err := sess.Get(context.Background(), "/")
		answer <- err
	}()
	ended, cause := over(t, sess, patience)
	if took := ended.Sub(killed); !errors.Is(cause, session.ErrExpired) || took > sess.Timeout() {
		t.Fatalf("%v after %v", cause, took)
	}
	if err := <-answer; !errors.Is(err, session.ErrExpired) {
		t.Fatalf("the request ended with %v", err)
	}
}

func TestSessionSurvivesAServersRestart(t *testing.T) {
	t.Parallel()
	server := zktest.Start(t)
	sess := dial(t, time.Minute, server.Addr)
	path := node(t, sess, "mine")
	create(t, sess, path, zk.FlagEphemeral)
	server.Kill()
	server.Restart(t)
	if !exists(t, sess, path) || sess.Err() != nil {
		t.Fatalf("node gone, or session over: %v", sess.Err())
	}
}

// The server itself says that the session is gone: it hears us again only after it
// has expired us, and before our own deadline because we were granted more than it
// keeps. (Another client ends the session for us.)
func TestASessionThatTheServerEndedIsNeverFollowedByAnother(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess, observer := dial(t, 20*time.Second, proxy.Addr), dial(t, 20*time.Second, shared(t))
	path := node(t, sess, "mine")
	create(t, sess, path, zk.FlagEphemeral)
	id := sess.ID()

	connects, strange := atomic.Int32{}, atomic.Int32{}
	takeover := make(chan []byte, 1)
	proxy.OnRequest(func(p []byte) bool {
		if zktest.Op(p) == zktest.OpConnect {
			if connects.Add(1); zktest.ConnectSession(p) != id {
				strange.Add(1)
			}
			select {
			case takeover <- append([]byte(nil), p...):
				return false // this first reconnect we use to end the session
			default:
			}
		}
		return true
	})
	proxy.Cut()
	endSession(t, shared(t), <-takeover)
	// A transaction waits in the library's queue until a connection is there.
	_, err := sess.Multi(background(t), &zk.CreateRequest{
		Path: path + "-late", Acl: sess.ACL(), Flags: 0,
	})
	if err == nil || session.Definite(err) {
		t.Errorf("the transaction ended with %v, want doubt", err)
	}
	if _, cause := over(t, sess, patience); !errors.Is(cause, session.ErrExpired) {
		t.Errorf("cause %v", cause)
	}
	// The library tries again at once and after a second; neither may be seen.
	seen := connects.Load()
	select {
	case <-time.After(1500 * time.Millisecond): // the claim is that nothing happens
	case <-background(t).Done():
	}
	if connects.Load() != seen || strange.Load() != 0 {
		t.Errorf("%d more connect requests, %d of them for another session", connects.Load()-seen, strange.Load())
	}
	if sess.ID() != id {
		t.Errorf("session 0x%x became 0x%x", id, sess.ID())
	}
	if exists(t, observer, path) || exists(t, observer, path+"-late") {
		t.Error("a node of the ended session is there")
	}
}

// Without the server: refused for longer than the timeout, then let in again.
func TestAQueuedTransactionIsNeverSentUnderAnotherSession(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	observer := dial(t, 20*time.Second, shared(t))
	sess := dial(t, 2*time.Second, proxy.Addr)
	path := node(t, observer, "mine")
	create(t, sess, path, zk.FlagEphemeral)
	gone := goneAt(t, observer, path)
	proxy.Refuse(true)
	multi := make(chan error, 1)
	go func() {
		_, err := sess.Multi(context.Background(), &zk.CreateRequest{Path: path + "-late", Acl: sess.ACL()})
		multi <- err
	}()
	<-gone
	sent := atomic.Int32{}
	proxy.OnRequest(func([]byte) bool { sent.Add(1); return true })
	proxy.Refuse(false)
	if err := <-multi; err == nil || session.Definite(err) {
		t.Errorf("the transaction ended with %v", err)
	}
	if _, cause := over(t, sess, patience); !errors.Is(cause, session.ErrExpired) {
		t.Errorf("cause %v", cause)
	}
	<-time.After(1300 * time.Millisecond) // the library tries once a second
	if sent.Load() != 0 || exists(t, observer, path+"-late") {
		t.Errorf("%d packets were sent after the end", sent.Load())
	}
}

// The zxids that the library is not shown reach the server all the same: one that is
// behind what this session has read must be able to say so.
func TestAReconnectAndItsWatchesCarryTheNewestZxid(t *testing.T) {
	t.Parallel()
	proxy := zktest.NewProxy(t, shared(t))
	sess := dial(t, 10*time.Second, proxy.Addr)
	path := node(t, sess, "watched")
	create(t, sess, path, 0)
	seen, err := sess.Watch(background(t), path)
	if err != nil {
		t.Fatal(err)
	}
	connect, setWatches := make(chan int64, 8), make(chan int64, 8)
	proxy.OnRequest(func(p []byte) bool {
		switch zktest.Op(p) {
		case zktest.OpConnect:
			connect <- int64(binary.BigEndian.Uint64(p[8:]))
		case 101:
			setWatches <- int64(binary.BigEndian.Uint64(p[12:]))
		}
		return true
	})
	proxy.Cut()
	if err := sess.Sync(background(t), path); err != nil {
		t.Fatal(err)
	}
	for what, zxid := range map[string]<-chan int64{"connect": connect, "setWatches": setWatches} {
		if got := <-zxid; got < seen.Stat.Czxid {
			t.Errorf("%s carries zxid 0x%x, older than 0x%x, which was read", what, got, seen.Stat.Czxid)
		}
	}
}
