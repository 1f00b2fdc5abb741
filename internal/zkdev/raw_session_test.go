package zkdev

import (
	"bytes"
	"testing"
	"time"
)

func TestRefusedSessionGetsZeroes(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		owner := dialRaw(t, addr, longSession)
		for name, q := range map[string]connectRequest{
			"unknown session": {session: 0x1234567890, timeout: 5000},
			"wrong password":  {session: owner.session, password: []byte("0123456789abcdef"), timeout: 5000},
			"short password":  {session: owner.session, password: []byte{}, timeout: 5000},
		} {
			c := dialTCP(t, addr)
			if err := c.connect(q); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if c.session != 0 || c.timeout != 0 || !bytes.Equal(c.password, make([]byte, 16)) {
				t.Errorf("%s: session %d, timeout %d, password %x", name, c.session, c.timeout, c.password)
			}
			if !c.closed() {
				t.Errorf("%s: the connection goes on", name)
			}
		}
		// The session itself survived the attempts on it.
		if again := owner.reattach(addr); again.session != owner.session {
			t.Errorf("reattached to %d, not %d", again.session, owner.session)
		}
	})
}

func TestReattachClosesTheOlderConnection(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		older := dialRaw(t, addr, longSession)
		base := newBase(t, older)
		older.call(OpCreate, createBody(base+"/mine", "", flagEphemeral))
		newer := older.reattach(addr)
		if !older.closed() {
			t.Error("the older connection goes on")
		}
		if newer.session != older.session || newer.timeout != older.timeout || !bytes.Equal(newer.password, older.password) {
			t.Error("another session, timeout or password")
		}
		if r := newer.call(OpExists, watchBody(base+"/mine", false)); r.code != errOK || r.body.stat().ephemeralOwner != newer.session {
			t.Errorf("the ephemeral node: %d", r.code)
		}
	})
}

func TestClientAheadOfServerIsCutOff(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialTCP(t, addr)
		if err := c.connect(connectRequest{zxidSeen: 1<<63 - 1, timeout: 5000}); err == nil {
			t.Error("it was answered")
		}
	})
}

func TestOldClientGetsNoReadOnlyFlag(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialTCP(t, addr)
		if err := c.connect(connectRequest{timeout: 5000, noReadOnly: true}); err != nil {
			t.Fatal(err)
		}
		c.call(OpPing, nil)
	})
}

func TestTimeoutIsClamped(t *testing.T) {
	asked := map[time.Duration]int32{time.Millisecond: 200, 3 * time.Second: 3000, time.Hour: 40000}
	onBoth(t, func(t *testing.T, addr string) {
		if addr == real.addr && !real.ours {
			t.Skip("a server with another tick")
		}
		for ask, want := range asked {
			if c := dialRaw(t, addr, ask); c.timeout != want {
				t.Errorf("asked for %v: got %d ms, want %d", ask, c.timeout, want)
			}
		}
	})
	t.Run("2 to 20 ticks", func(t *testing.T) {
		s := RunT(t, func(c *Config) { *c = Config{TickTime: 70 * time.Millisecond} })
		for ask, want := range map[time.Duration]int32{0: 140, time.Hour: 1400} {
			if c := dialRaw(t, s.Addr(), ask); c.timeout != want {
				t.Errorf("asked for %v: got %d ms, want %d", ask, c.timeout, want)
			}
		}
	})
}

func TestSilentSessionExpires(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		witness := dialRaw(t, addr, longSession)
		base := newBase(t, witness)
		before := time.Now()
		c := dialRaw(t, addr, shortSession)
		c.call(OpCreate, createBody(base+"/mine", "", flagEphemeral))
		witness.call(OpExists, watchBody(base+"/mine", true))
		if !c.closed() {
			t.Fatal("the connection goes on")
		}
		if lived := time.Since(before); lived < time.Duration(c.timeout)*time.Millisecond {
			t.Errorf("expired after %v, before its timeout of %d ms", lived, c.timeout)
		}
		if events := witness.takeEvents(); events != "deleted "+base+"/mine" {
			t.Errorf("the witness saw %q", events)
		}
	})
}

// The deadline is rounded up to a tick, and a whole tick is added even where
// there is nothing to round.
func TestDeadlineIsRoundedUpToATick(t *testing.T) {
	s := RunT(t, func(c *Config) { *c = Config{TickTime: time.Second} })
	s.Freeze() // the clock stands still
	defer s.Thaw()
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := &session{id: 1, timeout: 2 * time.Second}
	s.sessions[1] = sess
	for now, want := range map[time.Duration]time.Duration{
		0:                       3 * time.Second,
		time.Millisecond:        3 * time.Second,
		999 * time.Millisecond:  3 * time.Second,
		1000 * time.Millisecond: 4 * time.Second,
	} {
		s.frozenFor += s.clock() - now
		s.touch(&conn{session: sess})
		if got := sess.expires; got != want {
			t.Errorf("touched at %v: expires at %v, want %v", now, got, want)
		}
	}
	delete(s.sessions, 1)
}

func TestCloseSessionDeletesItsNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		witness, c := dialRaw(t, addr, longSession), dialRaw(t, addr, longSession)
		base := newBase(t, witness)
		for _, name := range []string{"/1", "/2", "/3"} {
			c.call(OpCreate, createBody(base+name, "", flagEphemeral))
		}
		r := c.call(OpCloseSession, nil)
		if r.code != errOK || !c.closed() {
			t.Errorf("close: %d", r.code)
		}
		got := witness.call(OpGetChildren2, watchBody(base, false))
		if names := got.body.strings(); len(names) > 0 {
			t.Errorf("left: %v", names)
		}
		// All went in one transaction: the close's own.
		if st := got.body.stat(); st.pzxid != r.zxid || st.cversion != 6 {
			t.Errorf("pzxid %x of close %x, cversion %d", st.pzxid, r.zxid, st.cversion)
		}
	})
}

func TestRepliesCarryTheRightXids(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		for _, q := range []struct {
			name      string
			sent, got int32
			op        Opcode
			body      func(*encoder)
			zeroZxid  bool
		}{
			{"ping", -2, -2, OpPing, nil, false},
			{"ping under another xid", 77, -2, OpPing, nil, false},
			{"auth", -4, -4, OpAuth, authBody("digest", "a:b"), true},
			{"setWatches", -8, -8, OpSetWatches, func(e *encoder) { e.int64(0); e.int32(0); e.int32(0); e.int32(0) }, false},
		} {
			c.sendAs(q.sent, q.op, q.body)
			r, err := c.read()
			if err != nil || r.xid != q.got || r.code != errOK || (r.zxid == 0) != q.zeroZxid || len(r.body.buf) > 0 {
				t.Errorf("%s: %+v, %v", q.name, r, err)
			}
		}
	})
}

func TestRepliesKeepTheOrderOfRequests(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		var sent []int32
		for i := range 300 {
			switch i % 3 {
			case 0:
				sent = append(sent, c.send(OpCreate, createBody(base+"/n-", "", flagSequential)))
			case 1:
				sent = append(sent, c.send(OpGetData, watchBody(base, false)))
			case 2:
				sent = append(sent, c.send(OpDelete, versionBody(base+"/nobody", -1)))
			}
		}
		last := int64(0)
		for _, xid := range sent {
			r, err := c.read()
			if err != nil || r.xid != xid || r.zxid < last {
				t.Fatalf("request %d: reply %d, zxid %x after %x, %v", xid, r.xid, r.zxid, last, err)
			}
			last = r.zxid
		}
	})
}
