// Package stage sets a scene for tests: a lock service of either kind, and a database. They are
// inside the test, unless these variables name real ones, which are wiped then:
//
//	TICKETS_TEST_REDIS      redis://host:port/number
//	TICKETS_TEST_ZOOKEEPER  host:port,…
//	TICKETS_TEST_POSTGRES   postgres://user:password@host:port/database
package stage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-zookeeper/zk"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/zkdev"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// Patience is for what must happen, and takes much less.
const Patience = 30 * time.Second

// Timeout is the ZooKeeper session's.
const Timeout = 4 * time.Second

// Stage is a lock service of one kind.
type Stage struct {
	t    testing.TB
	Kind string
	addr string // of Redis as a URL, or of ZooKeeper's servers
}

// Each runs a test on each kind of lock.
func Each(t *testing.T, test func(*testing.T, *Stage)) {
	for _, kind := range []string{locks.Redis, locks.ZooKeeper} {
		t.Run(kind, func(t *testing.T) { test(t, New(t, kind)) })
	}
}

// New starts a lock service that ends with the test, or wipes the one that is named.
func New(t testing.TB, kind string) *Stage {
	t.Helper()
	s := &Stage{t: t, Kind: kind}
	if kind == locks.Redis {
		s.addr = os.Getenv("TICKETS_TEST_REDIS")
	} else {
		s.addr = os.Getenv("TICKETS_TEST_ZOOKEEPER")
	}
	switch {
	case s.addr != "":
		s.Wipe()
	case kind == locks.Redis:
		s.addr = "redis://" + Redis(t) + "/0"
	default:
		server, err := zkdev.Start("", Timeout/2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		s.addr = server.Addr()
	}
	return s
}

// Redis starts one whose keys expire as time passes, and gives its address.
func Redis(t testing.TB) string {
	t.Helper()
	server := miniredis.NewMiniRedis()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	server.ClockTTL(true)
	t.Cleanup(server.Close)
	return server.Addr()
}

// Addr is the lock service's address: a URL for Redis, host:port,… for ZooKeeper.
func (s *Stage) Addr() string { return s.addr }

// Open gives the locks as one more instance sees them, which ends with the test.
func (s *Stage) Open(instance string) locks.Locks {
	s.t.Helper()
	return s.OpenAt(s.addr, instance)
}

// OpenAt is Open by another address of the same service.
func (s *Stage) OpenAt(addr, instance string) (l locks.Locks) {
	s.t.Helper()
	if s.Kind == locks.Redis {
		var err error
		if l, err = locks.OpenRedis(addr); err != nil {
			s.t.Fatal(err)
		}
	} else {
		l = locks.OpenZooKeeper(strings.Split(addr, ","), Timeout, instance, zap.NewNop())
	}
	s.t.Cleanup(l.Close)
	Until(s.t, "the lock service answers", func(ctx context.Context) bool { _, err := l.Epoch(ctx); return err == nil })
	return l
}

// Wipe deletes all that the lock service knows.
func (s *Stage) Wipe() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var err error
	if s.Kind == locks.Redis {
		var opts *redis.Options
		if opts, err = redis.ParseURL(s.addr); err == nil {
			client := redis.NewClient(opts)
			defer client.Close()
			err = client.FlushDB(ctx).Err()
		}
	} else {
		var sess *session.Session
		if sess, err = session.Dial(ctx, session.Options{Servers: strings.Split(s.addr, ","), Timeout: Timeout}); err == nil {
			defer sess.Close()
			err = remove(ctx, sess, "/tickets")
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// remove deletes a node and all beneath it, though others make nodes there meanwhile.
func remove(ctx context.Context, sess *session.Session, node string) error {
	for {
		names, err := sess.Children(ctx, node)
		for _, name := range names {
			if err == nil {
				err = remove(ctx, sess, path.Join(node, name))
			}
		}
		if err == nil {
			err = sess.Delete(ctx, node)
		}
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		if !errors.Is(err, zk.ErrNotEmpty) {
			return err
		}
	}
}

// Store gives a database with so many tickets, which locks of that kind sell.
func Store(t testing.TB, kind string, tickets int) *store.Store {
	t.Helper()
	url := os.Getenv("TICKETS_TEST_POSTGRES")
	if url == "" {
		url = "sqlite:" + filepath.Join(t.TempDir(), "tickets.db")
	} else {
		empty(t, url)
	}
	db, err := store.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var names []string
	for i := range tickets {
		names = append(names, fmt.Sprintf("ticket-%d", i+1))
	}
	if err := db.Init(t.Context(), kind, names); err != nil {
		t.Fatal(err)
	}
	return db
}

// Reserve writes a reservation into the database, for a minute, past the lock service.
func Reserve(ctx context.Context, db *store.Store, ticket, client string, token locks.Token) error {
	t, err := db.Ticket(ctx, ticket)
	if err != nil {
		return err
	}
	return db.Reserve(ctx, ticket, client, token, t.Clock, time.Now().Add(time.Minute))
}

func empty(t testing.TB, url string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, table := range []string{"sales", "tickets", "service", "goose_db_version"} {
		if _, err := db.ExecContext(t.Context(), "DROP TABLE IF EXISTS "+table); err != nil {
			t.Fatal(err)
		}
	}
}

// Until looks again and again until it is so.
func Until(t testing.TB, what string, isSo func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !isSo(ctx) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not seen within %v: %s", Patience, what)
		}
	}
}
