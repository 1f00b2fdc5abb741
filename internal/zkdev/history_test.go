package zkdev

import (
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// history runs random operations of several sessions against one server and
// writes down all that a client can see. What it does depends on the seed
// alone, never on the answers, so the same seed does the same on any server.
type history struct {
	t       testing.TB
	addr    string
	base    string // every node of the history is below it
	rng     *rand.Rand
	clients []*rawClient
	names   map[int64]string // sessions, in the order they began
	zxids   []int64          // of the replies so far
	trace   []string
}

const (
	historyClients = 3
	// longSession is never to expire while a history runs.
	longSession = 30 * time.Second
	// shortSession is soon over, but not while it is still at work. (A server
	// whose least is more grants that.)
	shortSession = 600 * time.Millisecond
)

// runHistory returns what was seen, one line a step, with zxids replaced by
// their rank and sessions by their number. Nothing is done outside top, which
// is created.
func runHistory(t testing.TB, addr, top string, seed uint64, steps int) []string {
	h := &history{
		t: t, addr: addr, base: top + "/h", names: make(map[int64]string),
		rng: rand.New(rand.NewPCG(seed, 42)),
	}
	for range historyClients {
		h.clients = append(h.clients, h.dial(longSession))
	}
	for _, path := range []string{"", "/h", "/h/a", "/h/a/b", "/h/d", "/h/f"} {
		h.do(0, h.request(OpCreate, path, createBody(top+path, "", 0)))
	}
	for range steps {
		h.step()
	}
	h.survey()
	for _, c := range h.clients {
		c.call(OpCloseSession, nil)
		c.closed() // by then its watches are gone
		c.net.Close()
	}
	return rankZxids(h.trace)
}

func (h *history) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *history) dial(timeout time.Duration) *rawClient {
	c := dialRaw(h.t, h.addr, timeout)
	h.names[c.session] = fmt.Sprintf("S%d", len(h.names)+1)
	return c
}

// step makes one random move: mostly a request, now and then something that
// happens to a whole session or connection.
func (h *history) step() {
	slot := h.rng.IntN(historyClients)
	switch n := h.rng.IntN(1000); {
	case n < 20:
		h.reattach(slot)
	case n < 35:
		h.closeSession(slot)
	case n < 36:
		h.expireSession()
	case n < 41:
		h.wrongPassword(slot)
	case n < 45:
		h.aheadOfServer()
	case n < 49:
		h.unknownOpcode(slot)
	case n < 100:
		h.burst(slot)
	default:
		h.do(slot, h.randomRequest())
	}
}

// do sends one request, waits for the reply, and then for the events that it
// caused anywhere.
func (h *history) do(slot int, q historyRequest) errCode {
	c := h.clients[slot]
	c.send(q.op, q.body)
	code := h.answer(slot, q)
	h.flush(false)
	return code
}

// answer notes a reply and the events that came before it.
func (h *history) answer(slot int, q historyRequest) errCode {
	c := h.clients[slot]
	r, err := c.read()
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", q.text, err, strings.Join(h.trace, "\n"))
	}
	result := ""
	if r.code == errOK && q.show != nil {
		result = q.show(&r.body, h)
	}
	if r.body.err != nil {
		h.t.Fatalf("%s: %v", q.text, r.body.err)
	}
	h.zxids = append(h.zxids, r.zxid)
	h.note("client %d: %s: %d at %s %s%s", slot, q.text, r.code, zxidToken(r.zxid), result, c.pending(false))
	return r.code
}

// pending takes the events that a client has received.
func (c *rawClient) pending(sorted bool) string {
	if len(c.events) == 0 {
		return ""
	}
	// The nodes of a session that ends go in no order.
	if sorted {
		slices.Sort(c.events)
	}
	list := strings.Join(c.events, ", ")
	c.events = nil
	return " after events [" + list + "]"
}

// flush notes the events that have been sent to any client so far.
func (h *history) flush(sorted bool) {
	for _, c := range h.clients {
		c.send(OpPing, nil)
	}
	for slot, c := range h.clients {
		if _, err := c.read(); err != nil {
			h.t.Fatalf("ping: %v\n%s", err, strings.Join(h.trace, "\n"))
		}
		if events := c.pending(sorted); events != "" {
			h.note("client %d:%s", slot, events)
		}
	}
}

// burst sends several requests at once and then reads all replies.
func (h *history) burst(slot int) {
	var sent []historyRequest
	for range 2 + h.rng.IntN(4) {
		q := h.randomRequest()
		if q.op == OpAuth || q.op == OpSetACL {
			// The real server answers the first ahead of earlier requests, and
			// forgets the second while it checks later ones.
			continue
		}
		h.clients[slot].send(q.op, q.body)
		sent = append(sent, q)
	}
	for _, q := range sent {
		h.answer(slot, q)
	}
	h.flush(false)
}

