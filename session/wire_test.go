package session

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http/httptest"
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
	p.tap = &tap{Conn: ours, wire: p.wire}
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

// Whoever waits on the connection must not wait until a server that reads nothing has room
// for TLS's goodbye.
func TestShutDoesNotSayGoodbye(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	p := newPretend(t)
	ours, theirs := net.Pipe()
	defer theirs.Close()
	server := tls.Server(theirs, &tls.Config{Certificates: web.TLS.Certificates, SessionTicketsDisabled: true})
	client := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	p.tap.Conn = client
	start := time.Now()
	p.wire.shut()
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still there")
	}
}

// deadlines is a connection that writes down when it is to end.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error  { d.set = append(d.set, at); return nil }
func (d *deadlines) SetWriteDeadline(at time.Time) error { d.set = append(d.set, at); return nil }

// However often the library sets and lifts a deadline, one stands, and it is not much
// earlier than the library's.
func TestDeadlinesAreMovedNowAndThen(t *testing.T) {
	for name, set := range map[string]func(*tap, time.Time) error{
		"read": (*tap).SetReadDeadline, "write": (*tap).SetWriteDeadline,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPretend(t)
			d := &deadlines{Conn: p.tap.Conn}
			p.tap.Conn = d
			start := time.Now()
			if err := set(p.tap, start); err != nil || len(d.set) > 0 {
				t.Errorf("during the handshake: %v, %v", d.set, err)
			}
			p.tap.attached.Store(true)
			p.wire.granted = 3200 * time.Millisecond
			for ms := range 1000 {
				at := start.Add(time.Duration(ms) * time.Millisecond)
				if err := errors.Join(set(p.tap, at), set(p.tap, time.Time{})); err != nil {
					t.Fatal(err)
				}
				if len(d.set) == 0 {
					t.Fatal("no deadline is set")
				}
				if early := at.Sub(d.set[len(d.set)-1]); early < 0 || early >= 100*time.Millisecond {
					t.Fatalf("the deadline stands %v before the library's", early)
				}
			}
			if len(d.set) != 10 {
				t.Errorf("moved %d times", len(d.set))
			}
		})
	}
}

// Answers come in order, but nothing rests on it; of two requests with one xid, as pings
// have, the first is answered first.
func TestAnswersInAnyOrderAreHeard(t *testing.T) {
	p := newPretend(t)
	for i, xid := range []int32{7, -2, 8, -2, 9} {
		p.clock = time.Duration(i) * time.Second
		p.tap.note(xid)
	}
	p.wire.heard = 0
	for _, step := range []struct {
		xid  int32
		want time.Duration
	}{{-2, 1}, {7, 1}, {5, 1}, {9, 4}, {-2, 4}, {8, 4}, {8, 4}} {
		p.wire.hear(p.tap, step.xid)
		if p.wire.heard != step.want*time.Second {
			t.Errorf("after %d: heard %v, want %ds", step.xid, p.wire.heard, step.want)
		}
	}
	if len(p.tap.sent) != 0 {
		t.Errorf("kept: %v", p.tap.sent)
	}
}
