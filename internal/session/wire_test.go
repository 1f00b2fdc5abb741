package session

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
)

// pretend is a session without a library: packets are given to its wire by hand, and
// its clock stands still until it is told to go.
type pretend struct {
	*Session
	t      testing.TB
	clock  time.Duration
	tap    *tap
	server net.Conn
	wrote  chan []byte // what reached the server
}

func newPretend(t testing.TB) *pretend {
	p := &pretend{t: t, clock: time.Hour, wrote: make(chan []byte, 100)}
	s := &Session{log: zap.NewNop(), ready: make(chan struct{}), library: make(chan struct{})}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.wire = newWire(s.ctx, Options{Timeout: 10 * time.Second, ConnectTimeout: 10 * time.Second}, s.expire)
	s.wire.now = func() time.Duration { return p.clock }
	p.Session = s
	t.Cleanup(func() { s.end(ErrClosed) })
	p.connect()
	return p
}

// connect gives the wire a fresh connection.
func (p *pretend) connect() {
	var ours net.Conn
	ours, server := net.Pipe()
	p.server = server
	p.t.Cleanup(func() { server.Close() })
	p.tap = &tap{Conn: ours, wire: p.wire, sent: map[int32][]time.Duration{}}
	p.wire.mu.Lock()
	p.wire.open = p.tap
	p.wire.mu.Unlock()
	go func() {
		for {
			head := make([]byte, 4)
			if _, err := io.ReadFull(server, head); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head))
			if _, err := io.ReadFull(server, body); err != nil {
				return
			}
			p.wrote <- body
		}
	}()
}

func packet(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// ask sends the connect request for a session.
func (p *pretend) ask(id int64) error {
	body := binary.BigEndian.AppendUint64(make([]byte, connectRequestID), uint64(id))
	_, err := p.tap.Write(packet(append(body, make([]byte, 20)...)))
	return err
}

// grant is the server's answer to it.
func grant(id int64, timeout time.Duration) []byte {
	body := binary.BigEndian.AppendUint32(make([]byte, connectAnswerTime), uint32(timeout/time.Millisecond))
	body = binary.BigEndian.AppendUint64(body, uint64(id))
	return packet(append(body, make([]byte, 20)...))
}

func (p *pretend) request(xid int32) {
	p.t.Helper()
	body := binary.BigEndian.AppendUint32(nil, uint32(xid))
	if _, err := p.tap.Write(packet(append(body, 0, 0, 0, 4))); err != nil {
		p.t.Fatal(err)
	}
}

func answer(xid int32) []byte {
	body := binary.BigEndian.AppendUint32(nil, uint32(xid))
	return packet(append(body, make([]byte, 12)...))
}

// say has the server say it, in pieces of size bytes.
func (p *pretend) say(size int, packets ...[]byte) {
	p.t.Helper()
	var all []byte
	for _, b := range packets {
		all = append(all, b...)
	}
	go func() {
		for rest := all; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := p.server.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	if _, err := io.ReadFull(p.tap, make([]byte, len(all))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pretend) begin(id int64, timeout time.Duration) {
	p.t.Helper()
	if err := p.ask(0); err != nil {
		p.t.Fatal(err)
	}
	p.say(1000, grant(id, timeout))
}

func (p *pretend) remains(want time.Duration) {
	p.t.Helper()
	if got := p.wire.remaining(); got != want {
		p.t.Errorf("%v remain, want %v", got, want)
	}
}

func TestDeadlineCountsFromTheSendingOfWhatWasAnswered(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5, 7, 100} {
		p := newPretend(t)
		p.begin(7, 10*time.Second)
		p.remains(9 * time.Second)
		p.clock += time.Second
		p.request(1)
		p.clock += time.Second
		p.request(2)
		p.request(-2)
		p.clock += time.Second
		p.remains(6 * time.Second) // none was answered
		p.say(size, answer(1))
		p.remains(7 * time.Second) // as of its sending
		p.say(size, packet(append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 30)...)))
		p.remains(7 * time.Second) // a notification answers nothing
		p.say(size, answer(-2), answer(2))
		p.remains(8 * time.Second)
		p.say(size, answer(99), packet(nil), packet([]byte{1}))
		p.remains(8 * time.Second) // nobody asked
		p.request(-2)
		p.clock += time.Second
		p.request(-2)
		p.say(size, answer(-2))
		p.remains(8 * time.Second) // the older of two pings
		if p.ID() != 7 || p.Timeout() != 10*time.Second {
			t.Errorf("session %d, timeout %v", p.ID(), p.Timeout())
		}
	}
}

