package session_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// What changed while no server served the session is told, also when the answers to other
// requests come before the watches are set again, and when that connection breaks too
// before they are.
func TestAChangeDuringADisconnectionIsTold(t *testing.T) {
	for _, breaks := range []int32{0, 1, 2} {
		t.Run(fmt.Sprint("cut again: ", breaks), func(t *testing.T) {
			t.Parallel()
			proxy := zktest.NewProxy(t, shared(t))
			sess, other := dial(t, 20*time.Second, proxy.Addr), dial(t, 20*time.Second, shared(t))
			path := node(t, other, "watched")
			create(t, other, path, 0)
			for range 5 {
				watched, err := sess.Watch(background(t), path)
				if err != nil {
					t.Fatal(err)
				}
				proxy.Refuse(true)
				if _, err := other.Set(background(t), path, nil, -1); err != nil {
					t.Fatal(err)
				}
				var busy sync.WaitGroup
				for range 30 {
					busy.Go(func() { _, _ = sess.Get(background(t), "/") })
				}
				var seen atomic.Int32
				proxy.OnRequest(func(p []byte) bool {
					const setWatches = 101
					return zktest.Op(p) != setWatches || seen.Add(1) > breaks
				})
				proxy.Refuse(false)
				busy.Wait()
				select {
				case <-watched.Watch:
				case <-time.After(patience):
					t.Fatal("never told")
				}
				proxy.OnRequest(nil)
			}
		})
	}
}
