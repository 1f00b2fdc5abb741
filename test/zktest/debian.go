package zktest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const jar = "/usr/share/java/zookeeper.jar"

// debian is a server of Debian's zookeeper package, a Java process.
type debian struct {
	addr, dir string
	cmd       *exec.Cmd
	keep      *os.File // its closing, by us or by our death, ends the server
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

// startDebian fails when Java or the package is missing: it was asked for.
func startDebian(dir string) (*debian, error) {
	if what := missing(); what != "" {
		return nil, fmt.Errorf("TURNSTILE_TEST_ZOOKEEPER=debian, but %s", what)
	}
	for range 5 {
		s, err := tryDebian(dir)
		if !errors.Is(err, errTaken) {
			return s, err
		}
	}
	return nil, errTaken
}

// errTaken says that somebody took the port while Java started.
var errTaken = errors.New("another has the port")

func tryDebian(dir string) (*debian, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &debian{addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir}
	// Without forceSync: what a killed process has written is not lost.
	conf := fmt.Sprintf(`tickTime=%d
dataDir=%s/data
clientPort=%d
clientPortAddress=127.0.0.1
minSessionTimeout=%d
maxSessionTimeout=%d
maxClientCnxns=0
admin.enableServer=false
forceSync=no
preAllocSize=1024
4lw.commands.whitelist=*
`, tick.Milliseconds(), dir, port, leastTimeout.Milliseconds(), mostTimeout.Milliseconds())
	if err := os.WriteFile(filepath.Join(dir, "zoo.cfg"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return s, s.run()
}

// freePort is one that the kernel gives to nobody who does not ask for it by number: Java
// takes a while to start.
func freePort() (port int, err error) {
	for range 100 {
		port = 10000 + rand.N(20000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// run starts the process, at first or after it was killed, on the same data.
func (s *debian) run() error {
	// The shell waits on a pipe whose other end only we have.
	// It lives for seconds and is one of several hundred, so its code is compiled quickly.
	script := `java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$1" org.apache.zookeeper.server.ZooKeeperServerMain "$2" & pid=$!
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
func (s *debian) ready(patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(ask(s.addr, "srvr"), "Mode:") {
			if conf := ask(s.addr, "conf"); conf != "" && !strings.Contains(conf, s.dir) {
				s.kill()
				return errTaken
			} else if conf != "" {
				return nil
			}
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("no answer within %v; its log: %s", patience, text)
		}
	}
}

// kill ends the server at once.
func (s *debian) kill() {
	if s.keep == nil {
		return
	}
	s.keep.Close()
	s.keep = nil
	s.cmd.Wait() //nolint:errcheck // it was killed
}
