package zkdev

import (
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

// dialZK connects the library that the agents use, and waits for its session.
func dialZK(t testing.TB, addr string, timeout time.Duration) *zk.Conn {
	t.Helper()
	conn, events, err := zk.Connect([]string{addr}, timeout, zk.WithLogInfo(false), zk.WithLogger(quiet{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	for e := range events {
		if e.State == zk.StateHasSession {
			return conn
		}
	}
	t.Fatal("no session")
	return nil
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func awaitEvent(t testing.TB, events <-chan zk.Event) zk.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event within 10s")
		return zk.Event{}
	}
}

func TestLibraryTakesTurnsInOrder(t *testing.T) {
	s := RunT(t)
	a, b := dialZK(t, s.Addr(), 4*time.Second), dialZK(t, s.Addr(), 4*time.Second)
	acl := zk.WorldACL(zk.PermAll)
	if _, err := a.Create("/queue", nil, 0, acl); err != nil {
		t.Fatal(err)
	}
	first, err := a.Create("/queue/a-", nil, zk.FlagEphemeral|zk.FlagSequence, acl)
	if err != nil || first != "/queue/a-0000000000" {
		t.Fatalf("%q, %v", first, err)
	}
	second, err := b.Create("/queue/b-", nil, zk.FlagEphemeral|zk.FlagSequence, acl)
	if err != nil || second != "/queue/b-0000000001" {
		t.Fatalf("%q, %v", second, err)
	}
	exists, _, gone, err := b.ExistsW(first)
	if err != nil || !exists {
		t.Fatal(exists, err)
	}
	results, err := a.Multi(
		&zk.SetDataRequest{Path: "/queue", Data: []byte("turn 1"), Version: 0},
		&zk.DeleteRequest{Path: first, Version: -1},
		&zk.CreateRequest{Path: "/queue/a-", Acl: acl, Flags: zk.FlagEphemeral | zk.FlagSequence},
	)
	if err != nil || results[2].String != "/queue/a-0000000002" {
		t.Fatal(results, err)
	}
	if e := awaitEvent(t, gone); e.Type != zk.EventNodeDeleted || e.Path != first {
		t.Fatal(e)
	}
	_, stat, err := b.Get(results[2].String)
	if err != nil || stat.Czxid != results[0].Stat.Mzxid {
		t.Fatalf("the created node's czxid %x is not the set's mzxid %x (%v)", stat.Czxid, results[0].Stat.Mzxid, err)
	}
}

func TestExpiredSessionLosesItsNodes(t *testing.T) {
	s := RunT(t)
	a, b := dialZK(t, s.Addr(), 4*time.Second), dialZK(t, s.Addr(), 4*time.Second)
	if _, err := a.Create("/lock", nil, zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	_, _, gone, err := b.ExistsW("/lock")
	if err != nil {
		t.Fatal(err)
	}
	if !s.ExpireSession(a.SessionID()) {
		t.Fatal("no such session")
	}
	if e := awaitEvent(t, gone); e.Type != zk.EventNodeDeleted {
		t.Fatal(e)
	}
}
