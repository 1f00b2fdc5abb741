package zkdev

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// answerTimeout is how long a server may take to answer a test.
const answerTimeout = 20 * time.Second

// rawClient speaks the protocol without a client library: it sends exactly the
// bytes that a test wants, and sees every frame in the order it came.
type rawClient struct {
	t        testing.TB
	net      net.Conn
	in       *bufio.Reader
	session  int64
	password []byte
	timeout  int32 // negotiated, ms
	lastXid  int32
	events   []string // received so far, oldest first
}

// response is one frame that is not an event.
type response struct {
	xid  int32
	zxid int64
	code errCode
	body decoder
}

type connectRequest struct {
	zxidSeen   int64
	timeout    int32 // ms
	session    int64
	password   []byte
	noReadOnly bool // leave the flag out, like clients before 3.4
}

func dialTCP(t testing.TB, addr string) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &rawClient{t: t, net: nc, in: bufio.NewReader(nc)}
	t.Cleanup(func() {
		if addr == real.addr {
			c.leave()
		}
		nc.Close()
	})
	return c
}

// leave closes the session if it can: one that expired later, during another
// test, would show there as a transaction too many.
func (c *rawClient) leave() {
	var e encoder
	e.frame(func() { e.int32(0); e.int32(int32(OpCloseSession)) })
	c.net.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.net.Write(e.buf); c.session != 0 && err == nil {
		io.Copy(io.Discard, c.in)
	}
}

// dialRaw opens a new session.
func dialRaw(t testing.TB, addr string, timeout time.Duration) *rawClient {
	t.Helper()
	c := dialTCP(t, addr)
	if err := c.connect(connectRequest{timeout: int32(timeout.Milliseconds())}); err != nil {
		t.Fatalf("connect: %v", err)
	}
	return c
}

// reattach returns to the session of another connection.
func (c *rawClient) reattach(addr string) *rawClient {
	c.t.Helper()
	again := dialTCP(c.t, addr)
	if err := again.connect(connectRequest{timeout: c.timeout, session: c.session, password: c.password}); err != nil {
		c.t.Fatalf("reattach: %v", err)
	}
	return again
}

// connect returns an error if the server closes the connection; a refused
// session shows as session 0.
func (c *rawClient) connect(q connectRequest) error {
	if q.password == nil {
		q.password = make([]byte, 16)
	}
	c.sendFrame(func(e *encoder) {
		e.int32(0)
		e.int64(q.zxidSeen)
		e.int32(q.timeout)
		e.int64(q.session)
		e.buffer(q.password)
		if !q.noReadOnly {
			e.bool(false)
		}
	})
	frame, err := c.readFrame()
	if err != nil {
		return err
	}
	d := decoder{buf: frame}
	if v := d.int32(); v != 0 {
		return fmt.Errorf("protocol version %d", v)
	}
	c.timeout, c.session, c.password = d.int32(), d.int64(), d.buffer()
	if d.err != nil {
		return d.err
	}
	if len(d.buf) != map[bool]int{false: 1, true: 0}[q.noReadOnly] {
		return fmt.Errorf("%d bytes after the response", len(d.buf))
	}
	return nil
}

func (c *rawClient) sendBytes(b []byte) {
	c.t.Helper()
	c.net.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, err := c.net.Write(b); err != nil && !isClosed(err) {
		c.t.Fatal(err)
	}
}

func (c *rawClient) sendFrame(put func(*encoder)) {
	c.t.Helper()
	var e encoder
	e.frame(func() { put(&e) })
	c.sendBytes(e.buf)
}

// send sends a request without waiting and returns its xid.
func (c *rawClient) send(op Opcode, put func(*encoder)) int32 {
	c.t.Helper()
	c.lastXid++
	c.sendAs(c.lastXid, op, put)
	return c.lastXid
}

func (c *rawClient) sendAs(xid int32, op Opcode, put func(*encoder)) {
	c.t.Helper()
	c.sendFrame(func(e *encoder) {
		e.int32(xid)
		e.int32(int32(op))
		if put != nil {
			put(e)
		}
	})
}

func (c *rawClient) readFrame() ([]byte, error) {
	c.net.SetReadDeadline(time.Now().Add(answerTimeout))
	n, err := readLength(c.in)
	if err != nil {
		return nil, err
	}
	frame := make([]byte, n)
	_, err = io.ReadFull(c.in, frame)
	return frame, err
}

// read returns the next frame that is not an event; events on the way to it
// are kept in c.events.
func (c *rawClient) read() (response, error) {
	for {
		r, event, err := c.readAny()
		if err != nil || event == "" {
			return r, err
		}
		c.events = append(c.events, event)
	}
}

// readAny returns the next frame, which is a reply or an event.
func (c *rawClient) readAny() (r response, event string, err error) {
	frame, err := c.readFrame()
	if err != nil {
		return r, "", err
	}
	d := decoder{buf: frame}
	r = response{xid: d.int32(), zxid: d.int64(), code: errCode(d.int32())}
	r.body = d
	if d.err != nil {
		c.t.Fatalf("a reply of %d bytes", len(frame))
	}
	if r.xid != xidNotification {
		return r, "", nil
	}
	kind, state, path := d.int32(), d.int32(), d.string()
	if r.zxid != -1 || r.code != errOK || state != stateConnected || d.err != nil || len(d.buf) > 0 {
		c.t.Fatalf("a malformed event: %x", frame)
	}
	return r, eventName(eventType(kind)) + " " + path, nil
}

// awaitEvent waits for an event when no reply is due, and keeps it and those
// before it in c.events.
func (c *rawClient) awaitEvent(want string) {
	c.t.Helper()
	for !slices.Contains(c.events, want) {
		_, event, err := c.readAny()
		if err != nil || event == "" {
			c.t.Fatalf("instead of the event %q: %q, %v", want, event, err)
		}
		c.events = append(c.events, event)
	}
}

// call sends a request and returns its reply.
func (c *rawClient) call(op Opcode, put func(*encoder)) response {
	c.t.Helper()
	xid := c.send(op, put)
	r, err := c.read()
	if err != nil {
		c.t.Fatalf("%v: %v", op, err)
	}
	if op != OpPing && r.xid != xid {
		c.t.Fatalf("%v: reply %d to request %d", op, r.xid, xid)
	}
	return r
}

// takeEvents waits for a ping's reply, by when all events of the past have
// arrived, and returns them.
func (c *rawClient) takeEvents() string {
	c.t.Helper()
	c.call(OpPing, nil)
	events := strings.Join(c.events, ", ")
	c.events = nil
	return events
}

// closed reports whether the server ends the connection, as its next word.
func (c *rawClient) closed() bool {
	c.t.Helper()
	_, err := c.read()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("session 0x%x: the connection is still open", c.session)
	}
	return err != nil
}

func isClosed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

func eventName(kind eventType) string {
	switch kind {
	case eventCreated:
		return "created"
	case eventDeleted:
		return "deleted"
	case eventDataChanged:
		return "changed"
	case eventChildrenChanged:
		return "children"
	}
	return fmt.Sprintf("event %d", kind)
}
