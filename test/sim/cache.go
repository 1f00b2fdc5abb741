package sim

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// host is a machine that agents run on.
type host struct {
	w     *world
	name  string
	hung  bool  // its mount does not answer
	sick  error // what writes are answered with, for a while
	cache *cache

	veiled time.Time // since when its directory cache hides the markers of other hosts
}

// sees tells whether a marker that is there is seen: after a minute at the latest.
func (h *host) sees(p *proc) bool {
	return p.host == h || h.veiled.IsZero() || time.Since(h.veiled) > time.Minute
}

func (h *host) mend() {
	if h.hung || h.sick != nil {
		h.w.tell("the volume answers well on %s again", h.name)
	}
	h.hung, h.sick, h.veiled = false, nil, time.Time{}
}

var sicknesses = []error{syscall.ENOSPC, syscall.EROFS, syscall.EIO, syscall.EDQUOT, syscall.ESTALE}

// cache is a host's page cache before a file that another machine has, in front of which
// plain descriptors were used. It is what Linux's NFS client does: a write is extended to
// the whole page as the host knows it; pages stay as they were read, however often the file
// is opened anew, with zeros for what others have written since; the size stays until then.
// nil is none: there is one kernel, or every read
// and write goes to the server.
type cache struct {
	file  *inode
	pages map[int]*page
	end   int
}

type page struct {
	bytes [pageSize]byte
	dirty bool
}

const pageSize = 4096

func (h *handle) cache() *cache {
	if h.flag&unix.O_DIRECT != 0 {
		return nil
	}
	return h.p.host.cache
}

// of is the cache for a file.
func (c *cache) of(file *inode) *cache {
	if c.file != file {
		c.file, c.pages, c.end = file, map[int]*page{}, len(file.live)
	}
	return c
}

// refresh is what opening does: the size is asked for.
func (c *cache) refresh(file *inode) {
	if c != nil {
		c.of(file).end = max(len(file.live), c.end)
	}
}

func (c *cache) size(file *inode) int64 {
	if c == nil {
		return int64(len(file.live))
	}
	return int64(c.of(file).end)
}

func (c *cache) page(i int) *page {
	p := c.pages[i]
	if p == nil {
		p = &page{}
		if from := i * pageSize; from < len(c.file.live) {
			copy(p.bytes[:], c.file.live[from:min(from+pageSize, len(c.file.live), max(c.end, from))])
		}
		c.pages[i] = p
	}
	return p
}

func (c *cache) read(file *inode, b []byte, at int) (n int) {
	if c == nil {
		if at < len(file.live) {
			n = copy(b, file.live[at:])
		}
		return n
	}
	for c.of(file); n < len(b) && at+n < c.end; {
		p, in := c.page((at+n)/pageSize), (at+n)%pageSize
		n += copy(b[n:], p.bytes[in:min(pageSize, in+c.end-at-n)])
	}
	return n
}

func (c *cache) write(h *handle, b []byte, at int) {
	if c == nil {
		h.put(b, at)
		return
	}
	for c.of(h.inode); len(b) > 0; {
		p, in := c.page(at/pageSize), at%pageSize
		n := copy(p.bytes[in:], b)
		p.dirty = true
		b, at = b[n:], at+n
		c.end = max(c.end, at)
	}
}

// flush sends what is dirty to the server, whole pages.
func (c *cache) flush(file *inode) {
	if c == nil {
		return
	}
	for i, p := range c.of(file).pages {
		if from := i * pageSize; p.dirty {
			file.put(p.bytes[:min(pageSize, c.end-from)], from)
			p.dirty = false
		}
	}
}
