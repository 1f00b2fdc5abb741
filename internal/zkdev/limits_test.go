package zkdev

import (
	"encoding/binary"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

func lengthPrefix(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func TestFrameOutOfRangeClosesTheConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		for _, length := range []uint32{maxFrame + 1, 1 << 30, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			c := dialRaw(t, addr, longSession)
			c.sendBytes(lengthPrefix(length))
			if !c.closed() {
				t.Errorf("length %#x: the connection goes on", length)
			}
			first := dialTCP(t, addr) // as the very first frame
			first.sendBytes(lengthPrefix(length))
			if !first.closed() {
				t.Errorf("first length %#x: the connection goes on", length)
			}
		}
	})
}

func TestLargestFrameIsServed(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		var e encoder
		setDataBody(base, "", -1)(&e)
		data := strings.Repeat("x", maxFrame-8-len(e.buf))
		r := c.call(OpSetData, setDataBody(base, data, -1))
		if st := r.body.stat(); r.code != errOK || int(st.dataLength) != len(data) {
			t.Fatalf("%d, %+v", r.code, st)
		}
		r = c.call(OpGetData, watchBody(base, false))
		if got := r.body.buffer(); string(got) != data {
			t.Errorf("%d bytes came back of %d", len(got), len(data))
		}
	})
}

func TestMalformedRequests(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		for name, q := range map[string]struct {
			op   Opcode
			body func(*encoder)
		}{
			"no body":         {OpCreate, nil},
			"null path":       {OpExists, func(e *encoder) { e.int32(-1); e.bool(false) }},
			"negative length": {OpGetData, func(e *encoder) { e.int32(-7); e.bool(false) }},
			"huge string":     {OpGetData, func(e *encoder) { e.int32(1<<31 - 1); e.bool(false) }},
			"huge vector":     {OpCreate, func(e *encoder) { e.string("/x"); e.buffer(nil); e.int32(1<<31 - 1) }},
			"huge watches":    {OpSetWatches, func(e *encoder) { e.int64(0); e.int32(1 << 30) }},
			"endless multi":   {OpMulti, func(e *encoder) { e.multiHeader(OpCheck, false, -1); versionBody("/", -1)(e) }},
			"mixed multi": {OpMulti, multiBody(subOp{OpCheck, versionBody("/", -1)},
				subOp{OpGetData, watchBody("/", false)})},
			"multi in a multi": {OpMulti, multiBody(subOp{OpMulti, multiBody()})},
		} {
			if r := c.call(q.op, q.body); r.code != errMarshalling || len(r.body.buf) > 0 {
				t.Errorf("%s: %d and %d bytes", name, r.code, len(r.body.buf))
			}
		}
		for name, frame := range map[string][]byte{"empty": {}, "half a header": {0, 0, 0, 1, 0}} {
			c := dialRaw(t, addr, longSession)
			c.sendBytes(append(lengthPrefix(uint32(len(frame))), frame...))
			if !c.closed() {
				t.Errorf("%s: the connection goes on", name)
			}
		}
		short := dialTCP(t, addr)
		short.sendBytes(append(lengthPrefix(6), "no good"[:6]...))
		if !short.closed() {
			t.Error("a short connect request: the connection goes on")
		}
	})
}

func TestUnknownOpcodesAreUnimplementedAndClose(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		for _, op := range []Opcode{OpNotify, OpError, 10, 23, 99, 108, 1 << 30} {
			c := dialRaw(t, addr, longSession)
			r := c.call(op, nil)
			if r.code != errUnimplemented || r.zxid != -1 || !c.closed() {
				t.Errorf("%v: %d at %x", op, r.code, r.zxid)
			}
		}
	})
}

func TestUnknownAuthenticationClosesTheConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		if r := c.call(OpAuth, authBody("kerberos", "x")); r.code != errAuthFailed || !c.closed() {
			t.Errorf("%d", r.code)
		}
	})
}

func TestTruncatedFramesLeaveTheServerWell(t *testing.T) {
	s := RunT(t)
	var whole encoder
	whole.frame(func() { whole.int32(1); whole.int32(int32(OpCreate)); createBody("/cut", "data", 0)(&whole) })
	for n := range len(whole.buf) {
		c := dialRaw(t, s.Addr(), longSession)
		c.sendBytes(whole.buf[:n])
		c.net.(*net.TCPConn).CloseWrite()
		if !c.closed() {
			t.Fatalf("after %d bytes the connection goes on", n)
		}
	}
	c := dialRaw(t, s.Addr(), longSession)
	if _, code := c.exists("/cut"); code != errNoNode {
		t.Errorf("a truncated create took effect: %d", code)
	}
}

