package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
)

// A failpoint is a step of an agent's turn at which something happens to it. The steps
// are named what.operation.when: the file (data, dir), or the ZooKeeper request (join,
// commit, begin, drop), and before, after, or torn, which is half-way.
type failpoint struct {
	Name   string `json:"name"`
	Nth    int    `json:"nth"`    // fires when the step is reached so many times; 0 is 1
	Action string `json:"action"` // one of the below
}

// What happens at a failpoint. The last three are errors that the operation returns.
const (
	actKill   = "kill"   // SIGKILL
	actStop   = "stop"   // SIGSTOP, and on after SIGCONT
	actHold   = "hold"   // wait for the harness's word
	actEIO    = "EIO"    // input/output error
	actENOSPC = "ENOSPC" // no space left on device
	actShort  = "short"  // fewer bytes were written than asked for
)

// event is a line from a child to the harness.
type event struct {
	Event  string `json:"event"` // "fired", or the answer to an order
	Point  string `json:"point,omitempty"`
	Action string `json:"action,omitempty"`
	Turn   uint64 `json:"turn,omitempty"`  // at a commit: which
	Token  string `json:"token,omitempty"` // and whose
}

// failpoints are those armed in a child.
type failpoints struct {
	out  *os.File      // events go there
	goOn chan struct{} // the harness's word

	mu    sync.Mutex
	armed []failpoint
	dying bool // a SIGKILL is on its way
}

func (p *failpoints) arm(points []failpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dying {
		select {} // so that nobody who was obeyed dies after it
	}
	p.armed = points
}

// take tells whether a step that is reached now is to fail, once.
func (p *failpoints) take(name string) *failpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.armed {
		f := p.armed[i]
		if f.Name != name {
			continue
		}
		if f.Nth > 1 {
			p.armed[i].Nth--
			continue
		}
		p.armed = slices.Delete(slices.Clone(p.armed), i, i+1)
		p.dying = f.Action == actKill
		return &f
	}
	return nil
}

// reach is take and do; what an error action makes of it is the error.
func (p *failpoints) reach(name string) error {
	if f := p.take(name); f != nil {
		return p.do(*f, event{})
	}
	return nil
}

// do tells the harness, and then lets it happen.
func (p *failpoints) do(f failpoint, e event) error {
	e.Event, e.Point, e.Action = "fired", f.Name, f.Action
	continued := make(chan os.Signal, 1)
	if f.Action == actStop {
		signal.Notify(continued, syscall.SIGCONT)
		defer signal.Stop(continued)
	}
	p.tell(e)
	switch f.Action {
	case actKill:
		p.must(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		select {} // until the signal has come
	case actStop:
		p.must(syscall.Kill(os.Getpid(), syscall.SIGSTOP))
		<-continued
	case actHold:
		<-p.goOn
	case actEIO:
		return syscall.EIO
	case actENOSPC:
		return syscall.ENOSPC
	case actShort:
		return io.ErrShortWrite
	default:
		panic("no such action: " + f.Action)
	}
	return nil
}

func (p *failpoints) tell(e event) {
	text, err := json.Marshal(e)
	p.must(err)
	_, err = p.out.Write(append(text, '\n'))
	p.must(err)
}

// must ends a child that the harness cannot be told by any more.
func (p *failpoints) must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(99)
	}
}
