package volume

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/writer"
)

// request is what a process is asked to do.
type request struct {
	Do     string        // lock, unlock, count, append, attach
	Name   string        // the file
	Number int           // the process's own
	For    time.Duration // count, append: how long
	Bytes  int64         // append: at most so many
}

// answer is what came of it.
type answer struct {
	Busy  bool          // lock: another has it
	Done  int           // count, append: how often
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
	w := newWorker(OS{})
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

// worker does what a process is asked for.
type worker struct {
	fs    FS
	files map[string]writer.Handle
	ends  []io.Closer // of FIFOs
}

func newWorker(fs FS) *worker { return &worker{fs: fs, files: map[string]writer.Handle{}} }

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
	switch r.Do {
	case "attach":
		end, err := w.fs.Attach(r.Name)
		if err == nil {
			w.ends = append(w.ends, end)
		}
		return answer{}, err
	case "append":
		return appendFrames(ctx, w.fs, r, time.Now().Add(r.For))
	}
	f, err := w.open(r.Name)
	if err != nil {
		return answer{}, err
	}
	switch r.Do {
	case "lock":
		err := f.TryLock()
		if errors.Is(err, writer.ErrLocked) {
			return answer{Busy: true}, nil
		}
		return answer{}, wrap("flock", err)
	case "unlock":
		return answer{}, wrap("unlock", f.Unlock())
	case "count":
		return count(ctx, f, time.Now().Add(r.For))
	}
	return answer{}, fmt.Errorf("asked for %q, which is nothing", r.Do)
}

// open opens a file that is to stay open, once.
func (w *worker) open(name string) (f writer.Handle, err error) {
	if f = w.files[name]; f == nil {
		if f, err = w.fs.Open(name, os.O_RDWR); err != nil {
			return nil, err
		}
		w.files[name] = f
	}
	return f, nil
}

func wrap(what string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// count adds one to the file's number under its flock, once and then again and again
// until end. Each reads what another process may have written just before.
func count(ctx context.Context, f writer.Handle, end time.Time) (a answer, err error) {
	for pause := shortest; ctx.Err() == nil && (a.Done == 0 || time.Now().Before(end)); {
		switch err := f.TryLock(); {
		case errors.Is(err, writer.ErrLocked):
			if late := time.Since(end); late > patience {
				return a, fmt.Errorf("the flock was not free for %v, though others have ended", late)
			}
			// There is no flock that can be waited for until a given time.
			time.Sleep(pause)
			pause = min(2*pause, 20*shortest)
			continue
		case err != nil:
			return a, fmt.Errorf("flock: %w", err)
		}
		err = addOne(f)
		if err := errors.Join(err, f.Unlock()); err != nil {
			return a, fmt.Errorf("under the flock: %w", err)
		}
		a.Done++
		pause = shortest
	}
	return a, nil
}

const shortest = 50 * time.Microsecond

func addOne(f writer.Handle) error {
	n, err := number(f)
	if err == nil {
		_, err = f.WriteAt(binary.BigEndian.AppendUint64(nil, n+1), 0)
	}
	return err
}

func number(f io.ReaderAt) (uint64, error) {
	var b [8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}
