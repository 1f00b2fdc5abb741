package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// reader follows a round's file from its beginning, as tail -F or a log shipper does: it
// knows nothing of Turnstile. Row 22.
type reader struct {
	path  string
	stop  context.CancelFunc
	ended chan struct{}

	read []byte // all that it has seen
	err  error  // the file became shorter
}

// glance is how often it looks whether there is more.
const glance = 2 * time.Millisecond

func follow(ctx context.Context, path string) *reader {
	ctx, stop := context.WithCancel(ctx)
	f := &reader{path: path, stop: stop, ended: make(chan struct{})}
	go func() { // ends with ctx
		defer close(f.ended)
		tick := time.NewTicker(glance)
		defer tick.Stop()
		for f.err == nil {
			f.err = f.more()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

// more reads what is there.
func (f *reader) more() error {
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < int64(len(f.read)) {
		return fmt.Errorf("a reader has seen %d bytes, and the file has %d: it became shorter", len(f.read), info.Size())
	}
	more, err := io.ReadAll(io.NewSectionReader(file, int64(len(f.read)), info.Size()-int64(len(f.read))))
	f.read = append(f.read, more...)
	return err
}

// end holds what it has seen to the file as it is in the end: each byte once, nothing that
// was not committed, no gap, never shorter.
func (f *reader) end() error {
	f.stop()
	<-f.ended
	if f.err != nil {
		return f.err
	}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if at := differ(f.read, data); at < len(f.read) {
		return fmt.Errorf("a reader has seen %.40q at byte %d, and the file has %.40q there", f.read[at:], at, data[min(at, len(data)):])
	}
	return nil
}

// differ is where two texts begin to differ.
func differ(a, b []byte) int {
	n := min(len(a), len(b))
	if bytes.Equal(a[:n], b[:n]) {
		return n
	}
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
