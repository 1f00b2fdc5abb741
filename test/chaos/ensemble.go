package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const zookeeperJar = "/usr/share/java/zookeeper.jar"

// ensemble is three ZooKeeper servers, Java processes with data of their own on the
// loopback, or somebody else's (own is false), whose processes we leave alone.
type ensemble struct {
	own     bool
	servers []*server
}

// server is one of them.
type server struct {
	id      int
	addr    string
	dir     string
	peers   []peer
	via     map[int]string // where it finds another's quorum port, when not there
	cmd     *exec.Cmd
	done    chan struct{}
	stopped bool
}

// peer is what the servers know of each other.
type peer struct{ id, client, quorum, election int }

const (
	tick           = 500 * time.Millisecond
	sessionTimeout = 2 * time.Second // the fleets' own, unless a kind wants another
	calmTimeout    = 6 * time.Second // where no session is to end but by the fault
)

func foreignEnsemble(addrs []string) *ensemble {
	e := &ensemble{}
	for i, addr := range addrs {
		e.servers = append(e.servers, &server{id: i + 1, addr: addr})
	}
	return e
}

func startEnsemble(ctx context.Context, dir string) (*ensemble, error) {
	const n = 3
	ports, err := freePorts(3 * n)
	if err != nil {
		return nil, err
	}
	var peers []peer
	for i := range n {
		peers = append(peers, peer{i + 1, ports[3*i], ports[3*i+1], ports[3*i+2]})
	}
	e := &ensemble{own: true}
	for _, p := range peers {
		e.servers = append(e.servers, &server{
			id: p.id, addr: fmt.Sprintf("127.0.0.1:%d", p.client), dir: filepath.Join(dir, fmt.Sprintf("zookeeper%d", p.id)), peers: peers,
		})
	}
	if err := e.startAll(ctx); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

// conf is the server's zoo.cfg.
func (s *server) conf() string {
	conf := fmt.Sprintf(`tickTime=%d
initLimit=40
syncLimit=5
dataDir=%s/data
clientPort=%d
clientPortAddress=127.0.0.1
minSessionTimeout=1000
maxSessionTimeout=60000
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
`, tick.Milliseconds(), s.dir, s.peers[s.id-1].client)
	for _, p := range s.peers {
		quorum := fmt.Sprintf("127.0.0.1:%d", p.quorum)
		if via := s.via[p.id]; via != "" {
			quorum = via
		}
		conf += fmt.Sprintf("server.%d=%s:%d\n", p.id, quorum, p.election)
	}
	return conf
}

func (e *ensemble) startAll(ctx context.Context) error {
	for _, s := range e.servers {
		if err := s.run(); err != nil {
			return err
		}
	}
	return e.serving(ctx)
}

// serving waits until every server is in the quorum, and is ours.
func (e *ensemble) serving(ctx context.Context) error {
	for _, s := range e.servers {
		err := until(ctx, 2*time.Minute, func() (bool, error) {
			if s.mode() == "" {
				return false, nil
			}
			conf := s.ask("conf")
			if e.own && conf != "" && !strings.Contains(conf, "dataDir="+s.dir) {
				return false, fmt.Errorf("another server answers at %s, and says: %s", s.addr, conf)
			}
			return conf != "" || !e.own, nil
		})
		if err != nil {
			return fmt.Errorf("%w: server %d (%s) is in the quorum", err, s.id, s.dir)
		}
	}
	return nil
}

func (e *ensemble) stop() {
	if !e.own {
		return
	}
	for _, s := range e.servers {
		s.kill()
	}
}

// addrs are the servers' client addresses.
func (e *ensemble) addrs() (all []string) {
	for _, s := range e.servers {
		all = append(all, s.addr)
	}
	return all
}

// leader finds who leads.
func (e *ensemble) leader(ctx context.Context) (leader *server, err error) {
	err = within(ctx, time.Minute, "a server leads", func() bool {
		for _, s := range e.servers {
			if !s.stopped && s.mode() == "leader" {
				leader = s
				return true
			}
		}
		return false
	})
	return leader, err
}

// followers are all but the leader.
func (e *ensemble) followers(ctx context.Context) (all []*server, err error) {
	leader, err := e.leader(ctx)
	for _, s := range e.servers {
		if s != leader {
			all = append(all, s)
		}
	}
	return all, err
}

// run starts the server, at first or after it was killed, on the data it has.
func (s *server) run() error {
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	conf := filepath.Join(s.dir, "zoo.cfg")
	err := errors.Join(os.WriteFile(conf, []byte(s.conf()), 0o644),
		os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, s.id), 0o644))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command("java", "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
		"-cp", zookeeperJar, "org.apache.zookeeper.server.quorum.QuorumPeerMain", conf)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := start(s.cmd); err != nil {
		return fmt.Errorf("start ZooKeeper: %w", err)
	}
	done := make(chan struct{})
	s.done, s.stopped = done, false
	go func(cmd *exec.Cmd) { // ends with the process, which kill kills
		_ = cmd.Wait()
		close(done)
	}(s.cmd)
	return nil
}

// kill ends the server at once; its data stay.
func (s *server) kill() {
	if s.done == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.done
	s.stopped = true
}

func (s *server) pause() error {
	s.stopped = true
	if err := send(s.cmd.Process, syscall.SIGSTOP); err != nil {
		return err
	}
	return stopped(s.cmd.Process.Pid)
}

func (s *server) resume() error {
	s.stopped = false
	return send(s.cmd.Process, syscall.SIGCONT)
}

// mode is leader or follower, empty when the server is in no quorum.
func (s *server) mode() string {
	for line := range strings.Lines(s.ask("srvr")) {
		if mode, ok := strings.CutPrefix(line, "Mode: "); ok {
			return strings.TrimSpace(mode)
		}
	}
	return ""
}

// ask sends a four-letter word; empty when there is no answer.
func (s *server) ask(word string) string {
	conn, err := net.DialTimeout("tcp", s.addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return ""
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return ""
	}
	answer, _ := io.ReadAll(conn) // half an answer has no Mode
	return string(answer)
}

// frozen stops all servers for the time of do: what they have on disk is then of one
// moment.
func (e *ensemble) frozen(do func() error) (err error) {
	for _, s := range e.servers {
		err = errors.Join(err, s.pause())
	}
	if err == nil {
		err = do()
	}
	for _, s := range e.servers {
		err = errors.Join(err, s.resume())
	}
	return err
}

// replaceData kills all servers, has do replace what they know, and starts them again.
func (e *ensemble) replaceData(ctx context.Context, do func(s *server) error) error {
	e.stop()
	for _, s := range e.servers {
		if err := do(s); err != nil {
			return err
		}
	}
	return e.startAll(ctx)
}

// heal brings every server back after a round, whatever became of it.
func (e *ensemble) heal(ctx context.Context) error {
	if !e.own {
		return nil
	}
	for _, s := range e.servers {
		if len(s.via) > 0 { // the wire goes with its round
			s.kill()
			s.via = nil
		}
		var err error
		select {
		case <-s.done:
			err = s.run()
		default:
			err = s.resume()
		}
		if err != nil {
			return err
		}
	}
	return e.serving(ctx)
}
