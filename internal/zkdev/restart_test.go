package zkdev_test

import (
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// What a client has on a server outlives the server's restart, its watches set anew.
func TestRestartKeepsNodesAndSessions(t *testing.T) {
	s, err := zkdev.Start(zkdev.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn, events, err := zk.Connect([]string{s.Addr()}, 10*time.Second, zk.WithLogInfo(false))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		for range events { // ends with the connection
		}
	}()
	if _, err := conn.Create("/mine", []byte("x"), zk.FlagEphemeral, zk.WorldACL(zk.PermAll)); err != nil {
		t.Fatal(err)
	}
	_, before, gone, err := conn.GetW("/mine")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Restart(); err == nil {
		t.Fatal("a server that runs was restarted")
	}
	s.Close()
	if s, err = s.Restart(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data, after, err := conn.Get("/mine")
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); data, after, err = conn.Get("/mine") {
		time.Sleep(5 * time.Millisecond) // the library does not say when it is connected again
	}
	if err != nil || string(data) != "x" || after.Czxid != before.Czxid || after.EphemeralOwner != conn.SessionID() {
		t.Fatalf("%q, %+v, %v", data, after, err)
	}
	stat, err := conn.Set("/mine", nil, 0)
	if err != nil || stat.Mzxid>>32 <= before.Czxid>>32 {
		t.Fatalf("not a new epoch: %v, %+v", err, stat)
	}
	select {
	case e := <-gone:
		if e.Type != zk.EventNodeDataChanged {
			t.Errorf("the watch told of %v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch was not set again")
	}
}
