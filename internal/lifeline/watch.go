package lifeline

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// openPipe is a variable, so that a test can have a volume that hangs.
var openPipe = openFIFO

// atMost is how long Watch waits for a volume that may hang: who has a place in a queue
// must not be kept from its turn.
const atMost = 250 * time.Millisecond

// Watch closes died when the process that holds the FIFO of a life has let go of it. It
// looks until stop is called; after that died is closed by nobody. An error says that
// nothing can be known, and so does a died that is never closed, when the volume hangs.
func (d Dir) Watch(life string) (died <-chan struct{}, stop func(), err error) {
	if err := check(nameOf(life)); err != nil {
		return nil, nil, err
	}
	w := &looker{gone: make(chan struct{}), ended: make(chan struct{}), opened: make(chan error, 1)}
	go w.look(d, life) // ends with the FIFO, or with stop; while the volume hangs, after that
	patience := time.NewTimer(atMost)
	defer patience.Stop()
	select {
	case err := <-w.opened:
		if err != nil {
			return nil, nil, err
		}
	case <-patience.C:
	}
	return w.gone, w.stop, nil
}

// looker looks at one life.
type looker struct {
	gone   chan struct{} // closed when the life has ended
	ended  chan struct{} // closed when nobody looks any more
	opened chan error

	mu      sync.Mutex // guards what follows
	file    *os.File   // the FIFO, nil before it is open
	stopped bool
}

func (w *looker) look(d Dir, life string) {
	defer close(w.ended)
	file, err := d.open(life)
	if err == nil {
		err = w.keep(file)
	}
	w.opened <- err
	if err != nil {
		return
	}
	// What strangers write into it is thrown away.
	if _, err := io.Copy(io.Discard, file); err == nil {
		close(w.gone)
	}
}

// keep has stop close the file; if it was called already, the error is os.ErrClosed.
func (w *looker) keep(file *os.File) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		file.Close()
		return os.ErrClosed
	}
	w.file = file
	return nil
}

func (w *looker) stop() {
	w.mu.Lock()
	w.stopped = true
	file := w.file
	w.mu.Unlock()
	if file != nil {
		file.Close()
		<-w.ended
	}
}

// open opens the FIFO of a life, if it is the one that its owner holds.
func (d Dir) open(life string) (*os.File, error) {
	path := d.Path(life)
	fd, err := openPipe(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if seen, err := lifeOf(nameOf(life), fd); err != nil || seen != life {
		unix.Close(fd)
		return nil, errors.Join(err, fmt.Errorf("%s is another FIFO than its owner holds: %s, not %s", path, seen, life))
	}
	file := os.NewFile(uintptr(fd), path)
	if err := file.SetReadDeadline(time.Time{}); err != nil { // then Read would not wait either
		file.Close()
		return nil, err
	}
	return file, nil
}
