package zkdev

import (
	"crypto/rand"
	"crypto/subtle"
	"time"
)

// session is a client's standing with the server. It outlives connections and
// has at most one at a time.
type session struct {
	id       int64
	password []byte
	expires  time.Duration // on the server's clock, a whole number of ticks
	timeout  time.Duration // as negotiated last
	conn     *conn         // nil while the client is away
}

// newSession begins a session, which is a transaction. Its timeout starts now.
func (s *Server) newSession(c *conn, timeout time.Duration) *session {
	sess := &session{id: s.nextSession, password: make([]byte, 16)}
	rand.Read(sess.password)
	s.nextSession++
	s.nextZxid()
	s.sessions[sess.id] = sess
	c.attach(sess, timeout)
	s.touch(c)
	return sess
}

// attach makes c the session's connection.
func (c *conn) attach(sess *session, timeout time.Duration) {
	c.session, sess.timeout = sess, timeout
	sess.conn = c
}

func (sess *session) knows(password []byte) bool {
	return subtle.ConstantTimeCompare(sess.password, password) == 1
}

// touch starts the connection's session timeout afresh. It reports false for a
// session that has ended.
func (s *Server) touch(c *conn) bool {
	if c.session == nil || s.sessions[c.session.id] != c.session {
		return false
	}
	s.extend(c.session)
	return true
}

// extend lets a session's timeout begin.
func (s *Server) extend(sess *session) {
	tick := s.cfg.TickTime
	// One tick is added even to a whole number of them, as on the real server:
	// a session never expires before its timeout.
	sess.expires = ((s.clock()+sess.timeout)/tick + 1) * tick
}

// clamp brings a timeout that a client asked for into the allowed range.
func (s *Server) clamp(timeout time.Duration) time.Duration {
	return min(max(timeout, s.cfg.MinSessionTimeout), s.cfg.MaxSessionTimeout)
}

// endSession deletes the session's ephemeral nodes in one transaction. The
// connection, if there is one, is left to the caller.
func (s *Server) endSession(sess *session) {
	zxid := s.nextZxid()
	for path := range s.tree.ephemerals[sess.id] {
		s.applyDelete(path, zxid)
	}
	delete(s.sessions, sess.id)
}

// expire ends a session from the server's side: its client finds the
// connection closed and is told on its next attempt.
func (s *Server) expire(sess *session) {
	s.cfg.Logf("zkdev: session 0x%x expired", sess.id)
	s.endSession(sess)
	if sess.conn != nil {
		s.drop(sess.conn)
	}
}

// expireLoop ends the sessions whose time has come, at every tick.
func (s *Server) expireLoop() {
	defer s.goroutines.Done()
	timer := time.NewTimer(s.cfg.TickTime)
	defer timer.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-timer.C:
		}
		s.mu.Lock()
		now := s.clock()
		if s.frozen.Load() == nil {
			for _, sess := range s.sessions {
				if sess.expires <= now {
					s.expire(sess)
				}
			}
		}
		s.mu.Unlock()
		timer.Reset(s.cfg.TickTime - now%s.cfg.TickTime)
	}
}

// reapLoop deletes the container nodes whose children have all gone and the
// TTL nodes that nobody changed for their time and that have no children.
func (s *Server) reapLoop() {
	defer s.goroutines.Done()
	ticker := time.NewTicker(s.cfg.ContainerCheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		if s.frozen.Load() == nil {
			s.reap(time.Now())
		}
		s.mu.Unlock()
	}
}

func (s *Server) reap(now time.Time) {
	for path := range s.tree.reapable {
		n := s.tree.nodes[path]
		if len(n.children) > 0 {
			continue
		}
		due := n.creates > 0 // a container never used yet is kept
		if kindOfOwner(n.owner) == ownerIsTTL {
			due = now.UnixMilli()-n.mtime > n.owner&^ownerTTLMask
		}
		if due {
			s.applyDelete(path, s.nextZxid())
		}
	}
}

// clock is the time since the start, less the time spent frozen.
func (s *Server) clock() time.Duration {
	now := time.Now()
	if f := s.frozen.Load(); f != nil {
		now = f.since
	}
	return now.Sub(s.started) - s.frozenFor
}
