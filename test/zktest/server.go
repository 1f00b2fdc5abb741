// Package zktest gives tests a ZooKeeper server, and a wire to it that can be cut.
//
// By default that is zkdev, in the test's own process, so that the tests need nothing
// but Go. TURNSTILE_TEST_ZOOKEEPER=debian makes it Debian's zookeeper package (Java),
// each server on a free port of the loopback with a temporary directory, ending with
// the test process however that ends; TURNSTILE_TEST_ZOOKEEPER=host:port,… makes
// Shared use that ensemble, and Start still zkdev.
package zktest

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// What the servers grant.
const (
	tick         = 500 * time.Millisecond
	leastTimeout = time.Second
	mostTimeout  = time.Minute
)

// Shared returns the connect string of a server that all tests of the process
// share; a test keeps to nodes of its own (see Root).
func Shared(t testing.TB) string {
	t.Helper()
	choice := os.Getenv("TURNSTILE_TEST_ZOOKEEPER")
	if choice != "" && choice != "debian" {
		return choice
	}
	shared.once.Do(func() {
		var dir string
		if dir, shared.err = os.MkdirTemp("", "zktest-*"); shared.err == nil {
			shared.server, shared.err = start(dir)
		}
	})
	if shared.err != nil {
		t.Fatalf("start ZooKeeper: %v", shared.err)
	}
	return shared.server.Addr
}

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Together runs a package's tests, many at the same time unless -parallel says another
// number: most of them wait, for a session to expire or a deadline to pass.
func Together(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := flag.Set("test.parallel", "12"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// Root is a fleet's root that no other test uses.
func Root(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name()))
	return fmt.Sprintf("/turnstile/%s-%d", name, time.Now().UnixNano())
}

// Server is one server that the test has for itself.
type Server struct {
	Addr string

	kill    func()
	restart func() error
	dev     **zkdev.Server // nil when it is another's
}

// Start starts a server with a session timeout of 1s to 60s and stops it with the
// test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := start(t.TempDir())
	if err != nil {
		t.Fatalf("start ZooKeeper: %v", err)
	}
	t.Cleanup(s.Kill)
	return s
}

func start(dir string) (*Server, error) {
	if os.Getenv("TURNSTILE_TEST_ZOOKEEPER") == "debian" {
		d, err := startDebian(dir)
		if err != nil {
			return nil, err
		}
		return &Server{Addr: d.addr, kill: d.kill, restart: d.run}, nil
	}
	d, err := zkdev.Start(zkdev.Config{TickTime: tick, MinSessionTimeout: leastTimeout, MaxSessionTimeout: mostTimeout})
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: d.Addr(), kill: func() { d.Close() }, dev: &d}
	s.restart = func() (err error) {
		d, err = d.Restart()
		return err
	}
	return s, nil
}

// Kill ends the server at once. It may be called twice.
func (s *Server) Kill() { s.kill() }

// Restart starts a server that was killed, on the same port with the same data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.restart(); err != nil {
		t.Fatal(err)
	}
}

// Watches is how many watches the server holds.
func (s *Server) Watches(t testing.TB) int {
	t.Helper()
	for range 20 { // it may be busy
		for line := range strings.Lines(ask(s.Addr, "mntr")) {
			if value, ok := strings.CutPrefix(line, "zk_watch_count\t"); ok {
				if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
					return n
				}
			}
		}
	}
	t.Fatalf("the server at %s does not count its watches", s.Addr)
	return 0
}

// ask sends a four-letter word; "" when there is no answer.
func ask(addr, word string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(conn, word)
	var answer strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if err != nil {
			return answer.String()
		}
	}
}
