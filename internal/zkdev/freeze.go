package zkdev

import "time"

// freeze is the time between Freeze and Thaw.
type freeze struct {
	since time.Time
	over  chan struct{} // closed by Thaw
}

// Freeze makes the server go silent, like a process that was stopped: it goes
// on accepting connections and keeps those it has, but no request takes effect
// and nothing is sent, until [Server.Thaw]. What was being sent when Freeze was
// called may still arrive; nothing after it does.
//
// The clock of the sessions stands still meanwhile, so that no session expires
// merely because of the freeze. To have one gone on thawing, call
// [Server.ExpireSession]: it works while frozen, and the client does not hear
// of it until the thaw. Freezing twice is the same as once.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen.Load() == nil {
		s.frozen.Store(&freeze{since: time.Now(), over: make(chan struct{})})
	}
}

// Thaw ends a freeze. Requests that arrived meanwhile are served, in their
// order on each connection.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.frozen.Load(); f != nil {
		s.frozenFor += time.Since(f.since)
		s.frozen.Store(nil)
		close(f.over)
	}
}

// thawed waits while the server is frozen. It reports false if the connection
// was dropped meanwhile.
func (s *Server) thawed(c *conn) bool {
	for f := s.frozen.Load(); f != nil; f = s.frozen.Load() {
		select {
		case <-f.over:
		case <-c.gone:
			return false
		}
	}
	return true
}

// lockThawed takes the lock at a time when the server is not frozen. If it
// reports false the connection was dropped and the lock is not taken.
func (s *Server) lockThawed(c *conn) bool {
	for s.thawed(c) {
		s.mu.Lock()
		switch {
		case c.dropped:
			s.mu.Unlock()
			return false
		case s.frozen.Load() == nil:
			return true
		}
		s.mu.Unlock()
	}
	return false
}
