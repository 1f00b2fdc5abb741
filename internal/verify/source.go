package verify

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// plainFile is a file that is read as any program would.
type plainFile struct{ *os.File }

// OpenPlain opens a file as any program would: where a plain read is never stale.
func OpenPlain(path string) (Source, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would make us wait
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file; give the data file itself")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return plainFile{f}, nil
}

func (f plainFile) End() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// sized is a reader whose size is known.
type sized struct {
	io.ReaderAt
	size int64
}

func (s sized) End() (int64, error) { return s.size, nil }
func (s sized) Close() error        { return nil }
