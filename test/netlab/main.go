// Netlab runs a fleet on a real network volume: virtual machines, each with a kernel and a
// page cache of its own, share a file by NFS or SMB, and are killed, paused, frozen and cut
// off meanwhile. scripts/netlab.sh gives it what it needs, and has the help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// lease is how long the NFS server keeps what a silent client has locked and opened.
const lease = 10 * time.Second

// The machines: the server of the volume, two with agents, and one that only reads.
const (
	server = "S"
	reader = "C"
)

var clients = []string{"A", "B", reader}

// kind is a kind of volume, and how the machines mount it.
type kind struct {
	name, fs, source, options string
	onHost                    bool // the server is no machine but a process beside the lab
}

var kinds = []kind{
	{name: "nfs4", fs: "nfs4", source: "10.9.0.1:/", options: "vers=4.2,hard,addr=10.9.0.1,clientaddr=%s"},
	{name: "nfs3", fs: "nfs", source: "10.9.0.1:/", options: "vers=3,hard,proto=tcp,mountproto=tcp,mountport=20048,port=2049,nolock,addr=10.9.0.1"},
	{name: "smb", fs: "cifs", source: "//10.9.0.1/volume", options: `vers=3.1.1,hard,ip=10.9.0.1,port=%d,unc=\\10.9.0.1\volume,username=lab,password=lab`, onHost: true},
}

// lab is a run of the lab, and what it was told.
type lab struct {
	kind                    kind
	dir, kernel, modules    string
	agent, guest, zookeeper string
	smbDir                  string
	smbPort                 int
	smbCommand              []string
	rest                    time.Duration
	seed                    uint64
	scenarios               []string
	machines                map[string]*machine
	smb                     *daemon
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l := &lab{machines: map[string]*machine{}}
	var name, only, smb string
	flag.StringVar(&name, "volume", "nfs4", "nfs4, nfs3 or smb")
	flag.StringVar(&only, "only", "", "scenarios, separated by commas; all that the volume has if empty")
	flag.DurationVar(&l.rest, "for", time.Minute, "how long the faults go on")
	flag.Uint64Var(&l.seed, "seed", uint64(time.Now().UnixNano()), "what chooses the faults")
	flag.StringVar(&l.dir, "dir", "", "a directory for the machines")
	flag.StringVar(&l.kernel, "kernel", "", "the kernel")
	flag.StringVar(&l.modules, "modules", "", "the directory of its modules")
	flag.StringVar(&l.agent, "agent", "", "the agent, a static binary")
	flag.StringVar(&l.guest, "guest", "", "the guest, a static binary")
	flag.StringVar(&l.zookeeper, "zookeeper", "", "a ZooKeeper on the loopback, HOST:PORT")
	flag.StringVar(&smb, "smbd", "", "the command that serves SMB")
	flag.StringVar(&l.smbDir, "smb-dir", "", "the directory that it serves")
	flag.IntVar(&l.smbPort, "smb-port", 0, "the port that it serves at")
	flag.Parse()
	l.smbCommand = strings.Fields(smb)
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		fmt.Fprintf(os.Stderr, "netlab: --volume %q: want nfs4, nfs3 or smb\n", name)
		os.Exit(2)
	}
	l.kind = kinds[i]
	if only != "" {
		l.scenarios = strings.Split(only, ",")
	}
	if err := l.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "netlab: %v\n", err)
		os.Exit(1)
	}
}

// scenario is something to see. Each has a fleet and a directory of its own.
type scenario struct {
	name, about string
	on          func(kind) bool
	run         func(context.Context, *lab) error
}

func onNFS(k kind) bool { return !k.onHost }
func onAll(kind) bool   { return true }

var scenarios = []scenario{
	{"plain", "control: data.volume is plain, and bytes are lost", onNFS, plainLosesBytes},
	{"append", "control: O_APPEND strictly in turn, and records are lost", onAll, appendLosesRecords},
	{"two", "two hosts that each mounted a volume of their own are refused", onAll, twoVolumes},
	{"check", "agent check-volume --with 2 finds the right setting", onAll, checkOne},
	{"checktwo", "agent check-volume --with 2 finds two different volumes", onAll, checkTwo},
	{"hang", "the mount of one host hangs, and the others go on", onNFS, oneHangs},
	{"faults", "two hosts append while they are killed, paused, frozen and cut off", onAll, faults},
}

func (l *lab) run(ctx context.Context) (err error) {
	for _, name := range l.scenarios {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("--only %s: there is no such scenario; scripts/netlab.sh --help lists them", name)
		}
	}
	began := time.Now()
	defer func() { err = errors.Join(err, l.end()) }()
	if err := l.up(ctx); err != nil {
		return err
	}
	l.say("four machines are up after %.0f s; seed %d", time.Since(began).Seconds(), l.seed)
	for _, s := range scenarios {
		if !s.on(l.kind) || len(l.scenarios) > 0 && !slices.Contains(l.scenarios, s.name) {
			continue
		}
		l.say("%s: %s", s.name, s.about)
		at := time.Now()
		if err := s.run(ctx, l); err != nil {
			return fmt.Errorf("%s on %s: %w", s.name, l.kind.name, err)
		}
		l.say("%s: fine, %.0f s", s.name, time.Since(at).Seconds())
	}
	return nil
}

func (l *lab) say(format string, args ...any) {
	fmt.Printf("%s %s  %s\n", time.Now().Format("15:04:05"), l.kind.name, fmt.Sprintf(format, args...))
}

// up starts the machines and mounts the volume on those that use it.
func (l *lab) up(ctx context.Context) error {
	programs := map[string]string{"init": l.guest, "bin/agent": l.agent, "bin/busybox": "/bin/busybox"}
	if err := makeImage(filepath.Join(l.dir, "image"), l.modules, programs); err != nil {
		return err
	}
	roles := clients
	if l.kind.onHost {
		if err := l.startSMB(ctx); err != nil {
			return err
		}
	} else {
		roles = append([]string{server}, clients...)
	}
	for _, role := range roles {
		m, err := l.start(role, strings.Index("SABC", role)+1)
		if err != nil {
			return err
		}
		l.machines[role] = m
		if role == server { // the others' cables end at its sockets
			err := until(ctx, 10*time.Second, func() (bool, error) {
				_, err := os.Stat(filepath.Join(l.dir, "cable-"+clients[len(clients)-1]))
				return err == nil, nil
			})
			if err != nil {
				return fmt.Errorf("qemu makes no cables: %w: %s", err, tail(m.file("qemu")))
			}
		}
	}
	for _, role := range roles {
		if err := l.machines[role].ready(ctx); err != nil {
			return err
		}
	}
	if !l.kind.onHost {
		// A server that was just started lets nobody in who may have been there before.
		if err := pause(ctx, lease+2*time.Second); err != nil {
			return err
		}
	}
	for _, role := range clients {
		if err := l.mount(ctx, l.machines[role], "/srv", ""); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) end() error {
	for _, m := range l.machines {
		m.end()
	}
	if l.smb != nil {
		return l.smb.stop()
	}
	return nil
}
