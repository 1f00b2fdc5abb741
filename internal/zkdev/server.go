package zkdev

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how a server runs. The zero value of every field is its default.
type Config struct {
	// Listen is the TCP address to listen on; by default a free port of
	// 127.0.0.1. Whoever can reach it may read, change and fill the tree.
	Listen string
	// TickTime is the unit of session timeouts; by default 2 s.
	TickTime time.Duration
	// MinSessionTimeout and MaxSessionTimeout bound what a client may ask for;
	// by default 2 and 20 ticks. What is negotiated has whole milliseconds.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// HandshakeTimeout is how long a connection may take to send its first
	// frame; by default 10 s.
	HandshakeTimeout time.Duration
	// MaxConns is how many connections there may be; by default 4096. More are
	// closed as they come.
	MaxConns int
	// MaxUnsent is how many bytes of events may wait for a client that does not
	// read; by default 4 MiB. It is cut off beyond that.
	MaxUnsent int
	// ContainerCheckInterval is how often empty container nodes and TTL nodes
	// past their time are looked for; by default 1 min.
	ContainerCheckInterval time.Duration
	// Hook is called for every request; see [Server.SetHook].
	Hook Hook
	// Logf is told of sessions expired and clients cut off; by default nobody is.
	// It must not call the server.
	Logf func(format string, args ...any)
}

func (c Config) withDefaults() (Config, error) {
	orElse(&c.Listen, "127.0.0.1:0")
	orElse(&c.TickTime, 2*time.Second)
	orElse(&c.MinSessionTimeout, 2*c.TickTime)
	orElse(&c.MaxSessionTimeout, 20*c.TickTime)
	orElse(&c.HandshakeTimeout, 10*time.Second)
	orElse(&c.MaxConns, 4096)
	orElse(&c.MaxUnsent, 4<<20)
	orElse(&c.ContainerCheckInterval, time.Minute)
	if c.Logf == nil {
		c.Logf = func(string, ...any) {}
	}
	if c.TickTime < time.Millisecond || c.MinSessionTimeout < time.Millisecond || c.MaxSessionTimeout < c.MinSessionTimeout {
		return c, fmt.Errorf("session timeouts: tick %v, min %v, max %v", c.TickTime, c.MinSessionTimeout, c.MaxSessionTimeout)
	}
	if c.HandshakeTimeout < 0 || c.MaxConns < 0 || c.MaxUnsent < 0 || c.ContainerCheckInterval < 0 {
		return c, errors.New("a negative limit")
	}
	return c, nil
}

func orElse[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// Server is a running ZooKeeper server.
type Server struct {
	cfg        Config
	listener   net.Listener
	started    time.Time
	closing    chan struct{} // closed when Close begins
	goroutines sync.WaitGroup
	hook       atomic.Pointer[Hook]
	frozen     atomic.Pointer[freeze] // stored under mu, read without it too

	mu           sync.Mutex // guards all below, and what conn says it guards
	closed       bool
	zxid         int64 // of the last transaction
	nextSession  int64
	tree         *tree
	dataWatches  *watchTable
	childWatches *watchTable
	sessions     map[int64]*session
	conns        map[*conn]struct{}
	frozenFor    time.Duration // in all, up to the last Thaw
}

// Start listens and serves until [Server.Close]. On return the server accepts
// connections at [Server.Addr]. It fails if the configuration makes no sense
// or the address cannot be listened on.
func Start(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configure zkdev: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start zkdev: %w", err)
	}
	now := time.Now()
	s := newServer(cfg, listener)
	s.zxid = now.Unix() << 32
	// As the real server with id 0 makes them: 40 bits of time, 16 of count.
	s.nextSession = int64(uint64(now.UnixMilli()) << 24 >> 8)
	s.tree = newTree()
	s.sessions = make(map[int64]*session)
	s.run()
	return s, nil
}

func newServer(cfg Config, listener net.Listener) *Server {
	return &Server{
		cfg: cfg, listener: listener, started: time.Now(), closing: make(chan struct{}),
		dataWatches:  newWatchTable(),
		childWatches: newWatchTable(),
		conns:        make(map[*conn]struct{}),
	}
}

func (s *Server) run() {
	s.SetHook(s.cfg.Hook)
	s.goroutines.Add(3)
	go s.acceptLoop()
	go s.expireLoop()
	go s.reapLoop()
}

// Restart starts a server that was closed once more, on the address that it had, as one
// that was killed and finds all its data on disk: with the same nodes and sessions, whose
// timeouts begin anew, in a new epoch, and without watches. The closed one must not be
// used any more but for closing.
func (s *Server) Restart() (*Server, error) {
	select {
	case <-s.closing:
	default:
		return nil, errors.New("restart zkdev: it is not closed")
	}
	s.goroutines.Wait()
	listener, err := net.Listen("tcp", s.Addr())
	if err != nil {
		return nil, fmt.Errorf("restart zkdev: %w", err)
	}
	again := newServer(s.cfg, listener)
	again.zxid = (s.zxid>>32 + 1) << 32
	again.nextSession = s.nextSession
	again.tree, again.sessions = s.tree, s.sessions
	for _, sess := range again.sessions {
		again.extend(sess)
	}
	again.run()
	return again, nil
}

// Addr is the address to connect to, as host:port.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends the server: every connection is closed, and all nodes and sessions
// are gone. On return none of its goroutines is left; a [Hook] that is running
// is waited for. Closing twice does no harm.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.goroutines.Wait()
		return nil
	}
	s.closed = true
	close(s.closing)
	err := s.listener.Close()
	for c := range s.conns {
		s.drop(c)
	}
	s.mu.Unlock()
	s.goroutines.Wait()
	if err != nil {
		return fmt.Errorf("close zkdev: %w", err)
	}
	return nil
}

func (s *Server) acceptLoop() {
	defer s.goroutines.Done()
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			s.admit(nc)
			continue
		}
		select {
		case <-s.closing:
			return
		case <-time.After(50 * time.Millisecond):
			// Out of descriptors, most likely: others must end first.
			s.cfg.Logf("zkdev: accept: %v", err)
		}
	}
}

// admit starts to serve a connection, unless there are too many.
func (s *Server) admit(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= s.cfg.MaxConns {
		nc.Close()
		return
	}
	c := &conn{server: s, net: nc, out: newOutbox(), gone: make(chan struct{})}
	c.identities = []identity{c.address()}
	s.conns[c] = struct{}{}
	s.goroutines.Add(1)
	go c.serve()
}

// address is the identity that every connection has: where it comes from.
func (c *conn) address() identity {
	host, _, _ := net.SplitHostPort(c.net.RemoteAddr().String())
	return identity{"ip", host}
}

// drop closes a connection and forgets its watches; its session goes on. The
// caller holds the lock. Dropping twice does no harm.
func (s *Server) drop(c *conn) {
	if c.dropped {
		return
	}
	c.dropped = true
	close(c.gone)
	c.out.close()
	c.net.Close()
	delete(s.conns, c)
	s.dataWatches.removeConn(c)
	s.childWatches.removeConn(c)
	if c.session != nil && c.session.conn == c {
		c.session.conn = nil
	}
}
