package zkdev

import (
	"fmt"
	"slices"
	"strings"
)

// historyRequest is one request of a history: what is sent, and how its result
// is written down.
type historyRequest struct {
	text string
	op   Opcode
	body func(*encoder)
	show func(*decoder, *history) string
}

func (h *history) request(op Opcode, text string, body func(*encoder)) historyRequest {
	return historyRequest{text: op.String() + " " + strings.ReplaceAll(text, "\x00", "NUL"), op: op, body: body, show: shows[op]}
}

func pick[T any](h *history, list ...T) T { return list[h.rng.IntN(len(list))] }

// node is a path below the base. There are few, so that operations meet.
func (h *history) node() string {
	return h.base + pick(h, "/a", "/a", "/a/b", "/a/b/c", "/d", "/d/e", "/f", "/f/a0000000001", "")
}

// path is nearly always a node's; sometimes one that no node may have.
func (h *history) path() string {
	if h.rng.IntN(25) > 0 {
		return h.node()
	}
	return pick(h, "relative", h.base+"/a/", h.base+"//a", h.base+"/a/../d", h.base+"/.", h.base+"/...",
		h.base+"/a\x00b", h.base+"/a\x07", h.base+"/ü", h.base+"/\U0001F600", h.base+"/\xff", h.base+"/nobody")
}

func (h *history) version() int32 { return pick[int32](h, -1, -1, -1, -1, -1, 0, 1, 2) }

func (h *history) data() string { return strings.Repeat("x", h.rng.IntN(20)) }

func (h *history) acl() []ACL {
	if h.rng.IntN(6) > 0 {
		return openACL
	}
	alice, bob := digestIdentity("alice:secret"), digestIdentity("bob:secret")
	return pick(h,
		readOnlyACL,
		[]ACL{{permAll, "auth", ""}},
		[]ACL{{permAll, alice.scheme, alice.id}, {permRead, "world", "anyone"}},
		[]ACL{{permAll, bob.scheme, bob.id}, {permRead | permCreate, "ip", "127.0.0.0/8"}},
		[]ACL{{permAll, "ip", "127.0.0.1"}, {permAll, "ip", "127.0.0.1"}},
		[]ACL{{permAll, "ip", "10.0.0.0/33"}},
		[]ACL{{permAll, "digest", "nocolon"}},
		[]ACL{{permAll, "sasl", "somebody"}},
		[]ACL{{permAll, "world", "nobody"}},
		[]ACL{},
	)
}

// randomRequest draws one request. Everything random about it is drawn here,
// in one order, whatever the server answers.
func (h *history) randomRequest() historyRequest {
	op := pick(h, OpCreate, OpCreate, OpCreate, OpCreate2, OpCreate2, OpCreateContainer, OpCreateTTL,
		OpCreate, OpCreate2, OpDelete, OpDelete, OpDelete, OpSetData, OpSetData, OpSetData, OpSetACL, OpSetACL, OpGetACL,
		OpExists, OpExists, OpGetData, OpGetData, OpGetChildren, OpGetChildren2,
		OpExists, OpGetData, OpGetChildren, OpGetChildren2,
		OpMulti, OpMulti, OpMulti, OpMulti, OpMulti, OpMultiRead, OpCheck, OpSync, OpPing, OpAuth, OpWhoAmI,
		OpSetWatches, OpSetWatches2, OpAddWatch, OpAddWatch, OpCheckWatches, OpRemoveWatches, OpRemoveWatches,
		OpGetEphemerals, OpGetAllChildrenNumber, OpReconfig, OpDeleteContainer)
	body, text := h.randomBody(op)
	q := h.request(op, text, body)
	if h.rng.IntN(100) == 0 && op != OpAuth && op != OpPing && op != OpDeleteContainer && op != OpWhoAmI && op != OpGetEphemerals {
		q.text += " (cut short)"
		q.body = func(e *encoder) { e.int32(1000) }
	}
	return q
}

