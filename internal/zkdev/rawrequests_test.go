package zkdev

// Requests, as tests send them.

func createBody(path, data string, flags int32, acl ...ACL) func(*encoder) {
	if acl == nil {
		acl = openACL
	}
	return func(e *encoder) {
		e.string(path)
		e.buffer([]byte(data))
		e.acls(acl)
		e.int32(flags)
	}
}

func createTTLBody(path string, flags int32, ttl int64) func(*encoder) {
	return func(e *encoder) {
		createBody(path, "", flags)(e)
		e.int64(ttl)
	}
}

func pathBody(path string) func(*encoder) {
	return func(e *encoder) { e.string(path) }
}

func watchBody(path string, watch bool) func(*encoder) {
	return func(e *encoder) {
		e.string(path)
		e.bool(watch)
	}
}

func versionBody(path string, version int32) func(*encoder) {
	return func(e *encoder) {
		e.string(path)
		e.int32(version)
	}
}

func setDataBody(path, data string, version int32) func(*encoder) {
	return func(e *encoder) {
		e.string(path)
		e.buffer([]byte(data))
		e.int32(version)
	}
}

func setACLBody(path string, version int32, acl ...ACL) func(*encoder) {
	return func(e *encoder) {
		e.string(path)
		e.acls(acl)
		e.int32(version)
	}
}

func authBody(scheme, secret string) func(*encoder) {
	return func(e *encoder) {
		e.int32(0)
		e.string(scheme)
		e.buffer([]byte(secret))
	}
}

type subOp struct {
	op   Opcode
	body func(*encoder)
}

func multiBody(ops ...subOp) func(*encoder) {
	return func(e *encoder) {
		for _, o := range ops {
			e.multiHeader(o.op, false, -1)
			o.body(e)
		}
		e.multiHeader(OpError, true, -1)
	}
}

func stringsBody(e *encoder, list []string) {
	e.int32(int32(len(list)))
	for _, s := range list {
		e.string(s)
	}
}

func (d *decoder) stat() stat {
	return stat{
		czxid: d.int64(), mzxid: d.int64(), ctime: d.int64(), mtime: d.int64(),
		version: d.int32(), cversion: d.int32(), aversion: d.int32(), ephemeralOwner: d.int64(),
		dataLength: d.int32(), numChildren: d.int32(), pzxid: d.int64(),
	}
}
