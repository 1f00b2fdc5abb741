package zktest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP wire to a server that misbehaves on demand.
type Proxy struct {
	Addr   string
	target string
	listen net.Listener

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	refuse  bool
	silent  bool                // swallow what the server says
	deaf    bool                // swallow what the client says
	lose    bool                // cut instead of passing its next words on
	request func(p []byte) bool // sees what the client says; false: cut instead of passing it on
	event   func(path string)   // sees what watches tell
	wg      sync.WaitGroup
}

// NewProxy listens on the loopback and passes everything on to target until told
// otherwise.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: listen.Addr().String(), target: target, listen: listen, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		listen.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

// Cut breaks every connection; new ones are taken.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// Refuse breaks every connection and takes no new ones while on.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	p.refuse = on
	p.mu.Unlock()
	if on {
		p.Cut()
	}
}

// Silence swallows all that the server says while on. Connections stay open, and
// requests reach the server.
func (p *Proxy) Silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = on
}

// LoseAnswer cuts the connection on which the server speaks next, instead of passing
// on what it says.
func (p *Proxy) LoseAnswer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = true
}

// HalfOpen swallows all that either side says while on. Connections stay open, and
// new ones are taken.
func (p *Proxy) HalfOpen(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent, p.deaf = on, on
}

// OnRequest calls see with every packet that clients send, from several goroutines.
// When it returns false the packet is not passed on and the connection is cut. nil
// ends it.
func (p *Proxy) OnRequest(see func(packet []byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.request = see
}

// OnEvent calls see with the path of every node that a watch tells of, from several
// goroutines.
func (p *Proxy) OnEvent(see func(path string)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.event = see
}

func (p *Proxy) accept() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		if refuse {
			client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		if p.refuse { // meanwhile
			p.mu.Unlock()
			client.Close()
			server.Close()
			continue
		}
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(server, client, nextPacket, p.toServer) })
		p.wg.Go(func() { p.pass(client, server, nextPacket, p.toClient) })
	}
}

// pass copies from one side to the other, as much at a time as next gives, and ends
// both when either ends.
func (p *Proxy) pass(
	to, from net.Conn, next func(net.Conn, []byte) (int, error), allow func([]byte) (pass, cut bool),
) {
	defer func() {
		to.Close()
		from.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, to)
		delete(p.conns, from)
	}()
	buf := make([]byte, 1<<20)
	for {
		n, err := next(from, buf)
		if n > 0 {
			pass, cut := allow(buf[:n])
			if cut {
				return
			}
			if pass {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) toServer(packet []byte) (pass, cut bool) {
	p.mu.Lock()
	see := p.request
	p.mu.Unlock()
	cut = see != nil && !see(packet) // it may call our methods
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.deaf, cut
}

func (p *Proxy) toClient(packet []byte) (pass, cut bool) {
	p.mu.Lock()
	see := p.event
	p.mu.Unlock()
	// A length, an xid that is -1 for an event, zxid, error, type, state, the path's length.
	if word := binary.BigEndian.Uint32; see != nil && len(packet) > 32 && word(packet[4:]) == 0xffffffff {
		see(string(packet[32:]))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	cut = p.lose
	p.lose = false
	return !p.silent, cut
}

// nextPacket reads one whole packet, or, when what comes is no packet of
// ZooKeeper's (TLS, a four-letter word), whatever comes.
func nextPacket(from net.Conn, buf []byte) (int, error) {
	n, err := io.ReadFull(from, buf[:4])
	if err != nil {
		return n, err
	}
	size := 4 + int(binary.BigEndian.Uint32(buf))
	if size > len(buf) {
		more, err := from.Read(buf[4:])
		return 4 + more, err
	}
	more, err := io.ReadFull(from, buf[4:size])
	if err != nil {
		return 0, err
	}
	return 4 + more, nil
}
