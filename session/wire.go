package session

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// wire stands between the library and its TCP connections. It reads along to
// learn what the library keeps to itself (session ID, granted timeout, which
// requests were answered), bounds the handshake, and holds the session to one:
// a request for a second session never leaves.
type wire struct {
	ctx       context.Context // the session's
	tls       *tls.Config
	handshake time.Duration // bound of TCP, TLS and ZooKeeper's connect, each; see patience
	expire    func(why string)
	now       func() time.Duration // counts suspend; injected by tests
	served    func()               // called with each answer to a request

	mu      sync.Mutex
	id      int64         // 0 until a session was granted
	granted time.Duration // its timeout
	heard   time.Duration // when the last answered request was sent, by now
	zxid    int64         // the newest that an answer carried
	told    int64         // the newest up to which watches have told of all
	tooLong bool          // an answer was, and nobody was told yet
	failure error         // why the last attempt failed
	slow    int           // attempts that took too long since a session was granted last
	open    *tap          // the connection in use
	count   uint64        // connections on which the session was granted
}

// margin is how much earlier than the server we count a session as over.
func margin(timeout time.Duration) time.Duration { return timeout / 10 }

var (
	errOneSession = errors.New("the session is over, another is not asked for")
	errPacket     = errors.New("what answers there does not speak ZooKeeper's protocol")
	errTooLong    = errors.New("the answer is longer than 1 MiB: too many or too long names or data")
)

func newWire(ctx context.Context, opts Options, expire func(string)) *wire {
	return &wire{
		ctx: ctx, tls: opts.TLS, expire: expire, now: bootTime,
		// Three servers must fit into the time after which the first is expired.
		handshake: min(opts.ConnectTimeout, opts.Timeout) / 3,
		served:    func() {},
	}
}

// bootTime is CLOCK_BOOTTIME: unlike Go's monotonic clock it goes on while the
// machine is suspended, and like it no one can set it.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}

// dial is the library's dialer. Its own timeout is ignored: ours also covers TLS.
func (w *wire) dial(network, address string, _ time.Duration) (net.Conn, error) {
	patience := w.patience()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil && w.tls != nil {
		conn, err = w.secure(ctx, conn, address)
	}
	w.late(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failure = err
		return nil, err
	}
	if w.ctx.Err() != nil {
		conn.Close()
		return nil, errOneSession
	}
	w.open = &tap{Conn: conn, wire: w, setting: map[int32]bool{}}
	// A server that accepts and says nothing would hold the library for many
	// times the session timeout.
	conn.SetDeadline(time.Now().Add(patience))
	return w.open, nil
}

// patience bounds an attempt. It begins short, and doubles with each that was too short:
// when a server comes back, its clients come all at once, and the kernels of those that
// find no room in its backlog try again after one second, then two. To dial anew is
// faster.
func (w *wire) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := time.Second
	if w.id != 0 { // to take up a session costs the servers less than a new one
		first /= 2
	}
	return min(w.handshake, first<<min(w.slow, 10))
}

// late counts an attempt that ended with err, if that was for want of time.
func (w *wire) late(err error) {
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		w.mu.Lock()
		w.slow++
		w.mu.Unlock()
	}
}

func (w *wire) secure(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	config := w.tls.Clone()
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// shut cuts the connection, so that whatever waits on it stops waiting.
func (w *wire) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		return
	}
	conn := w.open.Conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn() // its own Close says goodbye, and may wait for room for that
	}
	conn.Close()
}

// failed notes why no session was granted, for Dial to tell.
func (w *wire) failed(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failure = why
	w.tooLong = w.tooLong || errors.Is(why, errTooLong)
}

// complain tells once of an answer that was too long: to repeat the request is no use.
func (w *wire) complain() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.tooLong {
		return nil
	}
	w.tooLong = false
	return errTooLong
}

func (w *wire) sessionID() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.id
}

func (w *wire) timeout() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.granted
}

func (w *wire) connections() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func (w *wire) connected() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open != nil && w.open.attached.Load() && !w.open.closed
}

func (w *wire) lastFailure() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		return "connected, but no session was granted"
	}
	return w.failure.Error()
}

// remaining is how long the session surely lasts if nothing is answered any more.
func (w *wire) remaining() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard + w.granted - margin(w.granted) - w.now()
}
