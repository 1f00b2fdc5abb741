package zkdev

import "time"

// The operations that make a transaction. Each takes a zxid, even if it fails:
// the real server counts a refused write as a transaction too.

func (s *Server) nextZxid() int64 {
	s.zxid++
	return s.zxid
}

func (s *Server) opCreate(r *request) errCode {
	zxid := s.nextZxid()
	q := r.body.createRequest(r.op)
	if r.body.err != nil {
		return errMarshalling
	}
	t, code := r.prepCreate(&view{tree: s.tree}, r.op, q)
	if code != errOK {
		return code
	}
	n := s.apply(t, zxid, time.Now())
	r.reply.string(t.path)
	if r.op != OpCreate {
		r.reply.stat(n.stat())
	}
	return errOK
}

func (s *Server) opDelete(r *request) errCode {
	zxid := s.nextZxid()
	q := r.body.versioned(r.op)
	if r.body.err != nil {
		return errMarshalling
	}
	t, code := r.prepDelete(&view{tree: s.tree}, q)
	if code == errOK {
		s.apply(t, zxid, time.Now())
	}
	return code
}

func (s *Server) opSetData(r *request) errCode {
	zxid := s.nextZxid()
	q := r.body.versioned(r.op)
	if r.body.err != nil {
		return errMarshalling
	}
	t, code := r.prepSetData(&view{tree: s.tree}, q)
	if code != errOK {
		return code
	}
	r.reply.stat(s.apply(t, zxid, time.Now()).stat())
	return errOK
}

func (s *Server) opSetACL(r *request) errCode {
	zxid := s.nextZxid()
	path, acl, expected := r.body.string(), r.body.acls(), r.body.int32()
	if r.body.err != nil {
		return errMarshalling
	}
	t, code := r.prepSetACL(&view{tree: s.tree}, path, acl, expected)
	if code != errOK {
		return code
	}
	r.reply.stat(s.apply(t, zxid, time.Now()).stat())
	return errOK
}

func (s *Server) opCheck(r *request) errCode {
	s.nextZxid()
	q := r.body.versioned(r.op)
	if r.body.err != nil {
		return errMarshalling
	}
	_, code := r.prepCheck(&view{tree: s.tree}, q)
	return code
}

// opDeleteContainer is the server's own operation. A client that sends it is
// refused, as on the real server.
func (s *Server) opDeleteContainer(*request) errCode {
	s.nextZxid()
	return errBadArguments
}

func (s *Server) opReconfig(r *request) errCode {
	for range 3 {
		r.body.nullString()
	}
	r.body.int64()
	if r.body.err != nil {
		return errMarshalling
	}
	s.nextZxid()
	return errReconfigDisabled
}
