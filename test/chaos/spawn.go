package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// start starts a process that dies with us, however we end. Linux kills a child when
// the thread that started it ends, so all are started by one thread that never does.
func start(cmd *exec.Cmd) error {
	starter.once.Do(func() {
		starter.work = make(chan func())
		go func() { // ends with the process
			runtime.LockOSThread()
			for do := range starter.work {
				do()
			}
		}()
	})
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // a Ctrl-C at the terminal is for us alone
	result := make(chan error)
	starter.work <- func() { result <- cmd.Start() }
	return <-result
}

var starter struct {
	once sync.Once
	work chan func()
}

// send sends sig to a process that may have ended.
func send(p *os.Process, sig syscall.Signal) error {
	if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// freePorts gives n free ports of the loopback below the range from which the kernel
// takes the ports of outgoing connections. None is given twice by this process, and
// another process begins elsewhere.
func freePorts(n int) ([]int, error) {
	const lowest, highest, each = 18000, 32000, 100
	ports.mu.Lock()
	defer ports.mu.Unlock()
	if ports.next == 0 {
		ports.next = lowest + os.Getpid()*each%(highest-lowest)
	}
	var found []int
	for try := 0; len(found) < n && try < highest-lowest; try++ {
		port := ports.next
		if ports.next++; ports.next >= highest {
			ports.next = lowest
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			found = append(found, port)
		}
	}
	if len(found) < n {
		return nil, fmt.Errorf("no free ports on the loopback between %d and %d", lowest, highest)
	}
	return found, nil
}

var ports struct {
	mu   sync.Mutex
	next int
}

// stopped waits until the kernel says that the process is stopped.
func stopped(pid int) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if state(pid) == 'T' {
			return nil
		}
	}
	return fmt.Errorf("process %d did not stop", pid)
}

// state is the process's state letter in /proc, 0 when there is no such process.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	for i := len(stat) - 1; i > 1; i-- { // the name before it may hold anything
		if stat[i-1] == ')' && i+1 < len(stat) {
			return stat[i+1]
		}
	}
	return 0
}