// heapGrowth runs f and returns by how many bytes the live heap grew.
func heapGrowth(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.GC() // a sync.Pool outlives the first
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// awaitConns waits until the server has served so many connections in all
// their silence: there is nothing they would say.
func awaitConns(t *testing.T, s *Server, ok func(n int) bool) {
	t.Helper()
	for deadline := time.Now().Add(answerTimeout); !ok(s.Stats().Connections); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections", s.Stats().Connections)
		}
	}
}

func TestThousandSilentConnections(t *testing.T) {
	const count = 1000
	s := RunT(t, func(c *Config) { c.HandshakeTimeout = time.Hour })
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	grown := heapGrowth(func() {
		for i := range count {
			nc, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, nc)
			if i%2 == 0 {
				nc.Write(lengthPrefix(maxFrame)) // announced, and never sent
			}
		}
		awaitConns(t, s, func(n int) bool { return n == count })
	})
	if limit := int64(count * (readStep + 16<<10)); grown > limit {
		t.Errorf("the heap grew by %d bytes, more than %d", grown, limit)
	}
	c := dialRaw(t, s.Addr(), longSession) // others are served meanwhile
	newBase(t, c)
}

func TestSilentConnectionIsClosed(t *testing.T) {
	const timeout = 200 * time.Millisecond
	s := RunT(t, func(c *Config) { c.HandshakeTimeout = timeout })
	nothing, half := dialTCP(t, s.Addr()), dialTCP(t, s.Addr())
	half.sendBytes(append(lengthPrefix(44), 0, 0))
	if !nothing.closed() || !half.closed() {
		t.Error("it goes on")
	}
	awaitConns(t, s, func(n int) bool { return n == 0 })
	// Once there is a session, silence is the session's matter.
	c := dialTCP(t, s.Addr())
	for c.connect(connectRequest{timeout: 30_000}) != nil { // we were too slow ourselves
		c = dialTCP(t, s.Addr())
	}
	c.silentFor(2 * timeout)
	c.call(OpPing, nil)
}

func TestTooManyConnectionsAreTurnedAway(t *testing.T) {
	s := RunT(t, func(c *Config) { c.MaxConns = 2 })
	first := dialRaw(t, s.Addr(), longSession)
	dialRaw(t, s.Addr(), longSession)
	if third := dialTCP(t, s.Addr()); !third.closed() {
		t.Error("a third connection was let in")
	}
	first.net.Close()
	awaitConns(t, s, func(n int) bool { return n < 2 })
	dialRaw(t, s.Addr(), longSession)
}

func TestClientThatDoesNotReadItsEventsIsCutOff(t *testing.T) {
	const limit = 256 << 10
	s := RunT(t, func(c *Config) { c.MaxUnsent = limit })
	deaf, writer := dialRaw(t, s.Addr(), longSession), dialRaw(t, s.Addr(), longSession)
	deaf.net.(*net.TCPConn).SetReadBuffer(4 << 10)
	long := "/" + strings.Repeat("n", 50_000)
	writer.create(long, flagPersistent)
	deaf.call(OpAddWatch, addWatchBody(long, watchPersistent))
	for range 2000 {
		writer.call(OpSetData, setDataBody(long, "", -1))
		if s.Stats().Connections == 1 {
			return
		}
	}
	t.Errorf("it is still there after 100 MB of events: %+v", s.Stats())
}

func TestClientThatDoesNotReadItsRepliesIsNotServed(t *testing.T) {
	const size = 500 << 10
	s := RunT(t)
	deaf := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, deaf)
	deaf.call(OpSetData, setDataBody(base, strings.Repeat("x", size), -1))
	requests := 0
	grown := heapGrowth(func() {
		for ; requests < 150; requests++ { // 75 MB of replies
			deaf.send(OpGetData, watchBody(base, false))
		}
		other := dialRaw(t, s.Addr(), longSession)
		for range 100 {
			other.call(OpPing, nil)
		}
	})
	if limit := int64(8 * size); grown > limit {
		t.Errorf("%d bytes wait for a client that does not read", grown)
	}
	for range requests { // nothing is lost when it does
		if r, err := deaf.read(); err != nil || len(r.body.buffer()) != size {
			t.Fatal(err)
		}
	}
}

func TestReplyOfGigabytesIsNotMade(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	c.call(OpSetData, setDataBody(base, strings.Repeat("x", 1_000_000), -1))
	reads := make([]subOp, 10_000)
	for i := range reads {
		reads[i] = subOp{OpGetData, watchBody(base, false)}
	}
	c.send(OpMultiRead, multiBody(reads...))
	if !c.closed() {
		t.Error("it was answered")
	}
	if _, code := c.reattach(s.Addr()).exists(base); code != errOK {
		t.Errorf("afterwards: %d", code)
	}
}
