// Package session is one ZooKeeper session, from its beginning to its end.
//
// The client library, go-zookeeper/zk, moves silently to a new session when the
// old one expires, learns of an expiry only after it has reconnected, and puts no
// bound on a request to a server that says nothing. A lock cannot be built on
// that. A Session here is one session and never another:
//
//   - It ends once: Context is done then, for ever, with ErrExpired or ErrClosed as
//     its cause. Whoever wants to go on dials a new one and starts afresh.
//   - It keeps its own deadline: the moment at which the last answered request was
//     sent, plus the negotiated timeout less a margin, on a clock that goes on
//     while the machine is suspended. The server heard from us no earlier than
//     that, so it cannot expire us before we know it ourselves.
//   - Every request takes a context, and ends with the session at the latest.
//
// What it does not promise: that a session which looks alive still is. An
// operator, or a server after a partition, may end it at any time. Safety never
// rests on the deadline; see package filelock for the commit, which does not need it.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
)

var (
	// ErrExpired is the cause of a session that ended by itself: its deadline
	// passed without an answer, or a server said that it is gone. Its ephemeral
	// nodes are gone or about to go.
	ErrExpired = errors.New("session expired")
	// ErrClosed is the cause of a session that Close ended.
	ErrClosed = errors.New("session closed")
	// ErrUnavailable is returned by Dial when no server gave a session in time.
	ErrUnavailable = errors.New("no ZooKeeper server answers")
)

// maxPacket bounds one packet, in bytes, and with it the library's buffers. It is
// what servers accept; our largest packet is the list of a long queue, 50 bytes a
// place.
const maxPacket = 1 << 20

// Options say how to get a session. Servers and Timeout are required.
type Options struct {
	Servers        []string      // host:port each
	Timeout        time.Duration // asked for; the server may grant another
	ConnectTimeout time.Duration // how long Dial looks for a server; 0 means Timeout
	TLS            *tls.Config   // nil means plain TCP
	Digest         string        // user:password, or empty
	Log            *zap.Logger   // nil means silence
	// Notify, when set, is told of every change, in order, from whichever goroutine
	// noticed it. It must not block.
	Notify func(State)
}

// State is what a session's user may want to be told of.
type State int

const (
	Connected State = iota // a server serves the session
	Suspended              // no server does at present; the session may live
	Lost                   // the session is over, and was not closed
)

func (s State) String() string { return [...]string{"Connected", "Suspended", "Lost"}[s] }

// Session is one ZooKeeper session. All methods may be called from several
// goroutines at once.
type Session struct {
	conn *zk.Conn
	wire *wire
	acl  []zk.ACL
	log  *zap.Logger

	ctx   context.Context // done when the session is over
	end   context.CancelCauseFunc
	ready chan struct{} // closed once the first session event came

	gate      sync.Mutex     // guards shut
	shut      bool           // no more requests
	requests  sync.WaitGroup // those under way
	watchdog  sync.WaitGroup
	library   chan struct{} // closed when the library's own loop has ended
	closeOnce sync.Once
	closing   atomic.Bool

	telling sync.Mutex // guards lost, and keeps what notify tells in order
	lost    bool
	notify  func(State)
}

// goodbye is how long Close waits for a server to confirm.
const goodbye = 300 * time.Millisecond

// Dial gets a session, or explains within opts.ConnectTimeout (or ctx) why it
// could not. A nil error promises a session that a server has just granted.
func Dial(ctx context.Context, opts Options) (*Session, error) {
	if opts.ConnectTimeout == 0 {
		opts.ConnectTimeout = opts.Timeout
	}
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	s := &Session{
		log: opts.Log, acl: zk.WorldACL(zk.PermAll),
		ready: make(chan struct{}), library: make(chan struct{}), notify: opts.Notify,
	}
	s.ctx, s.end = context.WithCancelCause(context.Background())
	s.wire = newWire(s.ctx, opts, s.expire)

	servers := &hosts{over: s.ctx}
	s.wire.served = servers.served
	conn, events, err := zk.Connect(opts.Servers, opts.Timeout,
		zk.WithDialer(s.wire.dial),
		zk.WithHostProvider(servers),
		zk.WithEventCallback(s.onEvent()),
		zk.WithLogger(libraryLog{opts.Log}), zk.WithLogInfo(false),
		zk.WithMaxBufferSize(maxPacket), zk.WithMaxConnBufferSize(maxPacket))
	if err != nil {
		return nil, fmt.Errorf("connect to ZooKeeper at %s: %w", strings.Join(opts.Servers, ","), err)
	}
	s.conn = conn
	go func() { // ends with the library's loop, which Close waits for
		defer close(s.library)
		for range events {
		}
	}()

	timer := time.NewTimer(opts.ConnectTimeout)
	defer timer.Stop()
	select {
	case <-s.ready:
	case <-ctx.Done():
		s.Close()
		return nil, context.Cause(ctx)
	case <-timer.C:
		why := s.wire.lastFailure()
		s.Close()
		return nil, fmt.Errorf("%w at %s within %v (%s)", ErrUnavailable,
			strings.Join(opts.Servers, ","), opts.ConnectTimeout, why)
	}
	s.watchdog.Go(s.watchDeadline)
	if opts.Digest != "" {
		if err := s.authenticate(ctx, opts.Digest); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *Session) authenticate(ctx context.Context, digest string) error {
	_, err := read(ctx, s, func() (struct{}, error) { // may be repeated, like a read
		return struct{}{}, s.conn.AddAuth("digest", []byte(digest))
	})
	if errors.Is(err, ErrExpired) {
		return fmt.Errorf("%w: authenticate: %w", ErrUnavailable, err)
	}
	if err != nil {
		return fmt.Errorf("authenticate with ZooKeeper: %w", err)
	}
	s.acl = zk.AuthACL(zk.PermAll)
	return nil
}

// ID is the session's ID: what Stat.EphemeralOwner says of its ephemeral nodes.
func (s *Session) ID() int64 { return s.wire.sessionID() }

// Timeout is what the server granted.
func (s *Session) Timeout() time.Duration { return s.wire.timeout() }

// Connections counts the connections that served the session so far. While it stays
// the same, an event that a server sent is delivered before any later answer; a new
// connection may be to a server that lags behind, and sets watches again only after
// a moment.
func (s *Session) Connections() uint64 { return s.wire.connections() }

// Connected tells whether the last of them is not known to have broken.
func (s *Session) Connected() bool { return s.wire.connected() }

// ACL is what nodes should be created with: for all, or for the digest's user.
func (s *Session) ACL() []zk.ACL { return s.acl }

// Context is done when the session is over; context.Cause tells why.
func (s *Session) Context() context.Context { return s.ctx }

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.ctx.Done() }

