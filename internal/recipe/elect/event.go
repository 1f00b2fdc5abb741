package elect

import (
	"sync"
	"time"
)

// Kind names an event.
type Kind string

// The events. Elected and Resigned alternate, whatever ended the leadership.
const (
	Connected Kind = "Connected" // a server serves our session
	Suspended Kind = "Suspended" // none does at present; whoever leads still does
	Lost      Kind = "Lost"      // the session is over, and with it what we had
	Elected   Kind = "Elected"   // we lead
	Resigned  Kind = "Resigned"  // we lead no more; Why tells, nil when we had enough
)

// Event is something that a candidate may want to know.
type Event struct {
	Kind  Kind
	At    time.Time
	Token uint64 // the leadership's; 0 when the event is not of one
	Why   error
}

// mailbox carries events from those who must not wait to whoever reads them.
type mailbox struct {
	mu     sync.Mutex
	events []Event // guarded by mu, as is
	shut   bool
	more   chan struct{} // has room for one hint that something changed
	read   sync.WaitGroup
}

// newMailbox gives each event to see, which may be nil.
func newMailbox(see func(Event)) *mailbox {
	m := &mailbox{more: make(chan struct{}, 1)}
	m.read.Go(func() { // ends with close
		for range m.more {
			for _, e := range m.take() {
				if see != nil {
					see(e)
				}
			}
		}
	})
	return m
}

// put never waits. What comes after close is nobody's any more.
func (m *mailbox) put(e Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shut {
		return
	}
	e.At = time.Now()
	m.events = append(m.events, e)
	m.hint()
}

func (m *mailbox) hint() {
	select {
	case m.more <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := m.events
	m.events = nil
	return events
}

// close returns when all events were read.
func (m *mailbox) close() {
	m.mu.Lock()
	m.shut = true
	m.hint()
	close(m.more)
	m.mu.Unlock()
	m.read.Wait()
}
