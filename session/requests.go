package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"
)

// Definite tells whether err is ZooKeeper's own word that a request was refused
// and changed nothing. Every other error (a lost connection, a context that
// ended, an expiry) leaves open whether a write took effect.
func Definite(err error) bool {
	return isOneOf(err, zk.ErrNoNode, zk.ErrNodeExists, zk.ErrBadVersion, zk.ErrNotEmpty, zk.ErrNoAuth,
		zk.ErrNoChildrenForEphemerals, zk.ErrInvalidACL, zk.ErrBadArguments, zk.ErrInvalidPath)
}

// Refusals that the client library has no name for.
var (
	// ErrAuthWanted says that the server serves only clients that authenticate.
	ErrAuthWanted = errors.New("the server serves only clients that authenticate")
	// ErrQuota says that a quota of the server's does not allow it.
	ErrQuota = errors.New("a quota of the server's does not allow it")
	// ErrReadOnly says that the server has lost its quorum, and only lets read.
	ErrReadOnly = errors.New("the server has no quorum, and only lets read")
)

// spelled gives an error that the library knows by its number alone a name.
func spelled(err error) error {
	if err == nil {
		return nil
	}
	switch err.Error() {
	case "unknown error: -124":
		return ErrAuthWanted
	case "unknown error: -125":
		return ErrQuota
	case "unknown error: -119":
		return ErrReadOnly
	}
	return err
}

// at names the node whose access control refuses us, which ZooKeeper does not.
func at(path string, err error) error {
	if errors.Is(err, zk.ErrNoAuth) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return err
}

// ErrBroken is wrapped when the connection broke under a request, which on this session
// may be sent again.
var ErrBroken = errors.New("the connection to ZooKeeper broke")

// broken recognises what the library returns then. (Any errno would pass for one.)
func broken(err error) bool {
	var network net.Error
	return errors.As(err, &network) ||
		isOneOf(err, zk.ErrConnectionClosed, zk.ErrNoServer, zk.ErrClosing, zk.ErrSessionMoved, net.ErrClosed, io.EOF)
}

func isOneOf(err error, words ...error) bool {
	return slices.ContainsFunc(words, func(word error) bool { return errors.Is(err, word) })
}

// lastWord is how long a write's answer is awaited beyond its context: a server that is
// there has answered by then. Whoever does not get an answer has to find out what became
// of the write, and should not ask before it was sent.
const lastWord = 100 * time.Millisecond

// call runs one request of the library, which knows no contexts, and returns when
// it has an answer, ctx has been done for so long, or the session is over, whichever
// comes first. When it was not the answer, a write may still take effect.
func call[T any](ctx context.Context, s *Session, beyond time.Duration, request func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := s.Err(); err != nil {
		return none, err
	}
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	if ctx.Done() == nil && s.wire.connected() {
		// Only the session's end ends it, and that lets go of it by itself: it breaks the
		// connection, and what the library has sent or queued fails with that. (While there
		// is no connection, the library may take a second to notice.) So it needs no
		// goroutine of its own, which would double its cost.
		if !s.begin() {
			return none, cmp.Or(context.Cause(s.ctx), ErrClosed)
		}
		value, err := request()
		s.requests.Done()
		return answered(ctx, s, value, err)
	}
	answer := make(chan result, 1)
	if !s.run(func() { // ends with the session, which shuts the wire
		value, err := request()
		answer <- result{value, err}
	}) {
		return none, cmp.Or(context.Cause(s.ctx), ErrClosed)
	}
	select {
	case r := <-answer:
		return answered(ctx, s, r.value, r.err)
	case <-s.ctx.Done():
		return none, context.Cause(s.ctx)
	case <-ctx.Done():
	}
	timer := time.NewTimer(beyond)
	defer timer.Stop()
	select {
	case r := <-answer:
		return answered(ctx, s, r.value, r.err)
	case <-s.ctx.Done():
		return none, context.Cause(s.ctx)
	case <-timer.C:
		return none, context.Cause(ctx)
	}
}

func answered[T any](ctx context.Context, s *Session, value T, err error) (T, error) {
	var none T
	switch {
	case !broken(err):
		return value, spelled(err)
	case s.ctx.Err() != nil:
		return none, context.Cause(s.ctx) // that is why it broke
	case ctx.Err() != nil:
		return none, context.Cause(ctx)
	}
	return none, fmt.Errorf("%w: %w", ErrBroken, err)
}

// read runs a request that changes nothing, again and again until it has an
// answer: a connection that broke under it makes no difference then.
func read[T any](ctx context.Context, s *Session, request func() (T, error)) (T, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		value, err := call(ctx, s, 0, request)
		if errors.Is(err, ErrBroken) {
			if why := s.wire.complain(); why != nil {
				return value, why
			}
		}
		switch {
		case !errors.Is(err, ErrBroken):
			return value, err
		case s.ctx.Err() != nil: // since it broke, and whoever loops must learn that
			return value, context.Cause(s.ctx)
		case ctx.Err() != nil:
			return value, context.Cause(ctx)
		}
		select { // jitter, for all clients lose a server at the same moment
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
	}
}

