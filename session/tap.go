package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

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
	opSetAuth          = 100
	longSetWatches     = 64 << 10 // the library goes on in another packet at twice that
)

// tap is one TCP connection with wire reading along. The library writes one whole
// packet a call and reads length and body in turn, from one goroutine each.
//
// It also keeps the zxids in the library's stead, which reads one in one goroutine while
// it writes it in another when it reconnects with watches set: answers come to the library
// without a zxid, and its requests get ours. There are two. Connecting asks for a server
// that is not behind the newest that any answer had. Setting watches again asks for what
// happened since the newest up to which events were told: the library does that some time
// after it has connected, and an answer that comes first must not pass for an event that
// the last connection took with it.
type tap struct {
	net.Conn
	wire *wire

	in       []byte         // what was read of the packet under way, as far as we need it
	inLeft   int            // its bytes not yet read
	asked    bool           // the connect request was sent
	attached atomic.Bool    // and granted
	since    int64          // what wire had told when this was connected
	whole    bool           // events come before the answers that tell of later; guarded by wire.mu
	long     bool           // there are more setWatches requests than one; guarded by wire.mu
	setting  map[int32]bool // those that are not answered, by xid; guarded by wire.mu
	closed   bool           // by the library; guarded by wire.mu
	sent     []sending      // that are not answered, oldest first; guarded by wire.mu

	buffered   *bufio.Reader // the library reads a packet's length and its body one by one
	readUntil  time.Time     // the deadline that is set; of the library's reading goroutine
	writeUntil time.Time     // of its writing one
}

// sending is a request on its way.
type sending struct {
	xid int32
	at  time.Duration
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
		newest, told := t.wire.zxids()
		t.since = told
		return t.Conn.Write(withZxid(packet, connectRequestZxid, newest))
	}
	xid := int32(binary.BigEndian.Uint32(packet[4:]))
	t.note(xid)
	switch binary.BigEndian.Uint32(packet[4+opcodeAt:]) {
	case opSetWatches:
		packet = withZxid(packet, setWatchesZxid, t.since)
		t.wire.mu.Lock()
		t.setting[xid] = true
		t.long = t.long || len(packet) > longSetWatches
		t.wire.mu.Unlock()
	case opSetAuth:
		// Told of a write that failed, the library answers this request twice, with room
		// for one, and is stuck for good.
		if _, err := t.Conn.Write(packet); err != nil {
			t.Conn.Close()
		}
		return len(packet), nil
	}
	return t.Conn.Write(packet)
}

func (w *wire) zxids() (newest, told int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.zxid, w.told
}

// withZxid is packet with a zxid at an offset of its body.
func withZxid(packet []byte, at int, zxid int64) []byte {
	packet = bytes.Clone(packet)
	binary.BigEndian.PutUint64(packet[4+at:], uint64(zxid))
	return packet
}

func (t *tap) note(xid int32) {
	t.wire.mu.Lock()
	defer t.wire.mu.Unlock()
	t.sent = append(t.sent, sending{xid, t.wire.now()})
}

// Read passes bytes on, and looks at each packet's beginning. An error of its own
// breaks the connection.
func (t *tap) Read(p []byte) (int, error) {
	if t.buffered == nil {
		t.buffered = bufio.NewReaderSize(t.Conn, 16<<10)
	}
	n, err := t.buffered.Read(p)
	if err != nil && !t.attached.Load() {
		t.wire.late(err)
	}
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
				if t.attached.Load() {
					return nil, errTooLong
				}
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
			if at+i >= answerZxid && at+i < answerZxid+8 && t.attached.Load() {
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
	if !t.attached.Load() {
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
		t.attached.Store(true)
		t.whole = w.count == 0 // no watch can have been set before
		w.count++
		w.slow = 0
		t.Conn.SetDeadline(time.Time{})
		w.hear(t, 0)
		return false
	}
	if len(body) < answerHeader {
		return false
	}
	if xid := int32(binary.BigEndian.Uint32(body)); xid != xidNotification {
		w.hear(t, xid)
		w.zxid = max(w.zxid, int64(binary.BigEndian.Uint64(body[answerZxid:])))
		if t.setting[xid] { // what happened meanwhile was told before this answer
			delete(t.setting, xid)
			t.whole = len(t.setting) == 0 && !t.long
		}
		w.served()
		if t.whole {
			w.told = w.zxid
		}
	}
	return false
}

// Close ends the connection; the session may go on with another.
func (t *tap) Close() error {
	t.wire.mu.Lock()
	t.closed = true // and still attached: an answer may be on its way through Read
	t.wire.mu.Unlock()
	return t.Conn.Close()
}

// hear moves the deadline: the request that xid answers had reached a server.
func (w *wire) hear(t *tap, xid int32) {
	for i, s := range t.sent { // nearly always the first: answers come in order
		if s.xid == xid {
			w.heard = max(w.heard, s.at)
			t.sent = slices.Delete(t.sent, i, i+1)
			return
		}
	}
}

// Deadlines that the library sets during the handshake are longer than ours, and
// it lifts them before the body is read. Later it sets one before each packet and lifts it
// afterwards. To set one costs as much as all else that we do for a request, so we leave
// the last one where it is, unless it is much earlier than what is asked for. It never
// passes while nothing is wrong: the library pings, and is answered, twice in that time.

func (t *tap) SetReadDeadline(d time.Time) error {
	if !t.attached.Load() || !t.wire.moves(&t.readUntil, d) {
		return nil
	}
	return t.Conn.SetReadDeadline(d)
}

func (t *tap) SetWriteDeadline(d time.Time) error {
	if !t.attached.Load() || !t.wire.moves(&t.writeUntil, d) {
		return nil
	}
	return t.Conn.SetWriteDeadline(d)
}

// moves tells whether a deadline has to be moved to d, and notes it. None at all, the zero
// time, is long before any.
func (w *wire) moves(until *time.Time, d time.Time) bool {
	if d.Sub(*until) < w.timeout()/32 {
		return false
	}
	*until = d
	return true
}
