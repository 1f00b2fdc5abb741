package fleet_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// nursery is a site whose agents may be processes of their own.
type nursery struct {
	*site
	server *zkdev.Server
	sess   fleet.Session // an onlooker's
}

func newNursery(t testing.TB) *nursery {
	t.Helper()
	server := zkdev.RunT(t, func(c *zkdev.Config) { c.MaxSessionTimeout = longTimeout })
	n := &nursery{site: newSite(t, server.Addr()), server: server}
	n.sess = n.onlooker()
	if err := filelock.Ensure(t.Context(), n.sess, n.root); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *nursery) orders(name string) orders {
	return orders{ZooKeeper: n.zk, Root: string(n.root), Path: n.path, Name: name, Timeout: longTimeout}
}

// child is an agent in a process of its own.
type child struct {
	n    *nursery
	name string
	cmd  *exec.Cmd
	in   *os.File
	says chan string // closed at its end
}

func (n *nursery) child(name string) *child { return n.childWith(n.orders(name)) }

func (n *nursery) childWith(o orders) *child {
	n.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	text, err := json.Marshal(o)
	if err != nil {
		n.t.Fatal(err)
	}
	theirs, ours, err := os.Pipe() // which ends them with us
	if err != nil {
		n.t.Fatal(err)
	}
	defer theirs.Close()
	c := &child{n: n, name: o.Name, cmd: exec.Command(self), in: ours, says: make(chan string, 100)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GORACE=atexit_sleep_ms=0", "GOMAXPROCS=1")
	c.cmd.Stdin = theirs
	log, err := os.OpenFile(filepath.Join(n.dir, o.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	c.cmd.Stderr = log
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.kill(); ours.Close() })
	go func() { // ends with the child
		defer close(c.says)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.says <- lines.Text()
		}
	}()
	return c
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// hear waits for a word of the child's.
func (c *child) hear(want string) {
	c.n.t.Helper()
	select {
	case got := <-c.says:
		if got != want {
			log, _ := os.ReadFile(filepath.Join(c.n.dir, c.name+".log"))
			c.n.t.Fatalf("%s says %q, want %q; its log:\n%s", c.name, got, want, log)
		}
	case <-time.After(30 * time.Second):
		c.n.t.Fatalf("%s never says %q", c.name, want)
	}
}

func (c *child) write(record string) {
	c.n.t.Helper()
	if _, err := fmt.Fprintln(c.in, record); err != nil {
		c.n.t.Fatal(err)
	}
}

// turn has the child write a record in its next turn, to the end.
func (c *child) turn(record string) {
	c.n.t.Helper()
	c.hear("turn")
	c.write(record)
	c.hear("acknowledged")
}

// stop returns when the process does not run any more.
func (c *child) stop() {
	c.n.t.Helper()
	if err := c.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		c.n.t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, c.cmd.Process.Pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		c.n.t.Fatal(err)
	}
}

func (c *child) resume() {
	c.n.t.Helper()
	if err := c.cmd.Process.Signal(unix.SIGCONT); err != nil {
		c.n.t.Fatal(err)
	}
}

// place is an agent's place in the queue, as ZooKeeper has it.
func (n *nursery) place(agent string) (place filelock.Entry, ok bool) {
	n.t.Helper()
	entries, err := filelock.Look(n.t.Context(), n.sess, n.root)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Agent == agent {
			return e, true
		}
	}
	return filelock.Entry{}, false
}

// queued waits until the agent has a place, and tells whose session's it is.
func (n *nursery) queued(agent string) (sess int64) {
	n.t.Helper()
	n.until(agent+" is in the queue", func() bool {
		e, ok := n.place(agent)
		sess = e.Session
		return ok
	})
	return sess
}

func (n *nursery) isOpen(sess int64) bool {
	for _, id := range n.server.Sessions() {
		if id == sess {
			return true
		}
	}
	return false
}

// wantOpen makes sure that it was not a session's end that let the others go on.
func (n *nursery) wantOpen(sess ...int64) {
	n.t.Helper()
	for _, id := range sess {
		if !n.isOpen(id) {
			n.t.Errorf("session 0x%x was waited for", id)
		}
	}
}

// lives lists who is known on the volume.
func (n *nursery) lives() string {
	n.t.Helper()
	entries, err := os.ReadDir(n.alive())
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// touch writes into a place what it holds.
func (n *nursery) touch(place string) {
	n.t.Helper()
	node, err := n.sess.Get(n.t.Context(), n.root.Queue(1)+"/"+place)
	if err == nil {
		_, err = n.sess.Multi(n.t.Context(), &zk.SetDataRequest{Path: n.root.Queue(1) + "/" + place, Data: node.Data, Version: -1})
	}
	if err != nil {
		n.t.Fatal(err)
	}
}
