package zkdev

import (
	"sync"
	"time"
)

// resumeBelow is how many unsent bytes a connection may have before its next
// request is served. A client that does not read its replies is not read from
// either.
const resumeBelow = 64 << 10

// flushTimeout bounds how long a connection that is to be closed may take to
// read what was still to be said.
const flushTimeout = 5 * time.Second

// outbox holds what a connection is still to be sent, in order. Frames are put
// in under the server's lock, so their order is the order of the transactions;
// the connection's writer takes them out.
type outbox struct {
	mu     sync.Mutex
	change *sync.Cond // any field below changed
	buf    []byte
	held   []byte // events that must follow a reply still to come
	hold   bool   // a reply is still to come
	finish bool   // close once buf is sent
	closed bool   // nobody reads or writes any more
}

func newOutbox() *outbox {
	o := &outbox{}
	o.change = sync.NewCond(&o.mu)
	return o
}

// write lets put append frames. With event set they wait behind a reply that
// is held back. It returns how many bytes are now unsent.
func (o *outbox) write(event bool, put func(*encoder)) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	to := &o.buf
	if event && o.hold {
		to = &o.held
	}
	if !o.closed && !o.finish {
		e := encoder{*to}
		put(&e)
		*to = e.buf
		o.change.Broadcast()
	}
	return len(o.buf) + len(o.held)
}

// holdEvents keeps events back until release: the reply to the current request
// goes first.
func (o *outbox) holdEvents() {
	o.mu.Lock()
	o.hold = true
	o.mu.Unlock()
}

func (o *outbox) release() {
	o.mu.Lock()
	o.buf = append(o.buf, o.held...)
	o.held, o.hold = nil, false
	o.change.Broadcast()
	o.mu.Unlock()
}

// finishThenClose takes no more frames and ends once those there are sent.
func (o *outbox) finishThenClose() {
	o.mu.Lock()
	o.finish = true
	o.change.Broadcast()
	o.mu.Unlock()
}

// close drops what is unsent.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed, o.buf, o.held = true, nil, nil
	o.change.Broadcast()
	o.mu.Unlock()
}

// waitRoom waits until the client has read enough for another request to be
// served, and reports false if the connection ended instead.
func (o *outbox) waitRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && !o.finish && len(o.buf) >= resumeBelow {
		o.change.Wait()
	}
	return !o.closed && !o.finish
}

// next waits for something to send and takes it all; spare is memory to use
// again. With last set the connection is to be closed after it.
func (o *outbox) next(spare []byte) (buf []byte, last, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && !o.finish && len(o.buf) == 0 {
		o.change.Wait()
	}
	if o.closed {
		return nil, true, false
	}
	buf, o.buf = o.buf, spare[:0]
	o.change.Broadcast()
	return buf, o.finish, true
}
