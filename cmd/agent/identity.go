package main

import (
	"sync"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

// identity is who an agent is, as soon as it has a name in the fleet.
type identity struct {
	mu    sync.Mutex
	who   queue.Member
	named chan struct{} // closed once it has a name
}

func newIdentity(who queue.Member) *identity {
	return &identity{who: who, named: make(chan struct{})}
}

// set is told the name whenever the agent enters the fleet.
func (i *identity) set(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.who.Agent == "" {
		close(i.named)
	}
	i.who.Agent = name
}

func (i *identity) member() queue.Member {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.who
}

func (i *identity) name() string { return i.member().Agent }
