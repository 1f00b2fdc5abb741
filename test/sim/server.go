package sim

import (
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
)

// server is one of ZooKeeper's, with what it has applied.
type server struct {
	zk      *zookeeper
	name    string
	nodes   map[string]*znode
	applied int // how much of the history
}

// applyTo applies the history up to an entry, and fires the watches that are set here.
func (s *server) applyTo(to int) {
	for s.applied < to {
		t := s.zk.history[s.applied]
		s.applied++
		for _, c := range t.changes {
			was := s.nodes[c.path]
			kind := zk.EventNodeDataChanged
			switch {
			case c.node == nil:
				kind = zk.EventNodeDeleted
				delete(s.nodes, c.path)
			default:
				if was == nil {
					kind = zk.EventNodeCreated
				}
				s.nodes[c.path] = c.node
			}
			for _, client := range s.zk.sessions {
				if client.server == s && client.connected && !client.rewatch {
					client.fire(c.path, kind)
				}
			}
		}
	}
}

// knowsEnd tells whether the server has heard that a session has ended.
func (s *server) knowsEnd(id int64) bool {
	for _, t := range s.zk.history[:s.applied] {
		if t.ends == id {
			return true
		}
	}
	return false
}

func (s *server) children(parent string) []string {
	var names []string
	for p := range s.nodes {
		if below(p, parent) && strings.LastIndexByte(p, '/') == len(parent) {
			names = append(names, p[len(parent)+1:])
		}
	}
	slices.Sort(names)
	return names
}
