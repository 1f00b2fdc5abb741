package zkdev

import "fmt"

// txn is a checked change: applying it cannot fail.
type txn struct {
	kind    Opcode // OpCreate, OpDelete, OpSetData, OpSetACL or OpCheck
	path    string
	data    []byte
	acl     []ACL
	owner   int64 // of a created node
	creates int32 // of its parent, with it
	version int32 // the new data or ACL version
}

// createRequest is the request of create, create2, createContainer and
// createTTL; ttl is in milliseconds, and -1 for all but the last.
type createRequest struct {
	path  string
	data  []byte
	acl   []ACL
	flags int32
	ttl   int64
}

func (d *decoder) createRequest(op Opcode) createRequest {
	q := createRequest{path: d.string(), data: d.buffer(), acl: d.acls(), flags: d.int32(), ttl: -1}
	if op == OpCreateTTL {
		q.ttl = d.int64()
	}
	return q
}

// versioned is the request of delete, setData and check: it holds for the
// given version of the node, or for any if that is -1.
type versioned struct {
	path    string
	data    []byte
	version int32
}

func (d *decoder) versioned(op Opcode) versioned {
	q := versioned{path: d.string()}
	if op == OpSetData {
		q.data = d.buffer()
	}
	q.version = d.int32()
	return q
}

// nextVersion checks an expected version against the node's.
func nextVersion(have, expected int32) (int32, errCode) {
	if expected != -1 && expected != have {
		return 0, errBadVersion
	}
	return have + 1, errOK
}

// The checks below follow the real server's order, because the first one that
// fails decides the error code.

func (r *request) prepCreate(v *view, op Opcode, q createRequest) (txn, errCode) {
	if code := q.validMode(op); code != errOK {
		return txn{}, code
	}
	parentPath, _, ok := splitPath(q.path)
	if !ok {
		return txn{}, errBadArguments
	}
	acl, code := fixACL(q.acl, r.conn.identities)
	if code != errOK {
		return txn{}, code
	}
	parent, ok := v.get(parentPath)
	if !ok {
		return txn{}, errNoNode
	}
	if !permitted(parent.acl, permCreate, r.conn.identities) {
		return txn{}, errNoAuth
	}
	path := q.path
	if q.sequential() {
		path += fmt.Sprintf("%010d", parent.creates)
	}
	if !validPath(path) {
		return txn{}, errBadArguments
	}
	if _, exists := v.get(path); exists {
		return txn{}, errNodeExists
	}
	if kindOfOwner(parent.owner) == ownerSession {
		return txn{}, errNoChildrenForEphemerals
	}
	parent.creates++
	parent.children++
	v.put(parentPath, parent)
	owner := q.owner(op, r.session.id)
	v.put(path, record{acl: acl, owner: owner})
	return txn{kind: OpCreate, path: path, data: q.data, acl: acl, owner: owner, creates: parent.creates}, errOK
}

// validMode checks the flags, and that there is a TTL exactly for the modes
// that have one.
func (q createRequest) validMode(op Opcode) errCode {
	hasTTL := q.flags == flagTTL || q.flags == flagSequentialTTL
	switch {
	case q.flags < flagPersistent || q.flags > flagSequentialTTL:
		return errBadArguments
	case hasTTL != (op == OpCreateTTL):
		return errBadArguments
	case hasTTL && (q.ttl <= 0 || q.ttl > maxTTL):
		return errBadArguments
	}
	return errOK
}

func (q createRequest) sequential() bool {
	return q.flags == flagSequential || q.flags == flagEphemeralSequential || q.flags == flagSequentialTTL
}

// owner goes by the opcode, not by the flags alone: a plain create with the
// container flag makes an ordinary node, on the real server too.
func (q createRequest) owner(op Opcode, session int64) int64 {
	switch {
	case op == OpCreateContainer:
		return ownerContainer
	case op == OpCreateTTL:
		return ownerTTLMask | q.ttl
	case q.flags == flagEphemeral || q.flags == flagEphemeralSequential:
		return session
	}
	return 0
}

func (r *request) prepDelete(v *view, q versioned) (txn, errCode) {
	parentPath, _, ok := splitPath(q.path)
	if !ok || isSpecialPath(q.path) {
		return txn{}, errBadArguments
	}
	parent, ok := v.get(parentPath)
	if !ok {
		return txn{}, errNoNode
	}
	if !permitted(parent.acl, permDelete, r.conn.identities) {
		return txn{}, errNoAuth
	}
	node, ok := v.get(q.path)
	if !ok {
		return txn{}, errNoNode
	}
	if _, code := nextVersion(node.version, q.version); code != errOK {
		return txn{}, code
	}
	if node.children > 0 {
		return txn{}, errNotEmpty
	}
	parent.children--
	v.put(parentPath, parent)
	v.remove(q.path)
	return txn{kind: OpDelete, path: q.path}, errOK
}

func (r *request) prepSetData(v *view, q versioned) (txn, errCode) {
	node, code := r.prepVersioned(v, q, permWrite)
	if code != errOK {
		return txn{}, code
	}
	node.version++
	v.put(q.path, node)
	return txn{kind: OpSetData, path: q.path, data: q.data, version: node.version}, errOK
}

func (r *request) prepCheck(v *view, q versioned) (txn, errCode) {
	_, code := r.prepVersioned(v, q, permRead)
	return txn{kind: OpCheck, path: q.path}, code
}

func (r *request) prepVersioned(v *view, q versioned, perm int32) (record, errCode) {
	if !validPath(q.path) {
		return record{}, errBadArguments
	}
	node, ok := v.get(q.path)
	if !ok {
		return record{}, errNoNode
	}
	if !permitted(node.acl, perm, r.conn.identities) {
		return record{}, errNoAuth
	}
	_, code := nextVersion(node.version, q.version)
	return node, code
}

func (r *request) prepSetACL(v *view, path string, acl []ACL, expected int32) (txn, errCode) {
	if !validPath(path) {
		return txn{}, errBadArguments
	}
	acl, code := fixACL(acl, r.conn.identities)
	if code != errOK {
		return txn{}, code
	}
	node, ok := v.get(path)
	if !ok {
		return txn{}, errNoNode
	}
	if !permitted(node.acl, permAdmin, r.conn.identities) {
		return txn{}, errNoAuth
	}
	version, code := nextVersion(node.aversion, expected)
	return txn{kind: OpSetACL, path: path, acl: acl, version: version}, code
}
