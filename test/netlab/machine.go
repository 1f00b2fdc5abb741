package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// machine is a virtual machine: a kernel, with a page cache of its own.
type machine struct {
	role    string // S is the server of the volume, and the others use it
	dir     string
	cmd     *exec.Cmd
	done    chan struct{}
	monitor *json.Decoder
	said    net.Conn
	rpc     *rpc.Client
	control string
}

// The names of a machine's networks, as its monitor knows them.
const (
	toZooKeeper = "zk"
	toVolume    = "lan"
)

// start starts qemu and returns at once. A cable between two machines is a socket in the
// lab's directory, at which the server waits.
func (l *lab) start(role string, number int) (*machine, error) {
	m := &machine{role: role, dir: l.dir, done: make(chan struct{})}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	m.control = fmt.Sprintf("127.0.0.1:%d", port)
	nic := 0
	var args []string
	network := func(id, how string) {
		nic++
		args = append(args, "-netdev", how+",id="+id, "-device", fmt.Sprintf("virtio-net-pci,netdev=%s,mac=52:54:00:00:%02x:%02x,romfile=", id, number, nic))
	}
	network("control", fmt.Sprintf("user,restrict=on,net=10.0.2.0/24,hostfwd=tcp:%s-10.0.2.15:%d", m.control, wire.Port))
	cable := func(other string) string { return filepath.Join(l.dir, "cable-"+other) }
	switch {
	case role == server:
		for _, other := range clients {
			network("to"+other, "stream,server=on,addr.type=unix,addr.path="+cable(other))
		}
		args = append(args, "-drive", "file="+filepath.Join(l.dir, "disk")+",format=raw,if=virtio,cache=unsafe")
	default:
		network(toZooKeeper, "user,net=10.8.0.0/24,host=10.8.0.2")
		if l.kind.onHost {
			network(toVolume, "user,net=10.9.0.0/24,host=10.9.0.1")
		} else {
			network(toVolume, "stream,server=off,addr.type=unix,addr.path="+cable(role))
		}
	}
	qemu := []string{
		"-name", role, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "384", "-smp", "1", "-display", "none", "-nodefaults",
		"-serial", "file:" + m.file("console"), "-qmp", "unix:" + m.file("monitor") + ",server=on,wait=off", "-device", "virtio-rng-pci",
		"-kernel", l.kernel, "-initrd", filepath.Join(l.dir, "image"),
		"-append", fmt.Sprintf("console=ttyS0 loglevel=4 panic=1 nokaslr mitigations=off tsc=reliable no_timer_check random.trust_cpu=on cryptomgr.notests role=%s lan=10.9.0.%d lease=%d",
			role, number, int(lease.Seconds())),
	}
	log, err := os.Create(m.file("qemu"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	m.cmd = exec.Command("qemu-system-x86_64", append(qemu, args...)...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	// A group of its own: a Ctrl-C at the lab is not for it, and it ends with us.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait() // it is killed in the end; an earlier end is found by who asks it
		close(m.done)
	}()
	return m, nil
}

func (m *machine) file(name string) string { return filepath.Join(m.dir, m.role+"."+name) }

// ready waits until the machine is up.
func (m *machine) ready(ctx context.Context) error {
	err := until(ctx, 3*time.Minute, func() (bool, error) {
		select {
		case <-m.done:
			return false, fmt.Errorf("qemu ended: %s", tail(m.file("qemu")))
		default:
		}
		console, err := os.ReadFile(m.file("console"))
		if err == nil && strings.Contains(string(console), "GUEST-FAILED") {
			return false, errors.New("it does not come up")
		}
		return strings.Contains(string(console), "GUEST-UP"), nil
	})
	if err != nil {
		return fmt.Errorf("machine %s: %w; its console: %s", m.role, err, tail(m.file("console")))
	}
	if m.monitor == nil {
		if m.said, err = net.Dial("unix", m.file("monitor")); err != nil {
			return err
		}
		m.monitor = json.NewDecoder(m.said)
		var greeting any
		if err := errors.Join(m.monitor.Decode(&greeting), m.tell("qmp_capabilities", nil)); err != nil {
			return err
		}
	}
	m.rpc, err = rpc.Dial("tcp", m.control)
	return err
}

// reset is the power switch: what the machine had in memory is gone.
func (m *machine) reset(ctx context.Context) error {
	_ = m.rpc.Close()
	if err := errors.Join(os.Truncate(m.file("console"), 0), m.tell("system_reset", nil)); err != nil {
		return err
	}
	return m.ready(ctx)
}

// tell has the machine's monitor do something.
func (m *machine) tell(command string, arguments map[string]any) error {
	if arguments == nil {
		arguments = map[string]any{}
	}
	if err := json.NewEncoder(m.said).Encode(map[string]any{"execute": command, "arguments": arguments}); err != nil {
		return err
	}
	for {
		var answer struct {
			Return *json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err := m.monitor.Decode(&answer); {
		case err != nil:
			return err
		case answer.Error != nil:
			return fmt.Errorf("the monitor of %s refuses %s: %s", m.role, command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}

// cut parts the machine from a network, or joins it again.
func (m *machine) cut(network string, yes bool) error {
	return m.tell("set_link", map[string]any{"name": network, "up": !yes})
}

// ask calls a method of the guest.
func (m *machine) ask(ctx context.Context, method string, what, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	call := m.rpc.Go("Guest."+method, what, answer, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("machine %s: %s: %w", m.role, method, call.Error)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("machine %s: %s: no answer: %w", m.role, method, ctx.Err())
	}
}

// read reads a whole file of the machine's.
func (m *machine) read(ctx context.Context, path string) ([]byte, error) {
	var all []byte
	for {
		var part []byte
		if err := m.ask(ctx, "Read", wire.Read{Path: path, At: int64(len(all))}, &part); err != nil || len(part) == 0 {
			return all, err
		}
		all = append(all, part...)
	}
}

// kernelSays is the end of what the machine's kernel has logged.
func (m *machine) kernelSays(ctx context.Context) string {
	const out = "/tmp/kernel"
	var e wire.Ended
	err := m.ask(ctx, "Start", wire.Start{Name: out, Args: []string{"/bin/busybox", "dmesg"}, Log: out, Out: out}, &struct{}{})
	if err == nil {
		err = m.ask(ctx, "Wait", wire.Wait{Name: out, For: 10 * time.Second}, &e)
	}
	said, readErr := m.read(ctx, out)
	if err := errors.Join(err, readErr); err != nil {
		return err.Error()
	}
	return string(said[max(0, len(said)-1500):])
}

func (m *machine) end() {
	_ = m.cmd.Process.Kill() // it may be over
	<-m.done
	if m.said != nil {
		m.said.Close()
	}
}

// until asks again and again, for what gives no event.
func until(ctx context.Context, patience time.Duration, is func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if yes, err := is(); yes || err != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("not within %v: %w", patience, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func tail(file string) string {
	text, _ := os.ReadFile(file) // it goes into a message about something else
	return string(text[max(0, len(text)-1500):])
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