// reattach returns to a session, half of the time without closing its older
// connection first: the server must then do it. (If the client does, it waits
// until the server has noticed. Otherwise the real one may take the newer
// connection for the one that closed, forget it, and not close it later.)
func (h *history) reattach(slot int) {
	old := h.clients[slot]
	steal := h.rng.IntN(2) == 0
	if !steal {
		old.net.(*net.TCPConn).CloseWrite()
		h.note("client %d: left, and the server closes too: %v", slot, old.closed())
		old.net.Close()
	}
	h.clients[slot] = old.reattach(h.addr)
	if steal {
		h.note("client %d: stolen, the older connection closed: %v", slot, old.closed())
		old.net.Close()
	}
	h.note("client %d: back as %s, same password: %v", slot, h.names[h.clients[slot].session],
		string(old.password) == string(h.clients[slot].password))
	h.flush(false)
}

func (h *history) closeSession(slot int) {
	c := h.clients[slot]
	xid := c.send(OpCloseSession, nil)
	r, err := c.read()
	h.note("client %d: close session: xid %v, %d at %s, %v%s", slot, r.xid == xid, r.code, zxidToken(r.zxid), err, c.pending(true))
	h.note("client %d: then closed: %v", slot, c.closed())
	c.net.Close()
	h.clients[slot] = h.dial(longSession)
	h.flush(true)
}

// expireSession begins a session with ephemeral nodes and lets it fall silent.
func (h *history) expireSession() {
	c := h.dial(shortSession)
	slot := len(h.clients)
	h.clients = append(h.clients, c)
	mine := h.base + "/mine"
	h.do(slot, h.request(OpCreate, mine, createBody(mine, "", flagEphemeral)))
	h.do(slot, h.request(OpCreate, "ephemeral", createBody(h.node(), "", flagEphemeralSequential)))
	watched := h.do(0, h.request(OpExists, mine, watchBody(mine, true))) == errOK
	h.clients = h.clients[:slot]
	h.note("silent until closed: %v", c.closed())
	c.net.Close()
	if watched {
		// The real server may close the connection a little before the session
		// ends: it keeps a second clock for connections.
		h.clients[0].awaitEvent("deleted " + mine)
	}
	h.flush(true)
	again := dialTCP(h.t, h.addr)
	err := again.connect(connectRequest{timeout: c.timeout, session: c.session, password: c.password})
	h.note("back: session %d, timeout %d, %v, then closed: %v", again.session, again.timeout, err, again.closed())
	again.net.Close()
}

func (h *history) wrongPassword(slot int) {
	old := h.clients[slot]
	thief := dialTCP(h.t, h.addr)
	err := thief.connect(connectRequest{timeout: 5000, session: old.session, password: []byte("0123456789abcdef")})
	h.note("wrong password: session %d, timeout %d, password %x, %v", thief.session, thief.timeout, thief.password, err)
	h.note("then closed: %v, and the owner's connection too: %v", thief.closed(), old.closed())
	thief.net.Close()
	old.net.Close()
	h.clients[slot] = old.reattach(h.addr)
	h.flush(false)
}

func (h *history) aheadOfServer() {
	c := dialTCP(h.t, h.addr)
	err := c.connect(connectRequest{timeout: 5000, zxidSeen: 1<<63 - 1})
	h.note("ahead of the server: refused without a word: %v", err != nil)
	c.net.Close()
}

func (h *history) unknownOpcode(slot int) {
	c := h.clients[slot]
	c.send(Opcode(50+h.rng.IntN(40)), nil)
	r, err := c.read()
	h.note("client %d: unknown opcode: %d at %d, %v, then closed: %v", slot, r.code, r.zxid, err, c.closed())
	c.net.Close()
	h.clients[slot] = c.reattach(h.addr)
	h.flush(false)
}

// survey notes everything that is left of the history's tree.
func (h *history) survey() {
	for at := []string{h.base}; len(at) > 0; at = at[1:] {
		h.do(0, h.request(OpGetData, at[0], watchBody(at[0], false)))
		h.do(0, h.request(OpGetACL, at[0], pathBody(at[0])))
		r := h.clients[0].call(OpGetChildren, watchBody(at[0], false))
		if r.code != errOK {
			continue
		}
		for _, name := range sortedStrings(&r.body) {
			at = append(at, at[0]+"/"+name)
		}
	}
}

func zxidToken(zxid int64) string { return fmt.Sprintf("zxid<%d>", zxid) }

var zxidPattern = regexp.MustCompile(`zxid<(-?\d+)>`)

// rankZxids replaces the zxids by their rank among all that appear, so that
// two servers with other zxids can be compared. 0 and -1 stand for themselves.
func rankZxids(trace []string) []string {
	all := strings.Join(trace, "\n")
	var seen []int64
	for _, m := range zxidPattern.FindAllStringSubmatch(all, -1) {
		zxid, _ := strconv.ParseInt(m[1], 10, 64)
		seen = append(seen, zxid)
	}
	slices.Sort(seen)
	seen = slices.Compact(seen)
	return strings.Split(zxidPattern.ReplaceAllStringFunc(all, func(token string) string {
		zxid, _ := strconv.ParseInt(zxidPattern.FindStringSubmatch(token)[1], 10, 64)
		if zxid <= 0 {
			return fmt.Sprintf("zxid %d", zxid)
		}
		rank, _ := slices.BinarySearch(seen, zxid)
		return fmt.Sprintf("zxid #%d", rank)
	}), "\n")
}
