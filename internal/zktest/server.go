// Package zktest gives tests a real ZooKeeper server, and a wire to it that can be
// cut.
//
// Servers are Debian's zookeeper package (Java), each on a free port of the loopback
// with a temporary directory. They end with the test process, however it ends.
// TURNSTILE_TEST_ZOOKEEPER=host:port,… makes Shared use that ensemble instead.
package zktest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const jar = "/usr/share/java/zookeeper.jar"

// Shared returns the connect string of a server that all tests of the process
// share; a test keeps to nodes of its own (see Root). Without Java the test is
// skipped, or fails when TURNSTILE_TEST_REQUIRE_ZOOKEEPER is set.
func Shared(t testing.TB) string {
	t.Helper()
	if ensemble := os.Getenv("TURNSTILE_TEST_ZOOKEEPER"); ensemble != "" {
		return ensemble
	}
	shared.once.Do(func() {
		if shared.missing = missing(); shared.missing == "" {
			var dir string
			if dir, shared.err = os.MkdirTemp("", "zktest-*"); shared.err == nil {
				shared.server, shared.err = start(dir)
			}
		}
	})
	need(t, shared.missing)
	if shared.err != nil {
		t.Fatalf("start ZooKeeper: %v", shared.err)
	}
	return shared.server.Addr
}

var shared struct {
	once    sync.Once
	missing string
	server  *Server
	err     error
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

// Server is one real server that the test has for itself.
type Server struct {
	Addr string
	dir  string
	cmd  *exec.Cmd
	keep *os.File // its closing, by us or by our death, ends the server
}

// Start starts a server with a session timeout of 1s to 60s and stops it with the
// test.
func Start(t testing.TB) *Server {
	t.Helper()
	need(t, missing())
	s, err := start(t.TempDir())
	if err != nil {
		t.Fatalf("start ZooKeeper: %v", err)
	}
	t.Cleanup(func() { s.Kill() })
	return s
}

func missing() string {
	if _, err := exec.LookPath("java"); err != nil {
		return "java is not installed"
	}
	if _, err := os.Stat(jar); err != nil {
		return jar + " is not installed (Debian package zookeeper)"
	}
	return ""
}

func need(t testing.TB, missing string) {
	t.Helper()
	switch {
	case missing == "":
	case os.Getenv("TURNSTILE_TEST_REQUIRE_ZOOKEEPER") != "":
		t.Fatalf("no ZooKeeper to test with: %s", missing)
	default:
		t.Skipf("SKIPPED, not tested: %s", missing)
	}
}

func start(dir string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir}
	conf := fmt.Sprintf(`tickTime=500
dataDir=%s/data
clientPort=%d
clientPortAddress=127.0.0.1
minSessionTimeout=1000
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
`, dir, port)
	if err := os.WriteFile(filepath.Join(dir, "zoo.cfg"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return s, s.Restart()
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Restart starts a server that was killed, on the same port with the same data.
func (s *Server) Restart() error {
	// The shell waits on a pipe whose other end only we have.
	script := `java -Xmx128m -cp "$1" org.apache.zookeeper.server.ZooKeeperServerMain "$2" & pid=$!
read _; kill -9 $pid; wait $pid 2>/dev/null`
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command("sh", "-c", script, "sh", jar, filepath.Join(s.dir, "zoo.cfg"))
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = ours, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the tests is not for it
	if err := s.cmd.Start(); err != nil {
		theirs.Close()
		return err
	}
	s.keep = theirs
	return s.ready(30 * time.Second)
}

// ready waits until the server serves; there is no event to wait for.
func (s *Server) ready(patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(s.Ask("srvr"), "Mode:") {
			return nil
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("no answer within %v; its log: %s", patience, text)
		}
	}
}

// Ask sends a four-letter word; "" when there is no answer.
func (s *Server) Ask(word string) string {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
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

// Kill ends the server at once.
func (s *Server) Kill() {
	if s.keep == nil {
		return
	}
	s.keep.Close()
	s.keep = nil
	s.cmd.Wait() //nolint:errcheck // it was killed
}
