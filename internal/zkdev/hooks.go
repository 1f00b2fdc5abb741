package zkdev

// Point is a moment in the life of a request at which a [Hook] is called.
type Point int

const (
	// BeforeEffect: the request has arrived, and nothing has happened yet.
	BeforeEffect Point = iota
	// AfterEffect: the request is applied and the events it caused are queued;
	// the reply is not.
	AfterEffect
	// AfterReply: the reply is queued (or was dropped).
	AfterReply
)

func (p Point) String() string {
	return [...]string{"before effect", "after effect", "after reply"}[p]
}

// Action is what a [Hook] wants done.
type Action int

const (
	// Proceed goes on as if there were no hook.
	Proceed Action = iota
	// DropReply applies the request but never answers it. The connection stays.
	DropReply
	// CloseConn closes the connection at once: before the effect the request is
	// lost, after it only the reply is (with whatever else was unsent).
	CloseConn
)

// Request is a request as a [Hook] sees it.
type Request struct {
	Session int64
	Xid     int32
	Op      Opcode
	// Paths are the paths that the request names, in its order: one for most
	// operations, one an operation for a multi, none for a ping.
	Paths []string
	// Code and Zxid are the reply's; both are 0 before the effect.
	Code int32
	Zxid int64
}

// Hook is called at each [Point] of every request but the connect, on the
// connection's own goroutine and without the server's lock: it may block, and
// it may call the server. While it blocks, the connection's next requests wait
// and events for it are held behind the reply.
type Hook func(Point, Request) Action

// SetHook replaces the hook; nil takes it away. A request that is being served
// goes on with the hook it began with.
func (s *Server) SetHook(h Hook) {
	if h == nil {
		s.hook.Store(nil)
		return
	}
	s.hook.Store(&h)
}

func (s *Server) runHook(h *Hook, at Point, r *request, out outcome) Action {
	if h == nil {
		return Proceed
	}
	var id int64
	s.mu.Lock()
	if r.conn.session != nil {
		id = r.conn.session.id
	}
	s.mu.Unlock()
	return (*h)(at, Request{
		Session: id, Xid: r.xid, Op: r.op, Paths: r.paths(), Code: int32(out.code), Zxid: out.zxid,
	})
}

// paths looks at a request without consuming it, once: the effect may have
// consumed the body by the time it is asked again.
func (r *request) paths() []string {
	if r.named != nil {
		return r.named
	}
	r.named = []string{}
	d := r.body
	switch r.op {
	case OpMulti, OpMultiRead:
		for _, sub := range d.multiRequest() {
			r.named = append(r.named, sub.path())
		}
	case OpPing, OpCloseSession, OpAuth, OpSASL, OpWhoAmI, OpSetWatches, OpSetWatches2, OpReconfig:
	default:
		if path := d.string(); d.err == nil {
			r.named = append(r.named, path)
		}
	}
	return r.named
}