// Node is a node's data and Stat. Watch, when asked for, receives one event when
// the node changes or goes, or when the session ends; it is nil otherwise.
type Node struct {
	Data  []byte
	Stat  *zk.Stat
	Watch <-chan zk.Event
}

// Get reads a node; zk.ErrNoNode says that there is none.
func (s *Session) Get(ctx context.Context, path string) (Node, error) {
	return read(ctx, s, func() (Node, error) {
		data, stat, err := s.conn.Get(path)
		return Node{Data: data, Stat: stat}, at(path, err)
	})
}

// Watch reads a node and watches it. When there is none the error is zk.ErrNoNode
// and no watch is left behind.
func (s *Session) Watch(ctx context.Context, path string) (Node, error) {
	return read(ctx, s, func() (Node, error) {
		data, stat, watch, err := s.conn.GetW(path)
		return Node{Data: data, Stat: stat, Watch: watch}, at(path, err)
	})
}

// WatchFor looks for a node and receives one event when it is made, changed or
// deleted.
func (s *Session) WatchFor(ctx context.Context, path string) (exists bool, watch <-chan zk.Event, err error) {
	type answer struct {
		exists bool
		watch  <-chan zk.Event
	}
	a, err := read(ctx, s, func() (answer, error) {
		exists, _, watch, err := s.conn.ExistsW(path)
		return answer{exists, watch}, err
	})
	return a.exists, a.watch, err
}

// Children lists a node's children by name, in no order.
func (s *Session) Children(ctx context.Context, path string) ([]string, error) {
	return read(ctx, s, func() ([]string, error) {
		names, _, err := s.conn.Children(path)
		return names, at(path, err)
	})
}

// WatchChildren lists a node's children and receives one event when one is made or
// deleted, or the node itself goes; with the node's own Stat. When there is no node the
// error is zk.ErrNoNode and no watch is left behind.
func (s *Session) WatchChildren(ctx context.Context, path string) (names []string, node Node, err error) {
	type answer struct {
		names []string
		node  Node
	}
	a, err := read(ctx, s, func() (answer, error) {
		names, stat, watch, err := s.conn.ChildrenW(path)
		return answer{names, Node{Stat: stat, Watch: watch}}, at(path, err)
	})
	return a.names, a.node, err
}

// Sync makes a later read on this session see everything that the leader had committed
// before the call. It asks no quorum: a leader that was deposed and does not know it yet
// answers too. Where that matters, write.
func (s *Session) Sync(ctx context.Context, path string) error {
	_, err := read(ctx, s, func() (string, error) { return s.conn.Sync(path) })
	return err
}

// Writes are sent once, and answered at most lastWord after their context has ended. When
// their error is not Definite the caller has to find out whether they took effect.

// Create makes a node with the session's ACL and returns its path, which flags of
// zk.FlagSequence lengthen.
func (s *Session) Create(ctx context.Context, path string, data []byte, flags int32) (string, error) {
	return call(ctx, s, lastWord, func() (string, error) {
		made, err := s.conn.Create(path, data, flags, s.acl)
		return made, at(path, err)
	})
}

// ACLOf tells who may do what with a node.
func (s *Session) ACLOf(ctx context.Context, path string) ([]zk.ACL, error) {
	return read(ctx, s, func() ([]zk.ACL, error) {
		acl, _, err := s.conn.GetACL(path)
		return acl, at(path, err)
	})
}

// SetACL says who may do what with a node.
func (s *Session) SetACL(ctx context.Context, path string, acl []zk.ACL) error {
	_, err := call(ctx, s, lastWord, func() (*zk.Stat, error) {
		stat, err := s.conn.SetACL(path, acl, -1)
		return stat, at(path, err)
	})
	return err
}

// Set writes a node's data at the version that it must have, -1 for any; it returns the
// Stat that the node has then.
func (s *Session) Set(ctx context.Context, path string, data []byte, version int32) (*zk.Stat, error) {
	return call(ctx, s, lastWord, func() (*zk.Stat, error) {
		stat, err := s.conn.Set(path, data, version)
		return stat, at(path, err)
	})
}

// Delete removes a node, whatever its version.
func (s *Session) Delete(ctx context.Context, path string) error {
	_, err := call(ctx, s, lastWord, func() (struct{}, error) { return struct{}{}, at(path, s.conn.Delete(path, -1)) })
	return err
}

// Multi runs operations (*zk.CreateRequest, *zk.SetDataRequest, *zk.DeleteRequest,
// *zk.CheckVersionRequest) all or none. A definite error is the first refused
// operation's, and which one it was can be seen in the results.
func (s *Session) Multi(ctx context.Context, ops ...any) ([]zk.MultiResponse, error) {
	return call(ctx, s, lastWord, func() ([]zk.MultiResponse, error) { return s.conn.Multi(ops...) })
}
