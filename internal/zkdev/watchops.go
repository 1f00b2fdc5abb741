package zkdev

// The operations on watches themselves.

func (s *Server) opAddWatch(r *request) errCode {
	path, mode := r.body.string(), watchMode(r.body.int32())
	if r.body.err != nil || (mode != watchPersistent && mode != watchRecursive) {
		return errMarshalling
	}
	s.dataWatches.add(path, r.conn, mode)
	s.childWatches.add(path, r.conn, mode)
	r.reply.int32(0)
	return errOK
}

// watcherTables are the tables that a watcher type (1 children, 2 data, 3 any)
// stands for.
func (s *Server) watcherTables(kind int32) []*watchTable {
	switch kind {
	case 1:
		return []*watchTable{s.childWatches}
	case 2:
		return []*watchTable{s.dataWatches}
	case 3:
		return []*watchTable{s.childWatches, s.dataWatches}
	}
	return nil
}

func (s *Server) opCheckWatches(r *request) errCode {
	path, tables := r.body.string(), s.watcherTables(r.body.int32())
	if r.body.err != nil || tables == nil {
		return errMarshalling
	}
	for _, table := range tables {
		found, code := table.any(path)
		if code != errOK {
			return code
		}
		if found {
			return errOK
		}
	}
	return errNoWatcher
}

func (s *Server) opRemoveWatches(r *request) errCode {
	path, tables := r.body.string(), s.watcherTables(r.body.int32())
	if r.body.err != nil || tables == nil {
		return errMarshalling
	}
	code := errNoWatcher
	for _, table := range tables {
		if table.remove(path, r.conn) {
			code = errOK
		}
	}
	return code
}

// opSetWatches puts a client's watches back after a reconnect. What changed
// since the client's last zxid fires at once; the rest is set anew.
func (s *Server) opSetWatches(r *request) errCode {
	since := r.body.int64()
	data, exist, child := r.body.strings(), r.body.strings(), r.body.strings()
	var persistent, recursive []string
	if r.op == OpSetWatches2 {
		persistent, recursive = r.body.strings(), r.body.strings()
	}
	if r.body.err != nil {
		return errMarshalling
	}
	for _, path := range data {
		s.resetWatch(r.conn, path, s.dataWatches, eventDataChanged, func(n *znode) bool { return n.mzxid > since })
	}
	for _, path := range exist {
		if s.tree.nodes[path] != nil {
			r.conn.notify(eventCreated, path)
			continue
		}
		s.dataWatches.add(path, r.conn, watchOnce)
	}
	for _, path := range child {
		s.resetWatch(r.conn, path, s.childWatches, eventChildrenChanged, func(n *znode) bool { return n.pzxid > since })
	}
	for _, path := range persistent {
		s.childWatches.add(path, r.conn, watchPersistent)
		s.dataWatches.add(path, r.conn, watchPersistent)
	}
	for _, path := range recursive {
		s.childWatches.add(path, r.conn, watchRecursive)
		s.dataWatches.add(path, r.conn, watchRecursive)
	}
	return errOK
}

func (s *Server) resetWatch(c *conn, path string, table *watchTable, event eventType, missed func(*znode) bool) {
	n := s.tree.nodes[path]
	switch {
	case n == nil:
		c.notify(eventDeleted, path)
	case missed(n):
		c.notify(event, path)
	default:
		table.add(path, c, watchOnce)
	}
}
