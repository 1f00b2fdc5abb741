package zkdev

import (
	"errors"
	"time"
)

// subRequest is one operation of a multi. kind is what it amounts to, which
// for creates depends on the flags; op is what stood in its header.
type subRequest struct {
	op, kind Opcode
	create   createRequest
	other    versioned // getData and getChildren use its path alone
}

var errNotInMulti = errors.New("an operation that this multi cannot have")

// multiRequest decodes the operations of a multi or multiRead. Reads and
// writes may not be mixed: that is a marshalling error, as on the real server.
func (d *decoder) multiRequest() []subRequest {
	var subs []subRequest
	for {
		op, done := Opcode(d.int32()), d.bool()
		d.int32()
		if done || d.err != nil {
			return subs
		}
		sub := subRequest{op: op, kind: op}
		switch op {
		case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL:
			sub.create = d.createRequest(op)
			sub.kind = createKind(sub.create.flags)
			if sub.kind != OpCreateTTL {
				sub.create.ttl = -1
			}
		case OpDelete, OpSetData, OpCheck:
			sub.other = d.versioned(op)
		case OpGetData, OpGetChildren:
			sub.other.path = d.string()
			d.bool()
		default:
			d.err = errNotInMulti
		}
		if len(subs) > 0 && subs[0].isRead() != sub.isRead() {
			d.err = errNotInMulti
		}
		subs = append(subs, sub)
	}
}

func (q subRequest) isRead() bool { return q.op == OpGetData || q.op == OpGetChildren }

func (q subRequest) path() string { return q.create.path + q.other.path }

// createKind is the operation that a multi makes of a create's flags.
func createKind(flags int32) Opcode {
	switch flags {
	case flagContainer:
		return OpCreateContainer
	case flagTTL, flagSequentialTTL:
		return OpCreateTTL
	}
	return OpCreate
}

// opMulti checks every operation against what the ones before it would do, and
// applies them only if all may pass.
func (s *Server) opMulti(r *request) errCode {
	zxid := s.nextZxid()
	subs := r.body.multiRequest()
	if r.body.err != nil || (len(subs) > 0 && subs[0].isRead()) {
		return errMarshalling
	}
	v := &view{tree: s.tree, pending: make(map[string]*record)}
	txns := make([]txn, 0, len(subs))
	for _, sub := range subs {
		t, code := r.prepSub(v, sub)
		if code == errMarshalling {
			return code
		}
		if code != errOK {
			r.replyFailedMulti(len(txns), code, len(subs))
			return errOK
		}
		txns = append(txns, t)
	}
	now := time.Now()
	for i, t := range txns {
		r.replySub(subs[i], t, s.apply(t, zxid, now))
	}
	r.reply.multiHeader(OpError, true, -1)
	return errOK
}

func (r *request) prepSub(v *view, q subRequest) (txn, errCode) {
	switch q.kind {
	case OpDelete:
		return r.prepDelete(v, q.other)
	case OpSetData:
		return r.prepSetData(v, q.other)
	case OpCheck:
		return r.prepCheck(v, q.other)
	case OpCreateTTL:
		if q.op != OpCreateTTL {
			return txn{}, errMarshalling // the flag without a TTL
		}
	}
	return r.prepCreate(v, q.kind, q.create)
}

// replySub writes one result. A container's or TTL node's create is answered
// as a create2, a plain one never is.
func (r *request) replySub(q subRequest, t txn, n *znode) {
	switch q.kind {
	case OpCreateContainer, OpCreateTTL:
		r.reply.multiHeader(OpCreate2, false, 0)
		r.reply.string(t.path)
		r.reply.stat(n.stat())
	case OpCreate:
		r.reply.multiHeader(OpCreate, false, 0)
		r.reply.string(t.path)
	case OpSetData:
		r.reply.multiHeader(OpSetData, false, 0)
		r.reply.stat(n.stat())
	default:
		r.reply.multiHeader(q.kind, false, 0)
	}
}

// replyFailedMulti says which operation failed: 0 for those before it, which
// would have passed, its code, and "runtime inconsistency" for the rest.
func (r *request) replyFailedMulti(culprit int, code errCode, total int) {
	for i := range total {
		result := errOK
		switch {
		case i == culprit:
			result = code
		case i > culprit:
			result = errRuntimeInconsistency
		}
		r.reply.multiError(result)
	}
	r.reply.multiHeader(OpError, true, -1)
}

// opMultiRead answers each read on its own: one that fails does not spoil the
// others.
func (s *Server) opMultiRead(r *request) errCode {
	subs := r.body.multiRequest()
	if r.body.err != nil {
		return errMarshalling
	}
	if len(subs) > 0 && !subs[0].isRead() {
		// The real server sends the results it has so far, which are none.
		r.partial = true
		r.reply.multiHeader(OpError, true, -1)
		return errMarshalling
	}
	for _, sub := range subs {
		if len(r.reply.buf) > maxReply {
			break // it will not be sent
		}
		n, code := s.readable(r, sub.other.path, permRead)
		switch {
		case code != errOK:
			r.reply.multiError(code)
		case sub.op == OpGetData:
			r.reply.multiHeader(OpGetData, false, 0)
			r.reply.buffer(n.data)
			r.reply.stat(n.stat())
		default:
			r.reply.multiHeader(OpGetChildren, false, 0)
			r.reply.childNames(n)
		}
	}
	r.reply.multiHeader(OpError, true, -1)
	return errOK
}

func (e *encoder) multiHeader(op Opcode, done bool, code errCode) {
	e.int32(int32(op))
	e.bool(done)
	e.int32(int32(code))
}

func (e *encoder) multiError(code errCode) {
	e.multiHeader(OpError, false, code)
	e.int32(int32(code))
}
