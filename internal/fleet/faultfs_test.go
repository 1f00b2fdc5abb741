package fleet_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// deed is one operation on the volume.
type deed struct {
	op     string // open, lstat, syncdir, stat, read, write, datasync or close
	name   string // the last element
	handle int    // which descriptor, from 1; 0 when none
	at     int64
	bytes  []byte // of a write
	failed bool
}

func (d deed) String() string { return fmt.Sprintf("%s#%d@%d+%d", d.op, d.handle, d.at, len(d.bytes)) }

// faultFS is the real file system as one agent has it, with a fault in front of each
// operation, and a log of what was done.
type faultFS struct {
	writer.OS

	after func(deed) // told of each that is done; nil: nobody is
	quiet bool       // no log is kept

	mu      sync.Mutex
	fault   func(deed) (short int, err error) // may block; nil: none
	opened  int
	stuck   atomic.Int64 // operations that hang, or did
	done    []deed
	entered map[string]int // operations by name that have begun
}

func newFaultFS() *faultFS { return &faultFS{entered: map[string]int{}} }

// set replaces the fault. An operation that is being held goes on with the one it met.
func (f *faultFS) set(fault func(deed) (short int, err error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *faultFS) heal() { f.set(nil) }

// fail makes an operation fail until the volume is mended.
func (f *faultFS) fail(op string, err error) {
	f.set(func(d deed) (int, error) {
		if d.op == op {
			return 0, fmt.Errorf("%s: %w", op, err)
		}
		return 0, nil
	})
}

// failNth makes an operation fail once; of a write, short bytes arrive all the same.
func (f *faultFS) failNth(op string, nth, short int, err error) {
	var mu sync.Mutex
	seen := 0
	f.set(func(d deed) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if d.op != op {
			return 0, nil
		}
		if seen++; seen != nth {
			return 0, nil
		}
		return short, fmt.Errorf("%s: %w", op, err)
	})
}

// hang makes an operation hang until let is called, and all of it go on then.
func (f *faultFS) hang(op string) (let func()) {
	free := make(chan struct{})
	f.set(func(d deed) (int, error) {
		if d.op == op {
			f.stuck.Add(1)
			<-free
		}
		return 0, nil
	})
	return sync.OnceFunc(func() { f.heal(); close(free) })
}

// begun is how many operations of that name have begun.
func (f *faultFS) begun(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.entered[op]
}

// log is what was done, of the operations with these names.
func (f *faultFS) log(ops ...string) (done []deed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.done {
		if slices.Contains(ops, d.op) {
			done = append(done, d)
		}
	}
	return done
}

// do is one operation: short is what of it is done when it fails.
func (f *faultFS) do(d deed, do func() error, part func(short int)) error {
	f.mu.Lock()
	fault := f.fault
	f.entered[d.op]++
	f.mu.Unlock()
	var err error
	short := 0
	if fault != nil {
		short, err = fault(d)
	}
	switch {
	case err == nil:
		err = do()
	case part != nil:
		part(short)
	}
	d.failed = err != nil
	if f.after != nil {
		f.after(d)
	}
	f.note(d)
	return err
}

func (f *faultFS) note(d deed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.quiet {
		f.done = append(f.done, d)
	}
}

func (f *faultFS) Open(name string, flag int) (h writer.Handle, err error) {
	err = f.do(deed{op: "open", name: filepath.Base(name)}, func() (err error) { h, err = f.OS.Open(name, flag); return err }, nil)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	return &faultHandle{h, f, filepath.Base(name), f.opened}, nil
}

func (f *faultFS) Lstat(name string) (info writer.Info, err error) {
	err = f.do(deed{op: "lstat", name: filepath.Base(name)}, func() (err error) { info, err = f.OS.Lstat(name); return err }, nil)
	return info, err
}

func (f *faultFS) SyncDir(name string) error {
	return f.do(deed{op: "syncdir", name: filepath.Base(name)}, func() error { return f.OS.SyncDir(name) }, nil)
}

type faultHandle struct {
	h    writer.Handle
	fs   *faultFS
	name string
	n    int
}

func (h *faultHandle) deed(op string, at int64, b []byte) deed {
	return deed{op: op, name: h.name, handle: h.n, at: at, bytes: b}
}

func (h *faultHandle) ReadAt(b []byte, at int64) (n int, err error) {
	done := false
	failed := h.fs.do(h.deed("read", at, nil), func() error { done = true; n, err = h.h.ReadAt(b, at); return nil }, nil)
	if !done {
		return 0, failed
	}
	return n, err
}

func (h *faultHandle) WriteAt(b []byte, at int64) (n int, err error) {
	err = h.fs.do(h.deed("write", at, slices.Clone(b)),
		func() (err error) { n, err = h.h.WriteAt(b, at); return err },
		func(short int) { n, _ = h.h.WriteAt(b[:min(short, len(b))], at) })
	return n, err
}

func (h *faultHandle) Stat() (info writer.Info, err error) {
	err = h.fs.do(h.deed("stat", 0, nil), func() (err error) { info, err = h.h.Stat(); return err }, nil)
	return info, err
}

func (h *faultHandle) Datasync() error {
	h.fs.note(h.deed("datasync.begins", 0, nil))
	return h.fs.do(h.deed("datasync", 0, nil), h.h.Datasync, nil)
}

func (h *faultHandle) Close() error {
	return h.fs.do(h.deed("close", 0, nil), h.h.Close, nil)
}
