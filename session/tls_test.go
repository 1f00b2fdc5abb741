package session_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }

// terminator takes TLS off and passes the rest on to a server.
type terminator struct {
	addr    string
	stalled chan struct{} // closed when a connection was accepted and left alone

	mu    sync.Mutex
	conns []net.Conn
	stop  bool
	once  sync.Once
}

// stall breaks the connections, and accepts from now on without a handshake.
func (s *terminator) stall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = true
	for _, c := range s.conns {
		c.Close()
	}
}

// tlsProxy gives a terminator, and what a client has to trust.
func tlsProxy(t testing.TB, target string) (*terminator, *tls.Config) {
	t.Helper()
	web := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	t.Cleanup(web.Close)
	trust := x509.NewCertPool()
	trust.AddCert(web.Certificate())
	s := &terminator{stalled: make(chan struct{})}
	s.addr = listener(t, func(raw net.Conn) {
		s.mu.Lock()
		if s.stop {
			s.mu.Unlock()
			s.once.Do(func() { close(s.stalled) })
			return
		}
		s.conns = append(s.conns, raw)
		s.mu.Unlock()
		client := tls.Server(raw, &tls.Config{Certificates: web.TLS.Certificates})
		server, err := net.Dial("tcp", target)
		if err != nil {
			raw.Close()
			return
		}
		go func() {
			io.Copy(server, client) //nolint:errcheck // either side may end it
			server.Close()
		}()
		io.Copy(client, server) //nolint:errcheck // either side may end it
		raw.Close()
	})
	return s, &tls.Config{RootCAs: trust}
}