// Err is nil while the session lasts, then ErrExpired or ErrClosed. It looks at
// the clock itself, so it is right even just after the process was stopped or
// the machine suspended, before any timer had a chance to fire.
func (s *Session) Err() error {
	if s.ctx.Err() == nil && s.wire.remaining() <= 0 {
		s.expire("no answer from ZooKeeper before the session's deadline")
	}
	return context.Cause(s.ctx)
}

// Remaining is how long the session surely lasts if no request is answered from now on;
// not above zero when it is over. It counts time in which the machine was suspended.
func (s *Session) Remaining() time.Duration { return s.wire.remaining() }

// Close ends the session, and with it its ephemeral nodes, at once when a server
// is connected. On return, well within a second, nothing of the session runs any
// more but at most a timer of the library's.
func (s *Session) Close() {
	s.closeOnce.Do(func() {
		s.closing.Store(true)
		s.gate.Lock()
		s.shut = true
		s.gate.Unlock()
		cut := func() { s.end(ErrClosed); s.wire.shut() }
		patience := time.AfterFunc(goodbye, cut)
		defer patience.Stop()
		if s.ctx.Err() != nil || !s.wire.connected() {
			cut()
		}
		// The library should have no request when it is closed: it may answer one more
		// often than its channel holds, and then never end. It has requests of its own,
		// so both waits are bounded; being closed, it lets go of ours.
		answered := make(chan struct{})
		go func() { s.requests.Wait(); close(answered) }()
		within(2*goodbye, answered)
		go s.conn.Close() // may wait out a second after the library's loop has ended
		if !within(2*goodbye, s.library) {
			s.log.Error("the ZooKeeper client does not end")
		}
		cut()
		<-answered
		s.watchdog.Wait()
	})
}

// within waits for done, but not for longer than the time given.
func within(d time.Duration, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// run runs a request in a goroutine that Close waits for; false when it is too late.
func (s *Session) run(request func()) bool {
	if !s.begin() {
		return false
	}
	go func() {
		defer s.requests.Done()
		request()
	}()
	return true
}

// begin counts a request that Close has to wait for, until s.requests.Done; false when it
// is too late.
func (s *Session) begin() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.shut || s.ctx.Err() != nil {
		return false
	}
	s.requests.Add(1)
	return true
}

// Discard ends a session that is in doubt: what it left in ZooKeeper goes when the
// server expires it.
func (s *Session) Discard(why string) { s.expire(why) }

// expire ends the session for good. It must not block: the library calls it.
func (s *Session) expire(why string) {
	if s.ctx.Err() == nil {
		s.log.Warn("session is over", zap.String("why", why), zap.String("session", fmt.Sprintf("0x%x", s.ID())))
	}
	s.end(fmt.Errorf("%w: %s", ErrExpired, why))
	s.wire.shut()
	if errors.Is(context.Cause(s.ctx), ErrExpired) {
		s.tell(Lost)
	}
}

// tell tells whoever wants to know.
func (s *Session) tell(state State) {
	if s.notify == nil {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	if !s.lost {
		s.lost = state == Lost
		s.notify(state)
	}
}

// watchDeadline ends the session when its deadline has passed.
func (s *Session) watchDeadline() {
	timer := time.NewTimer(s.wire.remaining())
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
			if s.Err() != nil {
				return
			}
			timer.Reset(s.wire.remaining())
		}
	}
}

// onEvent gives the callback that the library runs for every event, in order.
// (Its event channel drops what does not fit.)
func (s *Session) onEvent() func(zk.Event) {
	var once sync.Once
	served := false
	return func(e zk.Event) {
		switch {
		case e.Type != zk.EventSession:
		case e.State == zk.StateHasSession:
			s.log.Debug("session is served", zap.String("server", e.Server))
			once.Do(func() { close(s.ready) })
			served = true
			s.tell(Connected)
		case e.State == zk.StateDisconnected:
			if served && !s.closing.Load() && s.ctx.Err() == nil {
				s.log.Warn("connection to ZooKeeper lost, trying the servers in turn", zap.String("server", e.Server))
				s.tell(Suspended)
			}
			served = false
		case e.State == zk.StateExpired:
			s.expire("ZooKeeper says that the session is gone")
		}
	}
}

// libraryLog carries the library's complaints to our log, where they are detail.
type libraryLog struct{ log *zap.Logger }

func (l libraryLog) Printf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
