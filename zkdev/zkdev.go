// Package zkdev is a ZooKeeper server inside a program, for demonstrations and tests: one
// node, in memory, on this machine. Clients cannot tell it from a standalone ZooKeeper 3.8;
// docs/zkdev.md says where they can. It is not for production: when it ends, all is gone.
package zkdev

import (
	"time"

	"github.com/turnstile-fleet/turnstile/internal/zkdev"
)

// Server is a server that runs.
type Server struct{ server *zkdev.Server }

// Start starts a server on a TCP address, on a free port of 127.0.0.1 when that is empty. A
// session lasts for between 2 and 20 ticks. On return it takes connections.
func Start(listen string, tick time.Duration) (*Server, error) {
	server, err := zkdev.Start(zkdev.Config{Listen: listen, TickTime: tick})
	if err != nil {
		return nil, err
	}
	return &Server{server}, nil
}

// Addr is the address to connect to, as host:port.
func (s *Server) Addr() string { return s.server.Addr() }

// Close ends the server, its sessions and its nodes. It may be called again.
func (s *Server) Close() error { return s.server.Close() }
