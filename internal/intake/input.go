package intake

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How long is waited, after Drain, for what may still come: the last words of a program that
// was told to stop by the same signal.
const (
	// Quiet ends it when nothing came for so long.
	Quiet = 250 * time.Millisecond
	// Longest ends it in any case.
	Longest = time.Second
)

// Input is a file that is read while there is something to read, and that can be told to end.
// It leaves the file's settings alone: a terminal, a pipe is not ours alone.
type Input struct {
	file *os.File
	fd   int
	own  bool   // it is ours to close
	wake [2]int // a pipe: closed at its writing end when Drain or Stop was called

	mu      sync.Mutex
	until   time.Time // no waiting beyond it; zero: not told to end
	stopped bool
	woken   sync.Once
}

// Open makes an Input of a file, which stays its owner's.
func Open(file *os.File) (*Input, error) {
	i := &Input{file: file}
	raw, err := file.SyscallConn() // Fd would make it blocking, for all who have it
	if err == nil {
		err = raw.Control(func(fd uintptr) { i.fd = int(fd) })
	}
	if err == nil {
		err = unix.Pipe2(i.wake[:], unix.O_CLOEXEC)
	}
	if err == nil {
		i.openAgain()
	}
	return i, err
}

// openAgain opens a pipe for us alone, so that a read does not block when somebody else who has
// the pipe was faster. Where that is not permitted we do without.
func (i *Input) openAgain() {
	if info, err := i.file.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return
	}
	own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", i.fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		i.fd, i.own = own, true
	}
}

// Close lets go of what Open took, but not of the file. Nobody may be reading.
func (i *Input) Close() {
	i.awake()
	unix.Close(i.wake[0])
	if i.own {
		unix.Close(i.fd)
	}
}

// awake wakes Read, once and for all.
func (i *Input) awake() { i.woken.Do(func() { unix.Close(i.wake[1]) }) }

// Read reads what is there, or waits for it. ErrUnfinished says that nothing is waited for any
// more, io.EOF that nothing will come.
func (i *Input) Read(p []byte) (int, error) {
	for {
		wait, end := i.patience()
		if end {
			return 0, ErrUnfinished
		}
		ready, err := i.poll(wait)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, err
		case ready:
			n, err := unix.Read(i.fd, p)
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) { // somebody else has read it
				continue
			}
			if n == 0 && err == nil {
				err = io.EOF
			}
			return max(n, 0), err
		case wait >= 0:
			return 0, ErrUnfinished
		}
	}
}

// patience is how long to wait for something to read, below 0 for ever, and whether no more
// is to be read at all.
func (i *Input) patience() (wait time.Duration, end bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch left := time.Until(i.until); {
	case i.stopped:
		return 0, true
	case i.until.IsZero():
		return -1, false
	default:
		return min(Quiet, left), left <= 0
	}
}

// poll waits until there is something to read, or until it was told to end.
func (i *Input) poll(wait time.Duration) (ready bool, err error) {
	fds := []unix.PollFd{{Fd: int32(i.fd), Events: unix.POLLIN}}
	timeout := int(wait.Milliseconds())
	if wait < 0 {
		timeout = -1
		fds = append(fds, unix.PollFd{Fd: int32(i.wake[0]), Events: unix.POLLIN})
	}
	_, err = unix.Poll(fds, timeout)
	return fds[0].Revents != 0, err
}

// Drain lets Read go on with what is in a pipe or a socket already, and with what comes at
// once. Anything else can be read again, and is not read any more.
func (i *Input) Drain() {
	until := time.Now().Add(Longest)
	if info, err := i.file.Stat(); err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		until = time.Now()
	}
	i.mu.Lock()
	if i.until.IsZero() {
		i.until = until
	}
	i.mu.Unlock()
	i.awake()
}

// Stop ends all reading.
func (i *Input) Stop() {
	i.mu.Lock()
	i.stopped = true
	i.mu.Unlock()
	i.awake()
}
