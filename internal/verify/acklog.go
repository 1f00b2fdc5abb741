package verify

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// mostAckLine is more than any line of an acknowledgement log can be.
const mostAckLine = 256

// ackLog is one acknowledgement log, read along with the file.
type ackLog struct {
	name string
	file *os.File
	text *io.SectionReader // what it held when it was opened
	in   *bufio.Reader
	line int64 // the number of the line that next is

	run  frame.AckRun
	runs int       // how many have begun
	told int64     // acknowledgements of this run before next
	prev frame.Ack // the last of them
	next frame.Ack // what it tells next,
	more bool      // if there is any more

	echoes []echo // turns of this run's agent that it never told of, since prev
}

// echo is a turn that an agent wrote and did not acknowledge. If its records come
// again right after, they were written twice.
type echo struct {
	turn    uint64
	bytes   int64
	payload [32]byte
}

// openAckLog opens a log and takes its size: what is added later is not read. A
// last line without its newline was never told.
func openAckLog(path string) (*ackLog, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l, err := newAckLog(path, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

func newAckLog(path string, f *os.File) (*ackLog, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	l := &ackLog{name: filepath.Base(path), file: f}
	l.text = io.NewSectionReader(f, 0, info.Size())
	l.in = bufio.NewReaderSize(l.text, 4096)
	begin, err := l.in.Peek(int(min(info.Size(), mostAckLine)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if line, _, whole := bytes.Cut(begin, newline); whole || len(begin) == mostAckLine {
		if _, err := frame.ParseAckRun(line); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return l, nil
}

// rewind goes back to the log's beginning.
func (l *ackLog) rewind() error {
	if _, err := l.text.Seek(0, io.SeekStart); err != nil {
		return err
	}
	l.in.Reset(l.text)
	*l = ackLog{name: l.name, file: l.file, text: l.text, in: l.in}
	return nil
}

var (
	// errAckLine is wrapped when a line of a log is none; the rest cannot be trusted.
	errAckLine = errors.New("a line that is no acknowledgement")
	// errAckOrder says that an acknowledgement does not come after the one before.
	errAckOrder = errors.New("an acknowledgement that does not come after the one before it")
)

// advance reads the next acknowledgement.
func (l *ackLog) advance() error {
	l.prev, l.more = l.next, false
	l.told++
	for {
		text, err := l.readLine()
		if err != nil || text == nil {
			return err
		}
		if text[0] != '#' {
			if l.next, err = frame.ParseAck(text); err != nil {
				return errAckLine
			}
			l.more = true
			if l.told > 0 && compareAcks(l.next, l.prev) <= 0 {
				return errAckOrder
			}
			return nil
		}
		if frame.IsPending(text) { // committed, and not acknowledged
			if _, err := frame.ParsePending(text); err != nil || l.runs == 0 {
				return errAckLine
			}
			continue
		}
		if l.run, err = frame.ParseAckRun(text); err != nil {
			return errAckLine
		}
		l.runs, l.told, l.echoes = l.runs+1, 0, nil
	}
}

// skipRun goes on at the next run of the log.
func (l *ackLog) skipRun() error {
	for was := l.runs; l.more && l.runs == was; {
		if err := l.advance(); err != nil && err != errAckOrder {
			return err
		}
	}
	return nil
}

func compareAcks(a, b frame.Ack) int {
	return cmp.Or(cmp.Compare(a.Turn, b.Turn), cmp.Compare(a.Line, b.Line))
}

// readLine gives the next whole line without its newline, or nil when there is
// none.
func (l *ackLog) readLine() ([]byte, error) {
	text, err := l.in.ReadSlice('\n')
	switch {
	case err == io.EOF:
		return nil, nil
	case err == bufio.ErrBufferFull || err == nil && len(text) < 2:
		l.line++
		return nil, errAckLine
	case err != nil:
		return nil, err
	}
	l.line++
	return text[:len(text)-1], nil
}

// openAckLogs opens the logs that paths name; a directory stands for the regular
// files in it.
func openAckLogs(paths []string) (logs []*ackLog, err error) {
	defer func() {
		if err != nil {
			closeAckLogs(logs)
		}
	}()
	for _, path := range paths {
		names := []string{path}
		if info, err := os.Stat(path); err != nil {
			return logs, err
		} else if info.IsDir() {
			if names, err = regularFiles(path); err != nil {
				return logs, err
			}
		}
		for _, name := range names {
			l, err := openAckLog(name)
			if err != nil {
				return logs, err
			}
			logs = append(logs, l)
		}
	}
	return logs, nil
}

func regularFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, err
}

func closeAckLogs(logs []*ackLog) {
	for _, l := range logs {
		l.file.Close()
	}
}
