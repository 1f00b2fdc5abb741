package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// service is what the clients take turns under: ZooKeeper, one server or three, or etcd.
type service struct {
	addr    string // separated by commas
	version string
	procs   []*exec.Cmd
	dir     string
}

// startZooKeeper starts Debian's ZooKeeper, Java processes, as it is delivered: its log is
// synced. Of three each may have 512 MiB, as in docker-compose.yml.
func startZooKeeper(ctx context.Context, dir string, servers int, java ...string) (*service, error) {
	jars, err := filepath.Glob("/usr/share/java/*.jar")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3 * servers)
	if err != nil {
		return nil, err
	}
	ensemble := ""
	if servers > 1 {
		ensemble = "initLimit=40\nsyncLimit=10\n"
		for n := range servers {
			ensemble += fmt.Sprintf("server.%d=127.0.0.1:%d:%d\n", n+1, ports[servers+n], ports[2*servers+n])
		}
		java = append(java, "-XX:+UseSerialGC")
	}
	s := &service{dir: dir}
	var addrs []string
	for n := range servers {
		data := filepath.Join(dir, fmt.Sprintf("zookeeper%d", n+1))
		addr := fmt.Sprintf("127.0.0.1:%d", ports[n])
		conf := fmt.Sprintf("tickTime=1000\ndataDir=%s\nclientPort=%d\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr,mntr\n%s", data, ports[n], ensemble)
		err := errors.Join(os.MkdirAll(data, 0o755), os.WriteFile(data+".cfg", []byte(conf), 0o644),
			os.WriteFile(filepath.Join(data, "myid"), fmt.Appendln(nil, n+1), 0o644))
		if err == nil {
			args := append([]string{"-Xmx512m", "-cp", strings.Join(jars, ":")}, java...)
			err = s.start(data+".log", "java", append(args, "org.apache.zookeeper.server.quorum.QuorumPeerMain", data+".cfg")...)
		}
		if err != nil {
			s.stop()
			return nil, err
		}
		addrs = append(addrs, addr)
	}
	s.addr = strings.Join(addrs, ",")
	return s, s.serving(ctx, func() bool {
		for _, addr := range addrs {
			said := ask(addr, "srvr")
			if !strings.Contains(said, "Mode:") {
				return false
			}
			_, said, _ = strings.Cut(said, "version: ")
			s.version, _, _ = strings.Cut(said, "-")
		}
		s.version = "ZooKeeper " + s.version
		return true
	})
}

// startEtcd starts a single etcd, as it is delivered.
func startEtcd(ctx context.Context, dir, program string) (*service, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s := &service{dir: dir, addr: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	client, peer := "http://"+s.addr, fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	err = s.start(filepath.Join(dir, "etcd.log"), program, "--data-dir", filepath.Join(dir, "etcd"), "--name", "one",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one="+peer)
	if err != nil {
		return nil, err
	}
	return s, s.serving(ctx, func() bool {
		s.version = "etcd " + field(get(client+"/version"), "etcdserver")
		return field(get(client+"/health"), "health") == "true"
	})
}

func (s *service) start(log, program string, args ...string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.procs = append(s.procs, cmd)
	return nil
}

// serving waits until the service says that it serves, and stops it when it does not; there
// is no event to wait for.
func (s *service) serving(ctx context.Context, serves func() bool) error {
	for range 1200 {
		if serves() {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			break
		}
	}
	s.stop()
	logs, _ := filepath.Glob(filepath.Join(s.dir, "*.log"))
	var said string
	for _, log := range logs {
		text, _ := os.ReadFile(log) // what it says is all that there is to tell
		said += string(text[max(0, len(text)-500):])
	}
	return fmt.Errorf("%s does not serve in time: %s", filepath.Base(s.procs[0].Path), said)
}

func (s *service) stop() {
	for _, cmd := range s.procs {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	}
}

// usage is what a service has used so far.
type usage struct {
	processor float64 // s
	memory    float64 // MiB, of all its processes
	written   float64 // bytes that went to the disk, whole pages
	log       float64 // bytes on the disk of transaction logs
	snapshots int
	snapshot  float64 // bytes of them
	requests  float64 // packets of clients; only of an ensemble
}

func (s *service) usage() (u usage, err error) {
	for _, cmd := range s.procs {
		pid := cmd.Process.Pid
		u.processor += processor(pid)
		u.memory += procField(pid, "status", "VmRSS:") / 1024
		u.written += procField(pid, "io", "write_bytes:")
	}
	err = filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		var st unix.Stat_t
		name := e.Name()
		switch {
		case unix.Stat(path, &st) != nil: // it is gone
		case strings.HasPrefix(name, "log."):
			u.log += float64(st.Blocks) * 512 // ZooKeeper makes the file longer than what is in it
		case strings.HasPrefix(name, "snapshot."):
			u.snapshots++
			u.snapshot += float64(st.Size)
		}
		return nil
	})
	if len(s.procs) > 1 {
		for _, addr := range strings.Split(s.addr, ",") {
			_, said, _ := strings.Cut(ask(addr, "mntr"), "zk_packets_received\t")
			said, _, _ = strings.Cut(said, "\n")
			n, _ := strconv.ParseFloat(strings.TrimSpace(said), 64)
			u.requests += n
		}
	}
	return u, err
}

// procField is a number in a file of /proc/PID.
func procField(pid int, file, name string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file)) // it may have ended, which others tell
	_, after, _ := strings.Cut(string(text), name)
	if fields := strings.Fields(after); len(fields) > 0 {
		n, _ := strconv.ParseFloat(fields[0], 64)
		return n
	}
	return 0
}

// processor is a process's processor time so far, in seconds, with that of threads that
// have ended.
func processor(pid int) float64 {
	const schedule = 2 // CPUCLOCK_SCHED of another process's clock
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|schedule), &t) != nil {
		return 0 // it has ended, which others tell
	}
	return float64(t.Nano()) / 1e9
}

// ask sends a four-letter word; empty when there is no answer.
func ask(addr, word string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(conn, word) // the answer tells
	said, _ := io.ReadAll(conn)
	return string(said)
}

// get is a page's text; empty when there is no answer.
func get(url string) string {
	client := http.Client{Timeout: time.Second}
	page, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer page.Body.Close()
	text, _ := io.ReadAll(page.Body)
	return string(text)
}

// field is a text in a JSON object.
func field(text, name string) string {
	_, after, _ := strings.Cut(text, `"`+name+`":"`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// freePorts are those that the kernel gives to nobody who does not ask for them by number:
// Java takes a while to start.
func freePorts(n int) (ports []int, err error) {
	for range 1000 {
		port := 10000 + rand.N(20000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
			continue
		}
		defer l.Close() // all at the end, so that none is given twice
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, err
}
