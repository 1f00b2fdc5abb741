package zkdev

import (
	"testing"
	"time"
)

// RunT starts a server that is closed when the test and its subtests end. Its
// tick is 100 ms, so sessions of 200 ms and more are granted, up to 40 s as on
// a server with the usual tick. Each adjust may change the configuration.
func RunT(t testing.TB, adjust ...func(*Config)) *Server {
	t.Helper()
	cfg := Config{TickTime: 100 * time.Millisecond, MaxSessionTimeout: 40 * time.Second}
	for _, f := range adjust {
		f(&cfg)
	}
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ExpireSession ends a session as if its client had been silent too long: its
// ephemeral nodes are gone on return, their watches have fired, and its
// connection is closed. It reports whether there was such a session.
func (s *Server) ExpireSession(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[id]
	if sess != nil {
		s.expire(sess)
	}
	return sess != nil
}

// DropConn closes a session's connection and leaves the session. It reports
// whether there was a connection.
func (s *Server) DropConn(id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[id]
	if sess == nil || sess.conn == nil {
		return false
	}
	s.drop(sess.conn)
	return true
}

// Stats counts what a server holds at one moment.
type Stats struct {
	Connections int
	Sessions    int
	Watches     int // of data and of children; a persistent watch counts as both
	Nodes       int // the root and the three system nodes among them
	Ephemerals  int
	Zxid        int64 // of the last transaction
}

// Stats counts what the server holds now. It works while frozen.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Connections: len(s.conns),
		Sessions:    len(s.sessions),
		Watches:     s.dataWatches.count() + s.childWatches.count(),
		Nodes:       len(s.tree.nodes) - 1, // the root has two names
		Ephemerals:  s.tree.ephemeralCount(),
		Zxid:        s.zxid,
	}
}

// Sessions lists the ids of the live sessions, in no order.
func (s *Server) Sessions() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]int64, 0, len(s.sessions))
	for id := range s.sessions {
		ids = append(ids, id)
	}
	return ids
}
