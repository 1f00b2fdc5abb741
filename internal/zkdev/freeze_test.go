package zkdev

import (
	"errors"
	"os"
	"testing"
	"time"
)

// silent reports that nothing arrives for a while. It can only err by being
// too easily satisfied.
func (c *rawClient) silent() bool {
	c.net.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func TestFrozenServerAcceptsAndSaysNothing(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	s.Freeze()
	c.send(OpSetData, setDataBody(base, "x", -1))
	late := dialTCP(t, s.Addr())
	late.sendFrame(func(e *encoder) {
		e.int32(0)
		e.int64(0)
		e.int32(30000)
		e.int64(0)
		e.buffer(nil)
		e.bool(false)
	})
	before := s.Stats()
	if !c.silent() || !late.silent() {
		t.Error("a frozen server spoke")
	}
	if after := s.Stats(); after.Zxid != before.Zxid || after.Sessions != before.Sessions {
		t.Errorf("a frozen server worked: %+v, was %+v", after, before)
	}
	s.Thaw()
	if r, err := c.read(); err != nil || r.body.stat().version != 1 {
		t.Errorf("after the thaw: %v", err)
	}
	if _, err := late.readFrame(); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestNoSessionExpiresWhileFrozen(t *testing.T) {
	s := RunT(t, func(c *Config) { *c = Config{TickTime: 20 * time.Millisecond} })
	c := dialRaw(t, s.Addr(), 400*time.Millisecond)
	s.Freeze()
	clock := func() time.Duration { s.mu.Lock(); defer s.mu.Unlock(); return s.clock() }
	before := clock()
	c.silentFor(500 * time.Millisecond)
	if n := s.Stats().Sessions; n != 1 || clock() != before {
		t.Errorf("%d sessions, the clock went from %v to %v", n, before, clock())
	}
	s.Thaw()
	if !c.closed() { // silent as it is, it expires now
		t.Error("the connection goes on")
	}
}

func (c *rawClient) silentFor(d time.Duration) {
	c.net.SetReadDeadline(time.Now().Add(d))
	c.in.Peek(1)
}

func TestSessionExpiredWhileFrozenIsGoneAfterwards(t *testing.T) {
	s := RunT(t)
	c, witness := dialRaw(t, s.Addr(), longSession), dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	c.create(base+"/mine", flagEphemeral)
	witness.call(OpExists, watchBody(base+"/mine", true))
	s.Freeze()
	if !s.ExpireSession(c.session) || s.ExpireSession(c.session) {
		t.Error("it must go once")
	}
	if !witness.silent() {
		t.Error("the witness heard of it")
	}
	s.Thaw()
	if got := witness.takeEvents(); got != "deleted "+base+"/mine" {
		t.Errorf("the witness saw %q", got)
	}
	again := dialTCP(t, s.Addr())
	if err := again.connect(connectRequest{session: c.session, password: c.password}); err != nil || again.session != 0 {
		t.Errorf("the session is back: %d, %v", again.session, err)
	}
}

func TestDroppedConnectionLeavesTheSession(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	c.create(base+"/mine", flagEphemeral)
	if !s.DropConn(c.session) || s.DropConn(c.session) {
		t.Error("it must be dropped once")
	}
	if !c.closed() {
		t.Error("the connection goes on")
	}
	if _, code := c.reattach(s.Addr()).exists(base + "/mine"); code != errOK {
		t.Errorf("its node: %d", code)
	}
}

func TestCloseThawsNothingAndEnds(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	s.Freeze()
	c.send(OpPing, nil)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if !c.closed() {
		t.Error("the connection goes on")
	}
}
