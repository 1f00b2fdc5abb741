// Package locks holds a ticket for one customer: by a key with an expiry in Redis, or by an
// ephemeral node in ZooKeeper. A lock keeps customers out of each other's way. It does not
// decide who gets a ticket: a process may be paused between its look at a lock and its write,
// and the database refuses that write by the lock's Token.
package locks

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrTaken says that somebody else holds the ticket.
	ErrTaken = errors.New("somebody else holds the ticket")
	// ErrEpoch says that the lock service has another epoch than the database, or none: it is
	// new, or was wiped. Let them agree upon one, and Raise it.
	ErrEpoch = errors.New("the lock service has not the database's epoch")
	// ErrUnavailable says that the lock service does not answer at present.
	ErrUnavailable = errors.New("the lock service does not answer")
)

// Token orders the holders of a ticket as they took its lock: a later one has the higher
// token. Number is the lock service's own count. Epoch comes from the database, and rises
// whenever the lock service begins to count anew.
type Token struct{ Epoch, Number int64 }

// Less tells whether t is older than u.
func (t Token) Less(u Token) bool {
	return t.Epoch < u.Epoch || t.Epoch == u.Epoch && t.Number < u.Number
}

func (t Token) String() string { return fmt.Sprintf("%d.%d", t.Epoch, t.Number) }

func parseToken(s string) (t Token, err error) {
	epoch, number, ok := strings.Cut(s, ".")
	if !ok {
		return t, fmt.Errorf("%q is no token", s)
	}
	if t.Epoch, err = strconv.ParseInt(epoch, 10, 64); err == nil {
		t.Number, err = strconv.ParseInt(number, 10, 64)
	}
	if err != nil {
		return t, fmt.Errorf("%q is no token: %w", s, err)
	}
	return t, nil
}

// Locks are the tickets' locks, as one instance of the service sees them. All methods may be
// called from several goroutines at once. An error that is none of this package's wraps
// ErrUnavailable, or is ctx's.
type Locks interface {
	// Take takes a ticket's lock in that epoch, for so long; it is free again after that, or
	// when the instance ends and the kind of lock says so. until is when it ends at the earliest,
	// by this process's clock. The errors: ErrTaken, ErrEpoch. On any other the lock may be ours
	// and known to nobody: Take has tried to free it then.
	Take(ctx context.Context, ticket string, epoch int64, hold time.Duration) (t Token, until time.Time, err error)
	// Free frees a ticket's lock if it is still held with that token, by any instance.
	Free(ctx context.Context, ticket string, t Token) error
	// Holders tells with which tokens tickets are held. One that is not in the map is free: a
	// lock of an epoch before the service's is worth nothing. It sees what any instance took
	// before the call.
	Holders(ctx context.Context, tickets []string) (map[string]Token, error)
	// Epoch tells the lock service's epoch; 0 when it has none.
	Epoch(ctx context.Context) (int64, error)
	// Raise sets the epoch, unless it is as high already. What was taken before is free.
	Raise(ctx context.Context, epoch int64) error
	// Close ends the instance's part: what it holds is free, where the kind of lock says so.
	Close()
}

// The kinds of locks.
const (
	Redis     = "distributed_lock"
	ZooKeeper = "ephemeral_node"
)
