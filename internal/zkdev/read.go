package zkdev

import "strings"

// The operations that change nothing.

// readable finds a node and checks that the connection has one of the
// permissions on it.
func (s *Server) readable(r *request, path string, perm int32) (*znode, errCode) {
	n := s.tree.nodes[path]
	if n == nil {
		return nil, errNoNode
	}
	if !permitted(n.acl, perm, r.conn.identities) {
		return nil, errNoAuth
	}
	return n, errOK
}

// pathAndWatch reads the request that most reads share.
func (r *request) pathAndWatch() (path string, watch bool, code errCode) {
	path, watch = r.body.string(), r.body.bool()
	if r.body.err != nil {
		return "", false, errMarshalling
	}
	return path, watch, errOK
}

// opExists sets its watch on a node that is not there as well: that is how one
// waits for a create.
func (s *Server) opExists(r *request) errCode {
	path, watch, code := r.pathAndWatch()
	if code != errOK {
		return code
	}
	if strings.IndexByte(path, 0) >= 0 {
		return errBadArguments
	}
	if watch {
		s.dataWatches.add(path, r.conn, watchOnce)
	}
	n := s.tree.nodes[path]
	if n == nil {
		return errNoNode
	}
	r.reply.stat(n.stat())
	return errOK
}

// watched is the node that a request reads, and watches among these if it asks for that.
func (s *Server) watched(r *request, watches *watchTable) (*znode, errCode) {
	path, watch, code := r.pathAndWatch()
	if code != errOK {
		return nil, code
	}
	n, code := s.readable(r, path, permRead)
	if code == errOK && watch {
		watches.add(path, r.conn, watchOnce)
	}
	return n, code
}

func (s *Server) opGetData(r *request) errCode {
	n, code := s.watched(r, s.dataWatches)
	if code != errOK {
		return code
	}
	r.reply.buffer(n.data)
	r.reply.stat(n.stat())
	return errOK
}

// opGetChildren serves getChildren and getChildren2, which adds the Stat.
func (s *Server) opGetChildren(r *request) errCode {
	n, code := s.watched(r, s.childWatches)
	if code != errOK {
		return code
	}
	r.reply.childNames(n)
	if r.op == OpGetChildren2 {
		r.reply.stat(n.stat())
	}
	return errOK
}

func (s *Server) opGetAllChildrenNumber(r *request) errCode {
	path := r.body.string()
	if r.body.err != nil {
		return errMarshalling
	}
	if _, code := s.readable(r, path, permRead); code != errOK {
		return code
	}
	r.reply.int32(int32(s.tree.descendants(path)))
	return errOK
}

func (s *Server) opGetACL(r *request) errCode {
	path := r.body.string()
	if r.body.err != nil {
		return errMarshalling
	}
	n, code := s.readable(r, path, permRead|permAdmin)
	if code != errOK {
		return code
	}
	acl := n.acl
	if !permitted(acl, permAdmin, r.conn.identities) {
		acl = maskDigests(acl)
	}
	r.reply.acls(acl)
	r.reply.stat(n.stat())
	return errOK
}

// opSync has nothing to wait for: there is one server, and requests are applied
// in order.
func (s *Server) opSync(r *request) errCode {
	path, null := r.body.nullString()
	if r.body.err != nil {
		return errMarshalling
	}
	if null {
		r.reply.buffer(nil)
		return errOK
	}
	r.reply.string(path)
	return errOK
}

func (s *Server) opGetEphemerals(r *request) errCode {
	prefix, _ := r.body.nullString()
	if r.body.err != nil {
		return errMarshalling
	}
	all := strings.TrimSpace(prefix) == "" || strings.TrimSpace(prefix) == pathRoot
	var paths []string
	for path := range s.tree.ephemerals[r.session.id] {
		if all || strings.HasPrefix(path, prefix) {
			paths = append(paths, path)
		}
	}
	r.reply.int32(int32(len(paths)))
	for _, path := range paths {
		r.reply.string(path)
	}
	return errOK
}

func (s *Server) opWhoAmI(r *request) errCode {
	r.reply.int32(int32(len(r.conn.identities)))
	for _, id := range r.conn.identities {
		r.reply.string(id.scheme)
		r.reply.string(id.userName())
	}
	return errOK
}

func (s *Server) opPing(*request) errCode { return errOK }
