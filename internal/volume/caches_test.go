package volume

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// client is a machine with a page cache of its own before a file system, which is the
// server. It does what Linux's NFS client was measured to do: a write through the cache
// sends all of a page that the cache has, and what the cache has is not asked for again.
type client struct {
	osDisk
	local    bool // it has no cache of its own: it is the server
	noDirect bool

	write func(name string, f file, b []byte, off int64) (int, error) // in place of a write to the server
	size  func(int64) int64                                           // what the kernel says of it
	read  func(name string)                                           // told of each read

	mu    sync.Mutex
	files map[string]*cached
}

// cached is what the client has of a file.
type cached struct {
	pages map[int64][]byte
	size  int64
}

func (c *client) open(name string, flag int) (file, error) {
	plain := flag & (os.O_RDWR | os.O_CREATE | os.O_EXCL)
	if c.noDirect && flag&unix.O_DIRECT != 0 {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	f, err := c.osDisk.open(name, plain)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files == nil {
		c.files = map[string]*cached{}
	}
	c.files[name] = &cached{pages: map[int64][]byte{}, size: info.Size()} // close to open: what it had is asked for again
	return &clientFile{file: f, client: c, name: name, flag: flag &^ plain}, nil
}

type clientFile struct {
	file
	client *client
	name   string
	flag   int
}

func (f *clientFile) send(b []byte, off int64) (int, error) {
	if f.client.write != nil {
		return f.client.write(filepath.Base(f.name), f.file, b, off)
	}
	return f.file.WriteAt(b, off)
}

func (f *clientFile) WriteAt(b []byte, off int64) (int, error) {
	c := f.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local || f.flag&unix.O_DIRECT != 0 {
		return f.send(b, off)
	}
	has, end := c.files[f.name], off+int64(len(b))
	has.size = max(has.size, end)
	from, to := off, end
	for at := off &^ (pageSize - 1); at < end; at += pageSize {
		page := has.pages[at]
		if page == nil {
			continue
		}
		begin := max(at, off)
		copy(page[begin-at:], b[begin-off:])
		if f.flag == 0 { // all that it has of the page goes
			from, to = min(from, at), max(to, min(at+pageSize, has.size))
		}
	}
	whole := make([]byte, to-from)
	copy(whole[off-from:], b)
	for at := from &^ (pageSize - 1); at < to; at += pageSize {
		if page := has.pages[at]; page != nil && f.flag == 0 {
			begin := max(at, from)
			copy(whole[begin-from:], page[begin-at:])
		}
	}
	if _, err := f.send(whole, from); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *clientFile) ReadAt(b []byte, off int64) (int, error) {
	c := f.client
	if c.read != nil {
		c.read(filepath.Base(f.name))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local || f.flag&unix.O_DIRECT != 0 {
		return f.file.ReadAt(b, off)
	}
	has, n := c.files[f.name], 0
	for n < len(b) {
		at := (off + int64(n)) &^ (pageSize - 1)
		page := has.pages[at]
		if page == nil {
			page = make([]byte, pageSize)
			if _, err := f.file.ReadAt(page, at); err != nil && !errors.Is(err, io.EOF) {
				return n, err
			}
			info, err := f.file.Stat()
			if err != nil {
				return n, err
			}
			has.pages[at], has.size = page, info.Size()
		}
		if off+int64(n) >= has.size {
			return n, io.EOF
		}
		skip := off + int64(n) - at
		n += copy(b[n:], page[skip:min(pageSize, has.size-at)])
	}
	return n, nil
}

func (f *clientFile) Stat() (os.FileInfo, error) {
	info, err := f.file.Stat()
	if err != nil {
		return nil, err
	}
	c := f.client
	c.mu.Lock()
	defer c.mu.Unlock()
	size := info.Size()
	if !c.local {
		size = c.files[f.name].size
	}
	if c.size != nil {
		size = c.size(size)
	}
	return sizedInfo{info, size}, nil
}

func (f *clientFile) Datasync() error { return nil } // nothing here is on a disk

type sizedInfo struct {
	os.FileInfo
	size int64
}

func (i sizedInfo) Size() int64 { return i.size }
