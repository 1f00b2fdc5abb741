package filelock_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

// laggard is a wire to an ensemble of two. The first connection is to a server that
// is up to date, and breaks just after it has told of a deletion. The later ones are
// to a follower that lags behind, as it may: the client's connect request tells the
// last zxid of an answer, and a watch event is none. It knows of head only what the
// first server said of it, until it is asked for the queue or to sync: with that it
// has caught up.
type laggard struct {
	t      testing.TB
	target string
	addr   string
	head   []byte // its path

	mu    sync.Mutex
	asks  map[int32]bool // by xid: head's reads under way
	old   []byte         // the first server's answer about head
	armed bool           // the next event cuts
	stale bool
	watch int32 // xid of the read that sets a watch
	set   bool  // and it was answered
}

func newLaggard(t testing.TB, target, head string) *laggard {
	l := &laggard{t: t, target: target, head: []byte(head), asks: map[int32]bool{}}
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.addr = listen.Addr().String()
	t.Cleanup(func() { listen.Close() })
	go func() {
		for {
			client, err := listen.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				return
			}
			go l.pass(server, client, l.request)
			go l.pass(client, server, l.answer)
		}
	}()
	return l
}

func (l *laggard) pass(to, from net.Conn, see func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	for {
		packet := make([]byte, 4)
		if _, err := io.ReadFull(from, packet); err != nil {
			return
		}
		packet = append(packet, make([]byte, binary.BigEndian.Uint32(packet))...)
		if _, err := io.ReadFull(from, packet[4:]); err != nil {
			return
		}
		on := see(packet)
		l.mu.Lock()
		if xid := int32(binary.BigEndian.Uint32(packet[4:])); !on && l.old != nil && xid > 0 {
			packet = append(bytes.Clone(packet[:8]), l.old[8:]...)
			binary.BigEndian.PutUint32(packet, uint32(len(packet)-4))
			on = true
		}
		l.mu.Unlock()
		if _, err := to.Write(packet); err != nil || !on {
			return
		}
	}
}

func (l *laggard) request(packet []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch op := zktest.Op(packet); {
	case op == zktest.OpGetData && bytes.Contains(packet, l.head):
		l.asks[int32(binary.BigEndian.Uint32(packet[4:]))] = true
	case op == zktest.OpGetData && packet[len(packet)-1] == 1:
		l.watch = int32(binary.BigEndian.Uint32(packet[4:]))
	case op == zktest.OpGetChildren || op == zktest.OpSync:
		l.stale = false
	}
	return true
}

// answer is false for what is not to be passed on as it is.
func (l *laggard) answer(packet []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	xid := int32(binary.BigEndian.Uint32(packet[4:]))
	if xid == l.watch && xid > 0 {
		l.set = true
	}
	switch {
	case xid == -1 && l.armed:
		l.armed, l.stale = false, true
		return false // after this one the connection breaks
	case !l.asks[xid] || len(packet) < 24:
		return true
	}
	delete(l.asks, xid)
	if l.stale {
		return false
	}
	l.old = packet
	return true
}

func (l *laggard) watched() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set
}

func (l *laggard) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = true
}

// A head that names our token proves to the next that it is our commit; so what only
// begins a file must not name it.
func TestAHeadThatBeginsMustNotPassForACommit(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	hold := f.member("a").hold()
	head := beginning("begun")
	head.Token = hold.Token()
	if err := hold.Publish(background(t), head); err == nil {
		t.Error("published a head that passes for our commit")
	}
	if err := hold.Begin(background(t), head, frame.First(incarnation, run)); err == nil {
		t.Error("began with a head that passes for our commit")
	}
	f.wantHead("")
	f.commit(hold, "one", false)
}

// The predecessor's place has gone, so one server says, and the connection breaks. The
// next server does not know of it yet. Head must not be believed from there: it would
// make the predecessor's turn, which is committed, look like a leftover.
func TestHeadIsFreshThoughTheNextServerLagsBehind(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.setHead("before")
	a := f.member("a")
	hold := a.hold()

	wire := newLaggard(t, f.addr, string(f.root.Head()))
	b := &member{f: f, name: "b", sess: f.dial(wire.addr, 20*time.Second)}
	b.Queue = filelock.New(b.sess, f.root, filelock.Member{Agent: "b"}, nil, nil)
	if _, err := b.sess.Get(background(t), f.root.Head()); err != nil { // as at an earlier turn
		t.Fatal(err)
	}
	place := b.join()
	seen := make(chan outcome, 1)
	go func() {
		hold, err := place.Wait(background(t))
		seen <- outcome{b, hold, err}
	}()
	eventually(t, "b watches", wire.watched)
	wire.arm()
	f.commit(hold, "after", false)
	got := f.get(seen)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if head := labelOf(got.hold); head != "after" {
		t.Errorf("our turn begins with head %q, when %q is committed", head, "after")
	}
}