func (h *history) randomBody(op Opcode) (body func(*encoder), text string) {
	switch op {
	case OpMulti:
		return h.multi(h.writeSub)
	case OpMultiRead:
		return h.multi(h.readSub)
	case OpAuth:
		user := pick(h, "alice:secret", "bob:secret")
		return authBody("digest", user), user
	case OpSetWatches, OpSetWatches2:
		return h.setWatches(op)
	case OpWhoAmI, OpPing:
		return nil, ""
	case OpReconfig:
		return func(e *encoder) { e.string(""); e.string(""); e.string(""); e.int64(-1) }, ""
	case OpGetEphemerals:
		prefix := pick(h, "", "/", h.base+"/a", h.base, " / ")
		return pathBody(prefix), prefix
	case OpGetAllChildrenNumber:
		path := h.base + pick(h, "", "/a", "/d", "/nobody")
		return pathBody(path), path
	}
	return h.simpleBody(op)
}

// simpleBody makes the requests that a multi may hold too.
func (h *history) simpleBody(op Opcode) (body func(*encoder), text string) {
	path := h.path()
	switch op {
	case OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL:
		return h.create(op, path)
	case OpSync:
		// The real server echoes characters beyond U+FFFF as two surrogates.
		path = h.node()
	case OpDelete:
		v := h.version()
		return versionBody(path, v), fmt.Sprintf("%s v%d", path, v)
	case OpCheck:
		// Alone, a check that passes gets no reply at all from the real server.
		return versionBody(path, 99), path + " v99"
	case OpSetData:
		data, v := h.data(), h.version()
		return setDataBody(path, data, v), fmt.Sprintf("%s %d bytes v%d", path, len(data), v)
	case OpSetACL:
		acl, v := h.acl(), h.version()
		return setACLBody(path, v, acl...), fmt.Sprintf("%s %v v%d", path, acl, v)
	case OpAddWatch, OpCheckWatches, OpRemoveWatches:
		kind := pick[int32](h, 0, 1, 1, 2, 3, 3)
		return versionBody(path, kind), fmt.Sprintf("%s %d", path, kind)
	case OpExists, OpGetData, OpGetChildren, OpGetChildren2:
		watch := h.rng.IntN(2) == 0
		return watchBody(path, watch), fmt.Sprintf("%s %v", path, watch)
	}
	return pathBody(path), path
}

func (h *history) create(op Opcode, path string) (body func(*encoder), text string) {
	flags, acl, data := int32(h.rng.IntN(4)), h.acl(), h.data()
	if h.rng.IntN(20) == 0 {
		flags = pick[int32](h, 4, 4, 7, -1)
	}
	if op == OpCreateContainer {
		// With an ephemeral flag the real server takes the node for an ephemeral
		// one until it is written, and for a container from then on.
		flags = pick[int32](h, flagContainer, flagContainer, flagPersistent, flagSequential)
	}
	text = fmt.Sprintf("%s %d bytes flags %d %v", path, len(data), flags, acl)
	if op != OpCreateTTL {
		return createBody(path, data, flags, acl...), text
	}
	flags, ttl := pick[int32](h, 5, 6), pick[int64](h, 3_600_000, 3_600_000, 3_600_000, 1<<40-1, 1<<40-1, 0, -1, 1<<40)
	return createTTLBody(path, flags, ttl), fmt.Sprintf("%s flags %d ttl %d", path, flags, ttl)
}

func (h *history) multi(draw func() (subOp, string)) (body func(*encoder), text string) {
	var subs []subOp
	for range 1 + h.rng.IntN(4) {
		sub, what := draw()
		subs = append(subs, sub)
		text += fmt.Sprintf("{%v %s}", sub.op, what)
	}
	return multiBody(subs...), text
}

func (h *history) writeSub() (subOp, string) {
	op := pick(h, OpCreate, OpCreate, OpCreate2, OpCreateContainer, OpCreateTTL, OpDelete, OpDelete, OpSetData, OpSetData, OpCheck)
	path := h.node()
	if op == OpCheck {
		v := h.version()
		return subOp{op, versionBody(path, v)}, fmt.Sprintf("%s v%d", path, v)
	}
	body, text := h.simpleBody(op)
	return subOp{op, body}, text
}

