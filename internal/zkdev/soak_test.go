package zkdev

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var soakTime = flag.Duration("zkdev.soak", time.Second, "how long TestHundredClients runs")

// TestHundredClients has a hundred clients work while sessions and connections
// are lost at random, and wants nothing left of them afterwards. (They are raw
// clients: under -race the library races with itself on a reconnect.)
func TestHundredClients(t *testing.T) {
	const count = 100
	before := runtime.NumGoroutine()
	s := RunT(t)
	first := dialRaw(t, s.Addr(), longSession)
	first.create("/soak", flagPersistent)
	first.create("/soak/queue", flagPersistent)
	first.net.Close()
	var clients sync.WaitGroup
	var requests, reconnects atomic.Int64
	end := time.Now().Add(*soakTime)
	for i := range count {
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			c := beginSession(t, s.Addr())
			for time.Now().Before(end) {
				if !soakStep(s, c, rng) {
					c = c.replacement(s.Addr())
					reconnects.Add(1)
				}
				requests.Add(1)
			}
			c.send(OpCloseSession, nil)
			c.closed() // whether it was answered or cut off
			c.net.Close()
		})
	}
	clients.Wait()
	t.Logf("%d requests and %d reconnects in %v", requests.Load(), reconnects.Load(), *soakTime)
	for _, id := range s.Sessions() { // whose last word was lost
		s.ExpireSession(id)
	}
	awaitConns(t, s, func(n int) bool { return n == 0 })
	if st := s.Stats(); st.Sessions+st.Watches+st.Ephemerals != 0 {
		t.Errorf("left behind: %+v", st)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(answerTimeout); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// replacement returns to the session if it is still there, and else begins
// another.
func (c *rawClient) replacement(addr string) *rawClient {
	c.net.Close()
	again := dialTCP(c.t, addr)
	err := again.connect(connectRequest{timeout: c.timeout, session: c.session, password: c.password})
	if err == nil && again.session != 0 {
		return again
	}
	again.net.Close()
	return beginSession(c.t, addr)
}

// beginSession tries until it has a session: another client may drop the connection
// before the answer has come.
func beginSession(t testing.TB, addr string) *rawClient {
	for {
		c := dialTCP(t, addr)
		if c.connect(connectRequest{timeout: int32(longSession.Milliseconds())}) == nil {
			return c
		}
		c.net.Close()
	}
}

// soakStep makes one request, and reports false if the connection has ended.
func soakStep(s *Server, c *rawClient, rng *rand.Rand) bool {
	path := fmt.Sprintf("/soak/n%d", rng.IntN(20))
	draws := []subOp{
		{OpCreate, createBody(path, "x", flagEphemeral)},
		{OpCreate2, createBody("/soak/queue/", "", flagEphemeralSequential)},
		{OpDelete, versionBody(path, -1)},
		{OpSetData, setDataBody(path, "y", -1)},
		{OpGetData, watchBody(path, true)},
		{OpExists, watchBody(path, true)},
		{OpGetChildren2, watchBody("/soak", true)},
		{OpAddWatch, addWatchBody("/soak", watchRecursive)},
		{OpRemoveWatches, versionBody("/soak", 3)},
		{OpMulti, multiBody(subOp{OpSetData, setDataBody("/soak", "", -1)}, subOp{OpCreate, createBody(path, "", flagEphemeral)})},
		{OpPing, nil},
	}
	switch q := draws[rng.IntN(len(draws))]; rng.IntN(1000) {
	case 0:
		s.DropConn(anyOf(s.Sessions(), rng))
	case 1:
		s.ExpireSession(anyOf(s.Sessions(), rng))
	case 2:
		c.net.Close()
		return false
	default:
		c.send(q.op, q.body)
	}
	c.events = nil
	c.send(OpPing, nil)
	for {
		r, err := c.read()
		if err != nil {
			return false
		}
		if r.xid == xidPing {
			return true
		}
	}
}

func anyOf(ids []int64, rng *rand.Rand) int64 {
	if len(ids) == 0 {
		return 0
	}
	return ids[rng.IntN(len(ids))]
}
