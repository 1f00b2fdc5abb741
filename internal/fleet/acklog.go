package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// AckLog writes down what was acknowledged, for the verifier to hold the file to.
type AckLog struct {
	file  *os.File
	begun frame.AckRun
	buf   []byte
}

// OpenAckLog opens or creates a log to append to. A last line that a crash left
// incomplete was never told to anybody, and is cut off.
func OpenAckLog(path string) (*AckLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the acknowledgement log: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another process: give each agent an acknowledgement log of its own", path)
	}
	if err := mustBeAckLog(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s %w: nothing was changed; give the path of a new file or of an acknowledgement log", path, err)
	}
	end, err := endOfLastLine(f)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the acknowledgement log: %w", err)
	}
	return &AckLog{file: f}, nil
}

// mustBeAckLog refuses a file that holds anything but what we write.
func mustBeAckLog(f *os.File) error {
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
func endOfLastLine(f *os.File) (int64, error) {
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

// Write must not return nil until the records of a turn are in the log, on disk.
func (a *AckLog) Write(run frame.AckRun, turn uint64, records [][]byte) error {
	a.buf = a.buf[:0]
	if run != a.begun {
		a.buf = append(append(a.buf, run.Line()...), '\n')
	}
	for i, r := range records {
		a.buf = frame.AppendAck(a.buf, frame.Ack{Turn: turn, Line: i + 1, Hash: sha256.Sum256(r)})
	}
	if _, err := a.file.Write(a.buf); err != nil {
		return fmt.Errorf("write the acknowledgement log: %w", err)
	}
	if err := unix.Fdatasync(int(a.file.Fd())); err != nil {
		return fmt.Errorf("write the acknowledgement log: fdatasync: %w", err)
	}
	a.begun = run
	return nil
}

// Close closes the log.
func (a *AckLog) Close() error { return a.file.Close() }
