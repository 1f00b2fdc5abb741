package session

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// hosts hands the library the servers' names in turn. Names are resolved at each
// dial, where the library's own provider resolves them once, at the start. And it rests
// less: the library's second after each round of servers is too long for one that is back.
type hosts struct {
	over context.Context // the session's

	mu      sync.Mutex
	servers []string
	next    int
	failed  int // servers tried since a request was answered
}

func (h *hosts) Init(servers []string) error { h.servers = servers; return nil }

func (h *hosts) Len() int { return len(h.servers) }

// Next rests after each round of servers, longer each time, with jitter, for all clients
// lose a server at the same moment. Only when the session is over it leaves that to the
// library (retryStart), which looks then whether it is closed, and answers what is queued.
func (h *hosts) Next() (server string, retryStart bool) {
	h.mu.Lock()
	server = h.servers[h.next]
	h.next = (h.next + 1) % len(h.servers)
	round, begun := h.failed/len(h.servers), h.failed%len(h.servers) > 0
	h.failed++
	h.mu.Unlock()
	if round == 0 || begun {
		return server, false
	}
	most := min(25*time.Millisecond<<min(round, 5), time.Second)
	select {
	case <-time.After(most/2 + rand.N(most/2)):
		return server, false
	case <-h.over.Done():
		return server, true
	}
}

// Connected means little: a server may take a connection only to break it.
func (h *hosts) Connected() {}

// served is told that a request was answered.
func (h *hosts) served() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = 0
}