func (h *history) readSub() (subOp, string) {
	path := h.path()
	return subOp{pick(h, OpGetData, OpGetChildren), watchBody(path, false)}, path
}

// setWatches asks for watches as of an earlier moment of the history.
func (h *history) setWatches(op Opcode) (body func(*encoder), text string) {
	moment := h.rng.IntN(1 << 20)
	var lists [5][]string
	for i := range lists {
		for range h.rng.IntN(3) {
			lists[i] = append(lists[i], h.node())
		}
	}
	count := 3
	if op == OpSetWatches2 {
		count = 5
	}
	return func(e *encoder) {
		e.int64(h.zxids[moment%len(h.zxids)])
		for _, list := range lists[:count] {
			stringsBody(e, list)
		}
	}, fmt.Sprintf("%v", lists[:count])
}

// shows write down the results of each operation.
var shows = map[Opcode]func(*decoder, *history) string{
	OpCreate:               showString,
	OpCreate2:              showCreated,
	OpCreateContainer:      showCreated,
	OpCreateTTL:            showCreated,
	OpSetData:              showStat,
	OpSetACL:               showStat,
	OpExists:               showStat,
	OpGetData:              func(d *decoder, h *history) string { return fmt.Sprintf("%q %s", d.buffer(), showStat(d, h)) },
	OpGetACL:               showACL,
	OpGetChildren:          showSorted,
	OpGetChildren2:         func(d *decoder, h *history) string { return showSorted(d, h) + " " + showStat(d, h) },
	OpGetEphemerals:        showSorted,
	OpGetAllChildrenNumber: showInt,
	OpAddWatch:             showInt,
	OpSync:                 showString,
	OpWhoAmI:               showWhoAmI,
}

func init() { // showMulti needs the others
	shows[OpMulti], shows[OpMultiRead] = showMulti, showMulti
}

func showInt(d *decoder, _ *history) string    { return fmt.Sprint(d.int32()) }
func showString(d *decoder, _ *history) string { return fmt.Sprintf("%q", d.string()) }
func showSorted(d *decoder, _ *history) string { return fmt.Sprintf("%q", sortedStrings(d)) }

// showACL sorts what the scheme "auth" stood for: it has no order either.
func showACL(d *decoder, h *history) string {
	acl := d.acls()
	slices.SortFunc(acl, func(a, b ACL) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return fmt.Sprintf("%v %s", acl, showStat(d, h))
}

func showCreated(d *decoder, h *history) string { return d.string() + " " + showStat(d, h) }

func showStat(d *decoder, h *history) string {
	s := d.stat()
	owner := "nobody"
	if s.ephemeralOwner != 0 {
		owner = h.names[s.ephemeralOwner]
	}
	return fmt.Sprintf("czxid %s mzxid %s pzxid %s version %d cversion %d aversion %d owner %s length %d children %d",
		zxidToken(s.czxid), zxidToken(s.mzxid), zxidToken(s.pzxid), s.version, s.cversion, s.aversion,
		owner, s.dataLength, s.numChildren)
}

// sortedStrings reads a list that the server gives in no order.
func sortedStrings(d *decoder) []string {
	list := d.strings()
	slices.Sort(list)
	return list
}

func showWhoAmI(d *decoder, _ *history) string {
	var ids []string
	for range d.int32() {
		ids = append(ids, d.string()+":"+d.string())
	}
	slices.Sort(ids)
	return fmt.Sprint(ids)
}

func showMulti(d *decoder, h *history) string {
	var all []string
	for d.err == nil {
		op, done, code := Opcode(d.int32()), d.bool(), d.int32()
		if done {
			return fmt.Sprint(all)
		}
		result := fmt.Sprintf("%v %d ", op, code)
		switch op {
		case OpError:
			result += showInt(d, h)
		case OpDelete, OpCheck:
		default:
			result += shows[op](d, h)
		}
		all = append(all, result)
	}
	return "broken"
}
