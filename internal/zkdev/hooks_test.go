package zkdev

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
)

func TestHookSeesARequestAtEveryPoint(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	var seen []string
	done := make(chan struct{})
	s.SetHook(func(at Point, r Request) Action {
		if r.Op != OpMulti {
			return Proceed
		}
		if r.Session != c.session || !slices.Equal(r.Paths, []string{base, base + "/a"}) {
			t.Errorf("%+v", r)
		}
		if at == BeforeEffect != (r.Zxid == 0) {
			t.Errorf("%v at zxid %x", at, r.Zxid)
		}
		seen = append(seen, at.String())
		if at == AfterReply {
			close(done)
		}
		return Proceed
	})
	c.call(OpMulti, multiBody(subOp{OpCheck, versionBody(base, -1)}, subOp{OpCreate, createBody(base+"/a", "", 0)}))
	<-done
	if got := strings.Join(seen, ", "); got != "before effect, after effect, after reply" {
		t.Error(got)
	}
}

// A commit whose reply is lost is the case that the turn's protocol must
// survive: it happened, and the client cannot know.
func TestLostReplyOfAWriteThatHappened(t *testing.T) {
	s := RunT(t)
	conn := dialZK(t, s.Addr(), 10*time.Second)
	acl := zk.WorldACL(zk.PermAll)
	lost := false
	s.SetHook(func(at Point, r Request) Action {
		if r.Op == OpCreate && at == AfterEffect && !lost {
			lost = true
			return CloseConn
		}
		return Proceed
	})
	if _, err := conn.Create("/once", nil, 0, acl); err == nil {
		t.Fatal("the reply arrived")
	}
	if exists, _, err := conn.Exists("/once"); err != nil || !exists {
		t.Errorf("the write did not happen: %v", err)
	}
}

func TestRequestLostBeforeItsEffect(t *testing.T) {
	s := RunT(t)
	conn := dialZK(t, s.Addr(), 10*time.Second)
	lost := false
	s.SetHook(func(at Point, r Request) Action {
		if r.Op == OpCreate && at == BeforeEffect && !lost {
			lost = true
			return CloseConn
		}
		return Proceed
	})
	if _, err := conn.Create("/never", nil, 0, zk.WorldACL(zk.PermAll)); !errors.Is(err, zk.ErrConnectionClosed) {
		t.Fatal(err)
	}
	if exists, _, err := conn.Exists("/never"); err != nil || exists {
		t.Errorf("it happened all the same (%v)", err)
	}
}

func TestDroppedReplyLeavesTheConnection(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	for _, point := range []Point{BeforeEffect, AfterEffect} {
		base := newBase(t, c)
		s.SetHook(func(at Point, r Request) Action {
			if r.Op == OpSetData && at == point {
				return DropReply
			}
			return Proceed
		})
		c.send(OpSetData, setDataBody(base, "x", -1))
		if st, code := c.exists(base); code != errOK || st.version != 1 {
			t.Errorf("%v: version %d", point, st.version)
		}
	}
}

func TestEventsWaitBehindAReplyThatAHookHoldsBack(t *testing.T) {
	s := RunT(t)
	c, other := dialRaw(t, s.Addr(), longSession), dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	held, release := make(chan struct{}), make(chan struct{})
	s.SetHook(func(at Point, r Request) Action {
		if r.Op == OpGetData && at == AfterEffect {
			close(held)
			<-release
		}
		return Proceed
	})
	c.send(OpGetData, watchBody(base, true))
	<-held
	other.call(OpSetData, setDataBody(base, "x", -1)) // the watch is set already
	close(release)
	r, err := c.read()
	if err != nil || len(c.events) > 0 || len(r.body.buffer()) > 0 {
		t.Errorf("reply with %v before it, %v", c.events, err)
	}
	if got := c.takeEvents(); got != "changed "+base {
		t.Errorf("then %q", got)
	}
}

func TestCloseWaitsForNothingButHooks(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	held, release := make(chan struct{}), make(chan struct{})
	s.SetHook(func(Point, Request) Action {
		close(held)
		<-release
		return CloseConn
	})
	c.send(OpPing, nil)
	<-held
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	if !c.closed() {
		t.Error("the connection goes on")
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
