package zkdev

// maxReply bounds a reply, in bytes. Clients refuse far shorter ones; but a
// multiRead of one frame could otherwise ask for gigabytes.
const maxReply = 16 << 20

// handlers serve the requests that a session may make, each under the server's
// lock. Whatever is not here is unimplemented.
var handlers = map[Opcode]func(*Server, *request) errCode{
	OpCreate:               (*Server).opCreate,
	OpCreate2:              (*Server).opCreate,
	OpCreateContainer:      (*Server).opCreate,
	OpCreateTTL:            (*Server).opCreate,
	OpDelete:               (*Server).opDelete,
	OpSetData:              (*Server).opSetData,
	OpSetACL:               (*Server).opSetACL,
	OpCheck:                (*Server).opCheck,
	OpMulti:                (*Server).opMulti,
	OpDeleteContainer:      (*Server).opDeleteContainer,
	OpReconfig:             (*Server).opReconfig,
	OpExists:               (*Server).opExists,
	OpGetData:              (*Server).opGetData,
	OpGetACL:               (*Server).opGetACL,
	OpGetChildren:          (*Server).opGetChildren,
	OpGetChildren2:         (*Server).opGetChildren,
	OpGetAllChildrenNumber: (*Server).opGetAllChildrenNumber,
	OpGetEphemerals:        (*Server).opGetEphemerals,
	OpMultiRead:            (*Server).opMultiRead,
	OpSync:                 (*Server).opSync,
	OpPing:                 (*Server).opPing,
	OpWhoAmI:               (*Server).opWhoAmI,
	OpSetWatches:           (*Server).opSetWatches,
	OpSetWatches2:          (*Server).opSetWatches,
	OpAddWatch:             (*Server).opAddWatch,
	OpCheckWatches:         (*Server).opCheckWatches,
	OpRemoveWatches:        (*Server).opRemoveWatches,
	OpCloseSession:         (*Server).opCloseSession,
}

// serve applies one request and queues its reply. It reports false when the
// connection is to be read no more.
func (s *Server) serve(r *request) bool {
	hook := s.hook.Load()
	before := s.runHook(hook, BeforeEffect, r, outcome{})
	if before == CloseConn || !s.lockThawed(r.conn) {
		return false
	}
	out := s.effect(r)
	if out.ignored || out.hangUp {
		s.mu.Unlock()
		return out.ignored
	}
	if hook == nil {
		s.respond(r, out)
		s.mu.Unlock()
		return s.served(r, out)
	}
	// The hook runs without the lock. Events that others cause meanwhile must
	// not overtake the reply.
	r.conn.out.holdEvents()
	s.mu.Unlock()
	after := s.runHook(hook, AfterEffect, r, out)
	if after == CloseConn {
		return false
	}
	answer := before == Proceed && after == Proceed
	s.mu.Lock()
	if answer {
		s.respond(r, out)
	}
	r.conn.out.release()
	s.mu.Unlock()
	if s.runHook(hook, AfterReply, r, out) == CloseConn || (out.last && !answer) {
		return false
	}
	return s.served(r, out)
}

// outcome is what a request came to.
type outcome struct {
	code    errCode
	zxid    int64
	last    bool // close the connection after the reply
	hangUp  bool // close it at once
	ignored bool // its session has ended: no reply
}

// effect applies a request; the caller holds the lock.
func (s *Server) effect(r *request) outcome {
	c := r.conn
	c.received++
	switch r.op {
	case OpAuth:
		code := c.authenticate(&r.body)
		return outcome{code: code, last: code != errOK, hangUp: r.body.err != nil}
	case OpSASL:
		// No SASL here: a real server without it answers the same.
		token := r.body.buffer()
		r.reply.buffer(nil)
		return outcome{hangUp: token == nil}
	}
	if !s.touch(c) {
		return outcome{ignored: true}
	}
	r.session = c.session
	handler := handlers[r.op]
	if handler == nil {
		return outcome{code: errUnimplemented, zxid: -1, last: true}
	}
	code := handler(s, r)
	if len(r.reply.buf) > maxReply {
		s.cfg.Logf("zkdev: client %v asked for more than %d bytes at once", c.net.RemoteAddr(), maxReply)
		return outcome{hangUp: true}
	}
	return outcome{code: code, zxid: s.zxid, last: r.op == OpCloseSession}
}

// respond queues the reply; the caller holds the lock.
func (s *Server) respond(r *request, out outcome) {
	c := r.conn
	c.sent++
	c.out.write(false, func(e *encoder) {
		e.frame(func() {
			xid := r.xid
			if r.op == OpPing {
				xid = xidPing
			}
			e.replyHeader(xid, out.zxid, out.code)
			if out.code == errOK || r.partial {
				e.buf = append(e.buf, r.reply.buf...)
			}
		})
	})
	if out.last {
		c.finish()
	}
}

// served reports whether the connection goes on. If not, it leaves the last
// reply to the writer.
func (s *Server) served(r *request, out outcome) bool {
	if out.last {
		<-r.conn.gone
	}
	return !out.last
}

func (s *Server) opCloseSession(r *request) errCode {
	s.endSession(r.session)
	return errOK
}

// authenticate adds an identity to the connection.
func (c *conn) authenticate(d *decoder) errCode {
	d.int32()
	scheme, _ := d.nullString()
	secret := d.buffer()
	if d.err != nil {
		return errAuthFailed
	}
	var id identity
	switch {
	case scheme == "digest" && secret != nil:
		id = digestIdentity(string(secret))
	case scheme == "ip":
		id = c.address()
	default:
		return errAuthFailed
	}
	for _, known := range c.identities {
		if known == id {
			return errOK
		}
	}
	c.identities = append(c.identities, id)
	return errOK
}
