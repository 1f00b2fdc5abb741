package writer

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// End measures where the file ends. The kernel's own word for it is stale on a network
// volume, and a fresh read is asked there.
func (f *File) End() (int64, error) {
	if f.Mode != Direct {
		info, err := f.data.Stat()
		if err != nil {
			return 0, fmt.Errorf("measure %s: %w", f.Path, err)
		}
		f.end = info.Size
		return f.end, nil
	}
	if f.room == nil {
		f.room = make([]byte, step)
	}
	end, err := measure(f.data, f.end, f.room)
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", f.Path, err)
	}
	f.end = end
	return end, nil
}

// step is how much is read at once to find the end.
const step = 64 << 10

// measure finds the end by reading on, into room, from where the file ended before. When it
// became shorter since, the end lies below, and halving finds it.
func measure(r io.ReaderAt, from int64, room []byte) (int64, error) {
	for at := from; ; {
		n, err := r.ReadAt(room, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		at += int64(n)
		switch {
		case n == len(room):
		case at > from || from == 0:
			return at, nil
		default:
			return halve(r, from)
		}
	}
}

// halve finds the end of a file that has no byte at most.
func halve(r io.ReaderAt, most int64) (int64, error) {
	var one [1]byte
	n, err := r.ReadAt(one[:], most-1)
	if n == 1 {
		return most, nil
	}
	low, high := int64(0), most-1 // the end is in [low, high]
	for low < high && (err == nil || errors.Is(err, io.EOF)) {
		middle := low + (high-low)/2
		if n, err = r.ReadAt(one[:], middle); n == 1 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return low, nil
}

// Reader reads the shared file, fresh on any volume.
type Reader struct{ f *File }

// OpenReader opens a file for reading alone, whatever names it has. The error is
// os.ErrNotExist when there is none.
func OpenReader(path string, mode Mode) (*Reader, error) {
	h, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|mode.Flags(), 0) // a FIFO would make us wait
	if err != nil {
		return nil, err
	}
	info, err := osFile{h}.Stat()
	if err == nil && !info.Regular {
		err = irregular(path)
	}
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return &Reader{&File{Options: Options{Path: path, Mode: mode}, data: osFile{h}}}, nil
}

// ReadAt is io.ReaderAt.
func (r *Reader) ReadAt(b []byte, at int64) (int, error) { return r.f.data.ReadAt(b, at) }

// End measures where the file ends.
func (r *Reader) End() (int64, error) { return r.f.End() }

// Close closes the file.
func (r *Reader) Close() error { return r.f.data.Close() }
