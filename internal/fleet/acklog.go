package fleet

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// AckLog writes down what was acknowledged, for the verifier to hold the file to.
type AckLog struct {
	Log *zap.Logger // told when somebody changed the file

	path    string
	closing sync.Mutex // for closed, and for file where the other goroutine changes or closes it
	closed  bool

	using chan struct{} // capacity 1: full while somebody uses what follows
	file  ackFile
	end   int64 // of the last line that is known to be on disk
	torn  bool  // there may be more in the file than that
	ended bool  // what was pending is noted: nothing is acknowledged any more
	begun frame.AckRun
	buf   []byte

	pending []Left // what earlier runs noted, and nobody has acknowledged since
}

// Left is a turn that an agent had to leave: committed and not acknowledged.
type Left struct {
	Run frame.AckRun
	frame.Pending
}

// ackFile is what the log needs of its file, so that a test can have a disk that is full.
type ackFile interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
	Datasync() error
	Close() error
}

// ackOnDisk is a file of the system's.
type ackOnDisk struct{ *os.File }

// Datasync holds the descriptor while it runs: the log may be closed meanwhile.
func (f ackOnDisk) Datasync() error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fdatasync(int(fd)) }), err)
}

// errAcksEnded says that the log's last word was what is pending.
var errAcksEnded = errors.New("what is pending was noted: nothing is acknowledged any more")

// OpenAckLog opens or creates a log to append to. A last line that a crash left
// incomplete was never told to anybody, and is cut off.
func OpenAckLog(path string) (*AckLog, error) {
	f, end, err := openAckFile(path)
	if err != nil {
		return nil, err
	}
	log := &AckLog{Log: zap.NewNop(), path: path, using: make(chan struct{}, 1), file: ackOnDisk{f}, end: end}
	if err := log.readPending(io.NewSectionReader(f, 0, end)); err != nil {
		f.Close()
		return nil, fmt.Errorf("read the acknowledgement log: %w", err)
	}
	return log, nil
}

// openAckFile gives the file, for this process alone, and where its last line ends.
func openAckFile(path string) (_ *os.File, end int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, 0, fmt.Errorf("open the acknowledgement log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("%s is in use by another process: give each agent an acknowledgement log of its own", path)
	}
	if err := mustBeAckLog(ackOnDisk{f}); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("%s %w: nothing was changed; give the path of a new file or of an acknowledgement log", path, err)
	}
	end, err = endOfLastLine(ackOnDisk{f})
	if err == nil {
		err = f.Truncate(end)
	}
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open the acknowledgement log: %w", err)
	}
	return f, end, nil
}

// readPending reads what earlier runs left pending and nobody has acknowledged since.
func (a *AckLog) readPending(text io.Reader) error {
	var of frame.AckRun
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		if run, err := frame.ParseAckRun(lines.Bytes()); err == nil {
			of = run
			continue
		}
		if !frame.IsPending(lines.Bytes()) {
			if ack, err := frame.ParseAck(lines.Bytes()); err == nil { // settled since
				a.pending = slices.DeleteFunc(a.pending, func(l Left) bool {
					return l.Turn == ack.Turn && l.Run.Incarnation == of.Incarnation
				})
			}
			continue
		}
		p, err := frame.ParsePending(lines.Bytes())
		if err != nil {
			return err
		}
		a.pending = append(a.pending, Left{of, p})
	}
	return lines.Err()
}

// mustBeAckLog refuses a file that holds anything but what we write.
func mustBeAckLog(f ackFile) error {
	begin := make([]byte, frame.MaxLine)
	n, err := f.ReadAt(begin, 0)
	if n == 0 && errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	line, _, _ := bytes.Cut(begin[:n], []byte("\n"))
	if _, err := frame.ParseAckRun(line); err != nil {
		return errors.New("is no acknowledgement log")
	}
	return nil
}

// endOfLastLine is the offset just behind the last newline, 0 when there is none.
func endOfLastLine(f ackFile) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const longest = 512 // a line is about 90 bytes
	from := max(0, info.Size()-longest)
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil {
		return 0, err
	}
	i := bytes.LastIndexByte(tail, '\n')
	if i < 0 && from > 0 {
		return 0, errors.New("not an acknowledgement log: a line is too long")
	}
	return from + int64(i) + 1, nil
}

