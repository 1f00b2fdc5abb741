package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// Guest is what the lab may ask of a machine. Its methods have the form of net/rpc.
type Guest struct {
	mu        sync.Mutex
	processes map[string]*process
	files     map[string]*os.File // kept open for Append
}

type process struct {
	cmd  *exec.Cmd
	hush chan struct{} // closed, once, when it is to be given no more
	once sync.Once
	fed  int // read when done is closed
	done chan struct{}
}

// Mount mounts a file system, with its directory.
func (g *Guest) Mount(m wire.Mount, _ *struct{}) error {
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.Source, m.Dir, m.Type, 0, m.Options); err != nil {
		return fmt.Errorf("mount %s as %s: %w", m.Source, m.Type, err)
	}
	return nil
}

// Unmount takes it away, at once.
func (g *Guest) Unmount(dir string, _ *struct{}) error { return unix.Unmount(dir, unix.MNT_DETACH) }

// Start starts a process. A name may be used again once its process is over.
func (g *Guest) Start(s wire.Start, _ *struct{}) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.processes[s.Name]; p != nil && !p.over() {
		return fmt.Errorf("%s runs already", s.Name)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(s.Args[0], s.Args[1:]...), hush: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = []string{"HOME=/tmp", "PATH=/bin"}
	if s.Out != "" {
		out, err := os.OpenFile(s.Out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer out.Close()
		p.cmd.Stdout = out
	}
	var stdin io.WriteCloser
	if s.Feed != "" {
		if stdin, err = p.cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	g.processes[s.Name] = p
	go p.run(stdin, s)
	return nil
}

// run feeds the process and waits for its end.
func (p *process) run(stdin io.WriteCloser, s wire.Start) {
	fed := make(chan int)
	go func() { fed <- p.feed(stdin, s) }()
	_ = p.cmd.Wait() // how it ended is in ProcessState
	p.stopFeeding()
	p.fed = <-fed
	close(p.done)
}

// feed gives the process records, and tells how many.
func (p *process) feed(stdin io.WriteCloser, s wire.Start) int {
	if stdin == nil {
		return 0
	}
	defer stdin.Close()
	tick := time.NewTicker(s.Pace)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-p.hush:
			return n - 1
		case <-tick.C:
		}
		if _, err := fmt.Fprintf(stdin, "%s %d %0*d\n", s.Feed, n, 20+n*37%200, n); err != nil {
			return n // a part of it may be there
		}
	}
}

func (p *process) stopFeeding() { p.once.Do(func() { close(p.hush) }) }

func (p *process) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (g *Guest) find(name string) (*process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.processes[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no process %s", name)
}

// Hush ends the input of a process.
func (g *Guest) Hush(name string, _ *struct{}) error {
	p, err := g.find(name)
	if err != nil {
		return err
	}
	p.stopFeeding()
	return nil
}

// Signal sends a signal to a process.
func (g *Guest) Signal(s wire.Signal, _ *struct{}) error {
	p, err := g.find(s.Name)
	if err != nil {
		return err
	}
	return p.cmd.Process.Signal(unix.Signal(s.Number))
}

// Wait waits for the end of a process, for so long.
func (g *Guest) Wait(w wire.Wait, ended *wire.Ended) error {
	p, err := g.find(w.Name)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		*ended = wire.Ended{Over: true, Code: p.cmd.ProcessState.ExitCode(), Fed: p.fed}
	case <-time.After(w.For):
	}
	return nil
}

// Read reads a part of a file, nothing behind its end.
func (g *Guest) Read(r wire.Read, b *[]byte) error {
	f, err := os.Open(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	part := make([]byte, 1<<20)
	n, err := f.ReadAt(part, r.At)
	*b = part[:n]
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Size is a file's length, 0 when there is none.
func (g *Guest) Size(path string, size *int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		*size = info.Size()
	}
	return err
}

// List gives the names in a directory, none when there is no such directory.
func (g *Guest) List(dir string, names *[]string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		*names = append(*names, e.Name())
	}
	return err
}

// Append writes to a file that is opened with O_APPEND once, and syncs.
func (g *Guest) Append(a wire.Append, _ *struct{}) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.files[a.Path]
	if f == nil {
		var err error
		if f, err = os.OpenFile(a.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666); err != nil {
			return err
		}
		g.files[a.Path] = f
	}
	if _, err := f.Write(a.Data); err != nil {
		return err
	}
	return f.Sync()
}

// Serve starts the NFS server, or stops it.
func (g *Guest) Serve(yes bool, _ *struct{}) error {
	if yes {
		return share()
	}
	return tell("/proc/fs/nfsd/threads", "0")
}
