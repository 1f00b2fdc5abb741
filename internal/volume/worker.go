package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// request is what a process is asked to do.
type request struct {
	Do    string // write, read, attach; see blocks.go for the others
	Name  string // the file
	Flags int    // of the mode that it is opened in
	Fresh bool   // count: through the file opened anew for this alone
	Range int    // the first range; see rangeOf
	Step  int    // write: from one range to the next
	Count int    // how many ranges
	Piece int    // block: the most bytes of one write; 0 is no bound
	// At is when to begin, so that several begin at once.
	At time.Time
}

// answer is what came of it.
type answer struct {
	Same  bool          // read: the range holds what was written there; peek: all do
	Parts bool          // peek: bytes are there which are not what was written
	Size  int64         // length: what the kernel says of the file
	Bad   int           // count: ranges that do not hold what was written
	Zero  int           // count: those of them that hold nothing but zeros
	Error string        // empty when it worked
	Errno syscall.Errno // the error's, 0 when it has none
}

// err is the error that happened in the other process.
func (a answer) err() error {
	switch {
	case a.Error == "":
		return nil
	case a.Errno == 0:
		return errors.New(a.Error)
	}
	return &otherError{a.Error, a.Errno}
}

type otherError struct {
	text  string
	errno syscall.Errno
}

func (e *otherError) Error() string { return e.text }

func (e *otherError) Unwrap() error { return e.errno }

// Serve is the other process: it does what in asks for and answers on out, until in
// ends, which cuts what is under way short.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	requests := make(chan request)
	go func() { // ends with in, which ends with whoever started us
		defer end()
		for decoder := json.NewDecoder(in); ; {
			var r request
			if decoder.Decode(&r) != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	w := newWorker(osDisk{})
	defer w.close()
	for answers := json.NewEncoder(out); ; {
		select {
		case r := <-requests:
			if err := answers.Encode(w.do(ctx, r)); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// worker does what a process is asked for. A file that it opened stays open, as an
// agent's does: what a descriptor has cached is part of what is tried.
type worker struct {
	disk  disk
	files map[string]file
	ends  []io.Closer // of FIFOs
}

func newWorker(d disk) *worker { return &worker{disk: d, files: map[string]file{}} }

func (w *worker) close() {
	for _, f := range w.files {
		_ = f.Close()
	}
	for _, e := range w.ends {
		_ = e.Close()
	}
}

func (w *worker) do(ctx context.Context, r request) answer {
	a, err := w.try(ctx, r)
	if err != nil {
		a.Error = err.Error()
		errors.As(err, &a.Errno)
	}
	return a
}

func (w *worker) try(ctx context.Context, r request) (answer, error) {
	if r.Do == "attach" {
		end, err := w.disk.attach(r.Name)
		if err == nil {
			w.ends = append(w.ends, end)
		}
		return answer{}, err
	}
	switch {
	case r.Fresh:
		return w.fresh(r)
	case r.Do == "close":
		return answer{}, w.shut(r.Name)
	}
	f, err := w.open(r)
	if err != nil {
		return answer{}, err
	}
	switch r.Do {
	case "open":
		return answer{}, nil
	case "length":
		info, err := f.Stat()
		if err != nil {
			return answer{}, err
		}
		return answer{Size: info.Size()}, nil
	case "block":
		return answer{}, writeBlock(f, r)
	case "peek":
		return peekBlock(f, r)
	case "count":
		return countRanges(f, r)
	case "write":
		return answer{}, writeRanges(ctx, f, r)
	case "read":
		same, err := holdsRange(f, r.Range)
		return answer{Same: same}, err
	}
	return answer{}, fmt.Errorf("asked for %q, which is nothing", r.Do)
}

func (w *worker) open(r request) (f file, err error) {
	if f = w.files[r.Name]; f == nil {
		if f, err = w.disk.open(r.Name, os.O_RDWR|r.Flags); err != nil {
			return nil, err
		}
		w.files[r.Name] = f
	}
	return f, nil
}

// rangeLen divides no page, so that neighbours share most pages, and some ranges are in
// two.
const rangeLen = 199

// rangeOf is what the nth range of a file holds once it is written, and where it is.
func rangeOf(n int) (content []byte, offset int64) {
	content = fmt.Appendf(nil, "%08d ", n)
	content = append(content, bytes.Repeat([]byte{byte('a' + n%26)}, rangeLen-len(content))...)
	return content, int64(n) * rangeLen
}

// writeRanges writes each range with one positional write, then has all of it synced.
func writeRanges(ctx context.Context, f file, r request) error {
	time.Sleep(time.Until(r.At))
	for i := range r.Count {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		content, offset := rangeOf(r.Range + i*r.Step)
		if _, err := f.WriteAt(content, offset); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if err := f.Datasync(); err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	return nil
}

// holdsRange reads a range; one that the file is too short for is not there.
func holdsRange(f file, n int) (bool, error) {
	want, offset := rangeOf(n)
	got := make([]byte, rangeLen)
	read, err := f.ReadAt(got, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read: %w", err)
	}
	return bytes.Equal(got[:read], want), nil
}