// Write must not return nil until the records of a turn are in the log, on disk. After
// Pend it writes nothing.
func (a *AckLog) Write(run frame.AckRun, turn uint64, records [][]byte) error {
	a.using <- struct{}{}
	defer func() { <-a.using }()
	if a.ended {
		return errAcksEnded
	}
	if err := a.find(); err != nil {
		return err
	}
	a.buf = a.buf[:0]
	a.head(a.begun, run)
	for i, r := range records {
		a.buf = frame.AppendAck(a.buf, frame.Ack{Turn: turn, Line: i + 1, Hash: sha256.Sum256(r)})
	}
	return a.flush(run)
}

// Pend must not return nil until it is noted, on disk, that turns are committed and not
// acknowledged. The next run settles them: so it is the last that is written.
func (a *AckLog) Pend(left []Left) error {
	a.using <- struct{}{}
	defer func() { <-a.using }()
	a.ended = true
	if err := a.find(); err != nil {
		return err
	}
	a.buf = a.buf[:0]
	run := a.begun
	for _, l := range left {
		run = a.head(run, l.Run)
		a.buf = frame.AppendPending(a.buf, l.Pending)
	}
	return a.flush(run)
}

// find makes sure that what is written next is read by whoever reads the file: people empty
// such files, and move them away, while we have them open.
func (a *AckLog) find() error {
	ours, err := a.file.Stat()
	if err != nil {
		return fmt.Errorf("look at the acknowledgement log: %w", err)
	}
	switch named, err := os.Lstat(a.path); {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("look at the acknowledgement log: %w", err)
	case err != nil || !os.SameFile(ours, named):
		file, end, err := openAckFile(a.path)
		if err != nil {
			return err
		}
		a.Log.Warn("the acknowledgement log was moved away or removed: beginning another", zap.String("file", a.path))
		if err := a.use(ackOnDisk{file}); err != nil {
			return err
		}
		a.end, a.torn, a.begun = end, false, frame.AckRun{}
	case ours.Size() < a.end:
		end, err := endOfLastLine(a.file)
		if err != nil {
			return fmt.Errorf("look at the acknowledgement log: %w", err)
		}
		a.Log.Warn("the acknowledgement log was cut: what was acknowledged before is not in it any more", zap.String("file", a.path), zap.Int64("bytes", end))
		a.end, a.torn, a.begun = end, ours.Size() > end, frame.AckRun{}
	case ours.Size() > a.end && !a.torn:
		return fmt.Errorf("somebody else has written to the acknowledgement log: cut that off (truncate -s %d %s), or move the file away", a.end, a.path)
	}
	return nil
}

// head begins a run's lines, if those before are another's.
func (a *AckLog) head(before, run frame.AckRun) frame.AckRun {
	if run != before {
		a.buf = append(append(a.buf, run.Line()...), '\n')
	}
	return run
}

// flush adds the lines, all or none: what did not get onto the disk whole, as when that is
// full, is cut off again, or the next line would be glued to it.
func (a *AckLog) flush(run frame.AckRun) error {
	err := a.cut()
	if err == nil {
		a.torn = true
		_, err = a.file.WriteAt(a.buf, a.end)
	}
	if err != nil {
		return fmt.Errorf("write the acknowledgement log: %w", errors.Join(err, a.cut()))
	}
	if err := a.file.Datasync(); err != nil {
		return fmt.Errorf("write the acknowledgement log: fdatasync: %w", errors.Join(err, a.cut()))
	}
	a.begun, a.end, a.torn = run, a.end+int64(len(a.buf)), false
	return nil
}

// cut cuts off what lies behind the last line that is known to be on disk.
func (a *AckLog) cut() error {
	if !a.torn {
		return nil
	}
	if err := a.file.Truncate(a.end); err != nil {
		return fmt.Errorf("cut off what was not written whole: %w", err)
	}
	a.torn = false
	return nil
}

// use goes on with another file, unless the log was closed.
func (a *AckLog) use(file ackFile) error {
	a.closing.Lock()
	defer a.closing.Unlock()
	if a.closed {
		return errors.Join(os.ErrClosed, file.Close())
	}
	err := a.file.Close()
	a.file = file
	return err
}

// Close closes the log, though something may be being written.
func (a *AckLog) Close() error {
	a.closing.Lock()
	defer a.closing.Unlock()
	a.closed = true
	return a.file.Close()
}
