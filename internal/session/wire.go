package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire stands between the library and its TCP connections. It reads along to
// learn what the library keeps to itself (session ID, granted timeout, which
// requests were answered), bounds the handshake, and holds the session to one:
// a request for a second session never leaves.
type wire struct {
	ctx       context.Context // the session's
	tls       *tls.Config
	handshake time.Duration // bound of TCP, TLS and ZooKeeper's connect, each
	expire    func(why string)
	now       func() time.Duration // counts suspend; injected by tests

	mu      sync.Mutex
	id      int64         // 0 until a session was granted
	granted time.Duration // its timeout
	heard   time.Duration // when the last answered request was sent, by now
	zxid    int64         // the newest that an answer carried
	failure error         // why the last attempt failed
	open    *tap          // the connection in use
	count   uint64        // connections on which the session was granted
}

// margin is how much earlier than the server we count a session as over.
func margin(timeout time.Duration) time.Duration { return timeout / 10 }

var (
	errOneSession = errors.New("the session is over, another is not asked for")
	errPacket     = errors.New("what answers there does not speak ZooKeeper's protocol")
)

func newWire(ctx context.Context, opts Options, expire func(string)) *wire {
	return &wire{
		ctx: ctx, tls: opts.TLS, expire: expire, now: bootTime,
		// Three servers must fit into the time after which the first is expired.
		handshake: min(opts.ConnectTimeout, opts.Timeout) / 3,
	}
}

// bootTime is CLOCK_BOOTTIME: unlike Go's monotonic clock it goes on while the
// machine is suspended, and like it no one can set it.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}

// dial is the library's dialer. Its own timeout is ignored: ours also covers TLS.
func (w *wire) dial(network, address string, _ time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(w.ctx, w.handshake)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil && w.tls != nil {
		conn, err = w.secure(ctx, conn, address)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failure = err
		return nil, err
	}
	if w.ctx.Err() != nil {
		conn.Close()
		return nil, errOneSession
	}
	w.open = &tap{Conn: conn, wire: w, sent: map[int32][]time.Duration{}}
	// A server that accepts and says nothing would hold the library for many
	// times the session timeout.
	conn.SetDeadline(time.Now().Add(w.handshake))
	return w.open, nil
}

func (w *wire) secure(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	config := w.tls.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// shut cuts the connection, so that whatever waits on it stops waiting.
func (w *wire) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open != nil {
		w.open.Conn.Close()
	}
}

// failed notes why no session was granted, for Dial to tell.
func (w *wire) failed(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = why
}

func (w *wire) sessionID() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.id
}

func (w *wire) timeout() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.granted
}

func (w *wire) connections() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func (w *wire) connected() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open != nil && w.open.attached
}

func (w *wire) lastFailure() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		return "connected, but no session was granted"
	}
	return w.failure.Error()
}

// remaining is how long the session surely lasts if nothing is answered any more.
func (w *wire) remaining() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard + w.granted - margin(w.granted) - w.now()
}

// Packets are a 4-byte length and a body. A request's body begins with its xid,
// an answer's too; the first packet of a connection is the connect request, whose
// session ID lies after version (4), last zxid (8) and timeout (4), and the first
// answer holds version (4), timeout (4) and session ID (8). Later, a request goes on
// with its opcode and an answer with the zxid. (ZooKeeper's zookeeper.jute.)
const (
	connectRequestZxid = 4
	connectRequestID   = 4 + 8 + 4
	connectAnswerTime  = 4
	connectAnswerID    = 4 + 4
	opcodeAt           = 4
	setWatchesZxid     = 4 + 4
	answerZxid         = 4
	answerHeader       = 4 + 8 + 4
	xidNotification    = -1
	opSetWatches       = 101
)

// tap is one TCP connection with wire reading along. The library writes one whole
// packet a call and reads length and body in turn, from one goroutine each.
//
// It also keeps the newest zxid in the library's stead, which reads it in one goroutine
// while it writes it in another when it reconnects with watches set: answers come to
// the library without a zxid, and its requests get ours.
type tap struct {
	net.Conn
	wire *wire

	in       []byte                    // what was read of the packet under way, as far as we need it
	inLeft   int                       // its bytes not yet read
	asked    bool                      // the connect request was sent
	attached bool                      // and granted; guarded by wire.mu
	sent     map[int32][]time.Duration // by xid, oldest first; guarded by wire.mu
}