func TestErrLooksAtTheClockItself(t *testing.T) {
	p := newPretend(t) // no timer runs here, as after a suspend
	p.begin(7, 10*time.Second)
	p.clock += 9*time.Second - 1
	if err := p.Err(); err != nil {
		t.Fatalf("over too soon: %v", err)
	}
	p.clock++
	if err := p.Err(); !errors.Is(err, ErrExpired) || p.Context().Err() == nil {
		t.Fatalf("Err %v, context %v", err, p.Context().Err())
	}
	if _, err := p.Get(context.Background(), "/"); !errors.Is(err, ErrExpired) {
		t.Fatalf("a request ended with %v", err)
	}
}

func TestASecondSessionIsNeverAskedFor(t *testing.T) {
	p := newPretend(t)
	p.begin(7, 10*time.Second)
	<-p.wrote
	p.connect()
	if err := p.ask(7); err != nil {
		t.Fatalf("going on with our session: %v", err)
	}
	<-p.wrote
	p.connect()
	if err := p.ask(0); !errors.Is(err, errOneSession) {
		t.Errorf("a second session: %v", err)
	}
	if err := p.Err(); !errors.Is(err, ErrExpired) {
		t.Errorf("Err is %v", err)
	}
	select {
	case body := <-p.wrote:
		t.Errorf("%d bytes reached the server", len(body))
	default:
	}
}

// A server that answers with another session than was asked for must not become ours.
func TestAServerThatGrantsAnotherSessionIsNotFollowed(t *testing.T) {
	p := newPretend(t)
	p.begin(7, 10*time.Second)
	p.connect()
	if err := p.ask(7); err != nil {
		t.Fatal(err)
	}
	go func() { p.server.Write(grant(8, 10*time.Second)) }() //nolint:errcheck // may be cut
	io.ReadFull(p.tap, make([]byte, len(grant(8, 0))))       //nolint:errcheck // may be cut
	select {
	case <-p.Done():
	case <-time.After(time.Second):
		t.Error("the session goes on")
	}
	if p.ID() != 7 {
		t.Errorf("the session is 0x%x", p.ID())
	}
}

func TestARefusedReconnectChangesNothingOfTheSession(t *testing.T) {
	p := newPretend(t)
	p.begin(7, 10*time.Second)
	p.connect()
	if err := p.ask(7); err != nil {
		t.Fatal(err)
	}
	p.clock += time.Second
	p.say(3, grant(0, 0))
	p.remains(8 * time.Second)
	if p.ID() != 7 || p.Timeout() != 10*time.Second || p.wire.connected() {
		t.Errorf("session %d, timeout %v, connected %v", p.ID(), p.Timeout(), p.wire.connected())
	}
}

// The library closes a connection from one goroutine while another still reads from
// it. What it reads then is an answer, not the grant of another session.
func TestAnAnswerThatMeetsTheClosingOfItsConnectionEndsNoSession(t *testing.T) {
	p := newPretend(t)
	p.begin(7, 10*time.Second)
	answer := packet(append(binary.BigEndian.AppendUint32(nil, 5), make([]byte, 30)...))
	answer[4+answerZxid+7], answer[4+connectAnswerID+7] = 9, 9 // would pass for session 9
	p.tap.Close()
	for rest := answer; len(rest) > 0; {
		var err error
		if rest, err = p.tap.follow(rest); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Err(); err != nil || p.ID() != 7 || p.wire.connected() {
		t.Errorf("session %d, connected %v: %v", p.ID(), p.wire.connected(), err)
	}
}
