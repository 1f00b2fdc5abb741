package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// feeder gives a process its records, one a line, through its standard input.
type feeder struct {
	proc string
	pipe *os.File
	rest time.Duration // between records
	done chan struct{} // closed when it has ended

	mu     sync.Mutex
	change *sync.Cond
	paused bool
	idle   bool // paused, and not in the middle of a record
	ended  bool
	fed    int // records
	last   int // pause behind this one; 0: behind none
}

func newFeeder(proc string, pipe *os.File, rest time.Duration) *feeder {
	f := &feeder{proc: proc, pipe: pipe, rest: rest, done: make(chan struct{})}
	f.change = sync.NewCond(&f.mu)
	go f.run()
	return f
}

// run ends with the pipe: when the process ends, or with end.
func (f *feeder) run() {
	defer close(f.done)
	defer f.pipe.Close()
	for f.next() {
		f.mu.Lock()
		f.fed++ // before it is: a record that the process may have is one that was fed
		n := f.fed
		f.paused = f.paused || n == f.last
		f.mu.Unlock()
		if _, err := fmt.Fprintln(f.pipe, record(f.proc, n)); err != nil {
			return // nobody reads any more
		}
		if f.rest > 0 {
			time.Sleep(f.rest)
		}
	}
}

// next waits while paused, and is false at the end.
func (f *feeder) next() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.paused && !f.ended {
		f.idle = true
		f.change.Broadcast()
		f.change.Wait()
	}
	f.idle = false
	return !f.ended
}

// given is how many records the process was given, or is just being given.
func (f *feeder) given() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fed
}

// pause makes the feeder stop behind a record. resting tells when it has.
func (f *feeder) pause() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = true
}

func (f *feeder) resting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.done:
		return true
	default:
		return f.idle
	}
}

func (f *feeder) goOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = false
	f.change.Broadcast()
}

// some lets a feeder that is paused give so many records more.
func (f *feeder) some(n int) {
	f.mu.Lock()
	f.last = f.fed + n
	f.mu.Unlock()
	f.goOn()
}

// end closes the process's input behind the record that is being written.
func (f *feeder) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.change.Broadcast()
}

// abandon ends it though nobody reads.
func (f *feeder) abandon() {
	f.end()
	_ = f.pipe.SetWriteDeadline(time.Now()) // it may be closed already
	<-f.done
}