// Write passes one packet on, and remembers when.
func (t *tap) Write(packet []byte) (int, error) {
	if !t.asked {
		t.asked = true
		id := binary.BigEndian.Uint64(packet[4+connectRequestID:])
		if have := t.wire.sessionID(); have != 0 && int64(id) != have {
			t.wire.expire("ZooKeeper gave the session up")
			return 0, errOneSession
		}
		t.note(0) // the connect answer is matched as xid 0, which the library never uses
		return t.Conn.Write(t.wire.withZxid(packet, connectRequestZxid))
	}
	t.note(int32(binary.BigEndian.Uint32(packet[4:])))
	if binary.BigEndian.Uint32(packet[4+opcodeAt:]) == opSetWatches {
		packet = t.wire.withZxid(packet, setWatchesZxid)
	}
	return t.Conn.Write(packet)
}

// withZxid is packet with the newest zxid at an offset of its body.
func (w *wire) withZxid(packet []byte, at int) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	packet = bytes.Clone(packet)
	binary.BigEndian.PutUint64(packet[4+at:], uint64(w.zxid))
	return packet
}

func (t *tap) note(xid int32) {
	t.wire.mu.Lock()
	defer t.wire.mu.Unlock()
	t.sent[xid] = append(t.sent[xid], t.wire.now())
}

// Read passes bytes on, and looks at each packet's beginning. An error of its own
// breaks the connection.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		var wrong error
		if rest, wrong = t.follow(rest); wrong != nil {
			t.wire.failed(wrong)
			return 0, wrong
		}
	}
	return n, err
}

// follow takes the next bytes of the stream and returns what it did not take.
func (t *tap) follow(b []byte) ([]byte, error) {
	if t.inLeft == 0 { // before a packet's body: collect its length
		take := min(4-len(t.in), len(b))
		t.in = append(t.in, b[:take]...)
		if len(t.in) == 4 {
			t.inLeft = int(binary.BigEndian.Uint32(t.in))
			t.in = t.in[:0]
			if t.inLeft > maxPacket { // the library would make room for it first
				return nil, errPacket
			}
		}
		return b[take:], nil
	}
	take := min(t.inLeft, len(b))
	if room := answerHeader - len(t.in); room > 0 {
		head := b[:min(room, take)]
		at := len(t.in)
		t.in = append(t.in, head...)
		for i := range head {
			if at+i >= answerZxid && at+i < answerZxid+8 && t.isAttached() {
				head[i] = 0
			}
		}
	}
	t.inLeft -= take
	if t.inLeft > 0 {
		return b[take:], nil
	}
	another := t.answered(t.in)
	t.in = t.in[:0]
	if another {
		t.wire.expire("ZooKeeper answered with another session")
		return nil, errOneSession
	}
	return b[take:], nil
}

// answered learns from the beginning of a complete answer; true says that it is for
// another session than ours.
func (t *tap) answered(body []byte) (another bool) {
	w := t.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.attached {
		if len(body) < connectAnswerID+8 {
			return false
		}
		id := int64(binary.BigEndian.Uint64(body[connectAnswerID:]))
		if id == 0 {
			return false // refused; the library reports StateExpired
		}
		if w.id != 0 && id != w.id {
			return true
		}
		w.id = id
		w.granted = time.Duration(binary.BigEndian.Uint32(body[connectAnswerTime:])) * time.Millisecond
		t.attached = true
		w.count++
		t.Conn.SetDeadline(time.Time{})
		w.hear(t.sent, 0)
		return false
	}
	if len(body) < answerHeader {
		return false
	}
	if xid := int32(binary.BigEndian.Uint32(body)); xid != xidNotification {
		w.hear(t.sent, xid)
		w.zxid = max(w.zxid, int64(binary.BigEndian.Uint64(body[answerZxid:])))
	}
	return false
}

// Close ends the connection; the session may go on with another.
func (t *tap) Close() error {
	t.wire.mu.Lock()
	t.attached = false
	t.wire.mu.Unlock()
	return t.Conn.Close()
}

// hear moves the deadline: the request that xid answers had reached a server.
func (w *wire) hear(sent map[int32][]time.Duration, xid int32) {
	times := sent[xid]
	if len(times) == 0 {
		return
	}
	w.heard = max(w.heard, times[0])
	if len(times) == 1 {
		delete(sent, xid)
	} else {
		sent[xid] = times[1:]
	}
}

// Deadlines that the library sets during the handshake are longer than ours, and
// it lifts them before the body is read.

func (t *tap) SetReadDeadline(d time.Time) error {
	if !t.isAttached() {
		return nil
	}
	return t.Conn.SetReadDeadline(d)
}

func (t *tap) SetWriteDeadline(d time.Time) error {
	if !t.isAttached() {
		return nil
	}
	return t.Conn.SetWriteDeadline(d)
}

func (t *tap) isAttached() bool {
	t.wire.mu.Lock()
	defer t.wire.mu.Unlock()
	return t.attached
}
