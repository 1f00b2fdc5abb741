package zkdev

import "time"

// apply carries out a checked change and fires the watches on it. The caller
// holds the server's lock and gives every change of one transaction the same
// zxid and time. It returns the node (for a delete: nil), whose Stat replies
// may show.
func (s *Server) apply(t txn, zxid int64, now time.Time) *znode {
	switch t.kind {
	case OpCreate:
		return s.applyCreate(t, zxid, now)
	case OpDelete:
		s.applyDelete(t.path, zxid)
		return nil
	case OpSetData:
		n := s.tree.nodes[t.path]
		n.data, n.version, n.mzxid, n.mtime = t.data, t.version, zxid, now.UnixMilli()
		s.dataWatches.trigger(t.path, eventDataChanged, n.acl, nil)
		return n
	case OpSetACL:
		n := s.tree.nodes[t.path]
		n.acl, n.aversion = t.acl, t.version
		return n
	}
	return s.tree.nodes[t.path]
}

func (s *Server) applyCreate(t txn, zxid int64, now time.Time) *znode {
	n := &znode{
		data: t.data, acl: t.acl, owner: t.owner, children: make(map[string]struct{}),
		czxid: zxid, mzxid: zxid, pzxid: zxid, ctime: now.UnixMilli(), mtime: now.UnixMilli(),
	}
	s.tree.create(t.path, n, t.creates)
	parentPath, _, _ := splitPath(t.path)
	s.dataWatches.trigger(t.path, eventCreated, n.acl, nil)
	s.childWatches.trigger(shownPath(parentPath), eventChildrenChanged, s.tree.nodes[parentPath].acl, nil)
	return n
}

func (s *Server) applyDelete(path string, zxid int64) {
	n, parent := s.tree.remove(path, zxid)
	parentPath, _, _ := splitPath(path)
	// Who watches both the data and the children of a node hears of its end once.
	told := s.dataWatches.trigger(path, eventDeleted, n.acl, nil)
	s.childWatches.trigger(path, eventDeleted, n.acl, told)
	s.childWatches.trigger(shownPath(parentPath), eventChildrenChanged, parent.acl, nil)
}
