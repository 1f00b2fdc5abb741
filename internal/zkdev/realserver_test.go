package zkdev

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The real server that zkdev is compared with: the first one named by
// TURNSTILE_TEST_ZOOKEEPER (host:port, …) if it is a standalone 3.8 with TTL
// nodes enabled, or else Debian's, from its jars, started once for all tests.
// Without either the tests that need one are skipped, unless
// TURNSTILE_TEST_REQUIRE_ZOOKEEPER is set.
var real struct {
	once sync.Once
	addr string
	why  error // there is none
	stop func()
	ours bool // started here, with the configuration that RunT's servers have
}

// realTick is the started server's tick, short so that sessions expire soon.
const realTick = 100 * time.Millisecond

func TestMain(m *testing.M) {
	code := m.Run()
	if real.stop != nil {
		real.stop()
	}
	os.Exit(code)
}

// realServer returns the real server's address, or skips the test.
func realServer(t testing.TB) string {
	t.Helper()
	real.once.Do(func() {
		named, _, _ := strings.Cut(os.Getenv("TURNSTILE_TEST_ZOOKEEPER"), ",")
		if named != "" && comparable38(t, named) {
			real.addr = named
			return
		}
		real.addr, real.stop, real.why = startDebianServer()
		real.ours = true
	})
	if real.why == nil {
		return real.addr
	}
	if os.Getenv("TURNSTILE_TEST_REQUIRE_ZOOKEEPER") != "" {
		t.Fatalf("no real ZooKeeper: %v", real.why)
	}
	t.Skipf("no real ZooKeeper to compare with: %v (install Debian's zookeeper and default-jre-headless, or set TURNSTILE_TEST_ZOOKEEPER)", real.why)
	return ""
}

// comparable38 reports whether a server is one that zkdev claims to equal.
func comparable38(t testing.TB, addr string) bool {
	t.Helper()
	word, err := askFourLetterWord(addr, "srvr")
	if err != nil || !strings.Contains(word, "version: 3.8.") || !strings.Contains(word, "Mode: standalone") {
		return false
	}
	c := dialRaw(t, addr, longSession)
	defer c.net.Close()
	defer c.call(OpCloseSession, nil)
	path := fmt.Sprintf("/ttl-%x", c.session)
	if r := c.call(OpCreateTTL, createTTLBody(path, flagTTL, 1000)); r.code != errOK {
		return false
	}
	return c.call(OpDelete, versionBody(path, -1)).code == errOK
}

const debianJar = "/usr/share/java/zookeeper.jar"

func startDebianServer() (addr string, stop func(), err error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return "", nil, err
	}
	if _, err := os.Stat(debianJar); err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "zkdev-real-")
	if err != nil {
		return "", nil, err
	}
	addr = freeAddr()
	config := filepath.Join(dir, "zoo.cfg")
	_, port, _ := net.SplitHostPort(addr)
	err = os.WriteFile(config, fmt.Appendf(nil, "dataDir=%s/data\nclientPort=%s\nclientPortAddress=127.0.0.1\n"+
		"tickTime=%d\nmaxSessionTimeout=40000\nmaxClientCnxns=0\n"+
		"admin.enableServer=false\n4lw.commands.whitelist=*\nforceSync=no\npreAllocSize=1024\n",
		dir, port, realTick.Milliseconds()), 0o600)
	if err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", nil, err
	}
	defer log.Close()
	cmd := exec.Command(java, "-Xmx1g", "-XX:+UseSerialGC", "-Dzookeeper.extendedTypesEnabled=true", "-Dznode.container.checkIntervalMs=86400000",
		"-cp", debianJar+":/usr/share/java/slf4j-nop.jar",
		"org.apache.zookeeper.server.ZooKeeperServerMain", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	}
	if err := awaitServer(addr); err != nil {
		stop()
		return "", nil, fmt.Errorf("start %s: %w", debianJar, err)
	}
	return addr, stop, nil
}

// freeAddr finds a port that was free a moment ago, and that the kernel gives to nobody who
// does not ask for it by number.
func freeAddr() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.N(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
}

// awaitServer asks until the server says that it serves ("ruok" is answered
// earlier than that).
func awaitServer(addr string) error {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		word, err := askFourLetterWord(addr, "srvr")
		if err == nil && strings.Contains(word, "Mode: ") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer at %s: %v", addr, err)
		}
	}
}

// onBoth runs a test on zkdev and on the real server: what holds for one must
// hold for the other.
func onBoth(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("zkdev", func(t *testing.T) { test(t, RunT(t).Addr()) })
	t.Run("real", func(t *testing.T) { test(t, realServer(t)) })
}
