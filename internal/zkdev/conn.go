package zkdev

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"time"
)

// conn is one client connection. Its reader goroutine owns it: it serves the
// requests one after the other and takes the connection off the server when it
// ends. A second goroutine writes what the outbox holds.
type conn struct {
	server *Server
	net    net.Conn
	out    *outbox
	gone   chan struct{} // closed when the connection is dropped

	// Guarded by the server's mutex.
	dropped    bool
	session    *session
	identities []identity
	received   int64 // packets
	sent       int64
}

// request is one request while it is served.
type request struct {
	conn    *conn
	session *session
	xid     int32
	op      Opcode
	body    decoder
	reply   encoder  // the body of the reply; dropped if there is an error
	partial bool     // send the reply's body in spite of an error
	named   []string // the paths, once a hook has asked for them
}

// serve is the reader: it runs until the connection ends.
func (c *conn) serve() {
	defer c.server.goroutines.Done()
	defer func() {
		c.server.mu.Lock()
		c.server.drop(c)
		c.server.mu.Unlock()
	}()
	c.net.SetReadDeadline(time.Now().Add(c.server.cfg.HandshakeTimeout))
	length, err := readLength(c.net)
	if err != nil {
		return
	}
	if word := fourLetterWord(length); word != "" {
		c.answerFourLetterWord(word)
		return
	}
	frame, err := readFrame(c.net, length)
	if err != nil {
		return
	}
	c.server.goroutines.Add(1) // the reader has not ended, so Close still waits
	go c.writeLoop()
	if !c.connect(frame) {
		<-c.gone // the writer closes it once the refusal is sent
		return
	}
	c.net.SetReadDeadline(time.Time{})
	for in := bufio.NewReader(c.net); c.serveNext(in); {
	}
}

func readLength(r io.Reader) (int32, error) {
	var length [4]byte
	_, err := io.ReadFull(r, length[:])
	return int32(binary.BigEndian.Uint32(length[:])), err
}

// serveNext reads and serves one request. It reports false when the connection
// is to be read no more.
func (c *conn) serveNext(in *bufio.Reader) bool {
	if !c.out.waitRoom() {
		<-c.gone
		return false
	}
	length, err := readLength(in)
	if err != nil {
		return false
	}
	frame, err := readFrame(in, length)
	if err != nil {
		return false
	}
	r := &request{conn: c, body: decoder{buf: frame}}
	r.xid, r.op = r.body.int32(), Opcode(r.body.int32())
	if r.body.err != nil {
		return false
	}
	return c.server.serve(r)
}

// connect serves the first frame: a new session, or the return to one. It
// reports false when the connection is to be closed, after what is in the
// outbox has been sent.
func (c *conn) connect(frame []byte) bool {
	d := decoder{buf: frame}
	d.int32() // the protocol's version, always 0
	zxidSeen, timeout, id, password := d.int64(), d.int32(), d.int64(), d.buffer()
	if d.err != nil {
		c.finish()
		return false
	}
	// Clients before 3.4 do not send the read-only flag and do not expect one.
	knowsReadOnly := len(d.buf) > 0

	s := c.server
	if !s.lockThawed(c) {
		return false
	}
	defer s.mu.Unlock()
	if zxidSeen > s.zxid {
		s.cfg.Logf("zkdev: client %v has seen zxid 0x%x, ahead of 0x%x", c.net.RemoteAddr(), zxidSeen, s.zxid)
		c.finish()
		return false
	}
	negotiated := s.clamp(time.Duration(timeout) * time.Millisecond)
	sess := s.connectSession(c, id, password, negotiated)
	c.received++
	c.sent++
	c.out.write(false, func(e *encoder) {
		e.frame(func() {
			e.connectResponse(sess, negotiated)
			if knowsReadOnly {
				e.bool(false)
			}
		})
	})
	if sess == nil {
		c.finish()
	}
	return sess != nil
}

// connectSession returns nil if the session is unknown or the password wrong.
func (s *Server) connectSession(c *conn, id int64, password []byte, timeout time.Duration) *session {
	if id == 0 {
		return s.newSession(c, timeout)
	}
	sess := s.sessions[id]
	if sess == nil {
		return nil
	}
	// The older connection goes even if the password turns out wrong, as on
	// the real server.
	if old := sess.conn; old != nil {
		s.drop(old)
	}
	if !sess.knows(password) {
		return nil
	}
	c.attach(sess, timeout)
	s.touch(c)
	return sess
}

func (e *encoder) connectResponse(sess *session, timeout time.Duration) {
	e.int32(0)
	if sess == nil {
		e.int32(0)
		e.int64(0)
		e.buffer(make([]byte, 16))
		return
	}
	e.int32(int32(timeout.Milliseconds()))
	e.int64(sess.id)
	e.buffer(sess.password)
}

// notify queues an event. The caller holds the server's lock. A client that
// lets too many pile up is cut off: it would see them missing otherwise.
func (c *conn) notify(event eventType, path string) {
	if c.dropped {
		return
	}
	c.sent++
	unsent := c.out.write(true, func(e *encoder) {
		e.frame(func() {
			e.replyHeader(xidNotification, -1, errOK)
			e.int32(int32(event))
			e.int32(stateConnected)
			e.string(path)
		})
	})
	if unsent > c.server.cfg.MaxUnsent {
		c.server.cfg.Logf("zkdev: client %v does not read: %d bytes unsent", c.net.RemoteAddr(), unsent)
		c.server.drop(c)
	}
}

// finish closes the connection once what it was told so far is sent. A client
// that does not read has a while to begin.
func (c *conn) finish() {
	c.out.finishThenClose()
	c.net.SetWriteDeadline(time.Now().Add(flushTimeout))
}

// writeLoop sends what the outbox holds until the connection is dropped.
func (c *conn) writeLoop() {
	defer c.server.goroutines.Done()
	var spare []byte
	for {
		buf, last, ok := c.out.next(spare)
		if !ok || !c.server.thawed(c) {
			return
		}
		if last { // a freeze may have used up what finish allowed
			c.net.SetWriteDeadline(time.Now().Add(flushTimeout))
		}
		_, err := c.net.Write(buf)
		if err != nil || last {
			c.server.mu.Lock()
			c.server.drop(c)
			c.server.mu.Unlock()
			return
		}
		// A large reply should not be paid for as long as the connection lives.
		if spare = buf; cap(spare) > 2*resumeBelow {
			spare = nil
		}
	}
}
