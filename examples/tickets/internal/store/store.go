// Package store is the database, which decides: it holds the tickets, the newest reservation of
// each, and the sales. Each write names the token of a reservation's lock, and one with an
// older token changes nothing. So a process that was paused for longer than its lock lasts
// cannot sell what somebody else has.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // the driver sqlite

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
)

var (
	// ErrUnknown says that there is no such ticket.
	ErrUnknown = errors.New("there is no such ticket")
	// ErrStale says that a write changed nothing: its token is not the newest, the ticket is
	// sold, the reservation has expired, or another epoch has begun.
	ErrStale = errors.New("the reservation does not hold any more")
	// ErrNotReady says that the database has no tickets' tables: `tickets init` makes them.
	ErrNotReady = errors.New("the database is not set up")
)

//go:embed migrations/*.sql
var migrations embed.FS

// limits are PostgreSQL's settings for our connections. A process that is paused within a
// transaction holds rows that others wait for: PostgreSQL ends its transaction then, and the
// others' wait ends later than that.
var limits = map[string]string{"idle_in_transaction_session_timeout": "3s", "lock_timeout": "8s"}

// Store is the database. All methods may be called from several goroutines at once.
type Store struct {
	db      *sql.DB
	dialect goose.Dialect
	now     string // the database's clock, in seconds
	share   string // lets no other change a row before we are done
}

// Open opens sqlite:PATH or postgres://user:password@host:port/database. It does not connect.
func Open(url string) (*Store, error) {
	if path, ok := strings.CutPrefix(url, "sqlite:"); ok && path != "" {
		// Instances on one machine share the file: each write waits for the others'.
		db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=foreign_keys(1)")
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1) // one writes at a time; who waits here has his turn in order
		return &Store{db: db, dialect: goose.DialectSQLite3, now: "unixepoch('subsec')"}, nil
	}
	if strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://") {
		config, err := pgx.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		for setting, value := range limits {
			if config.RuntimeParams[setting] == "" { // the URL may say otherwise
				config.RuntimeParams[setting] = value
			}
		}
		db := stdlib.OpenDB(*config)
		db.SetMaxOpenConns(20) // PostgreSQL takes 100 from all instances
		db.SetMaxIdleConns(20)
		return &Store{db: db, dialect: goose.DialectPostgres, share: "FOR SHARE", now: "extract(epoch from clock_timestamp())::double precision"}, nil
	}
	return nil, fmt.Errorf("%q is neither sqlite:PATH nor postgres://user:password@host:port/database", url)
}

// Close closes all connections.
func (s *Store) Close() error { return s.db.Close() }

// query writes the database's clock and its way of numbering into a statement.
func (s *Store) query(text string) string {
	text = strings.NewReplacer("{now}", s.now, "{share}", s.share).Replace(text)
	if s.dialect == goose.DialectPostgres {
		text = strings.ReplaceAll(text, "?", "$")
	}
	return text
}

// Init makes what is missing of the tables and of the tickets. From then on locks of one kind
// sell, and of no other: an epoch belongs to one kind. It may be run again, and by several at
// once.
func (s *Store) Init(ctx context.Context, lockType string, tickets []string) error {
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return s.within(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, s.query(`INSERT INTO service (one, lock_type, epoch) VALUES (1, ?1, 1) ON CONFLICT DO NOTHING`), lockType)
		if err == nil {
			_, err = tx.ExecContext(ctx, s.query(`UPDATE service SET lock_type = ?1, epoch = epoch + 1 WHERE lock_type <> ?1`), lockType)
		}
		if err == nil {
			err = s.add(ctx, tx, tickets)
		}
		return err
	})
}

// Add makes what is missing of the tickets, and leaves alone which kind of lock sells.
func (s *Store) Add(ctx context.Context, tickets []string) error {
	return s.within(ctx, func(tx *sql.Tx) error { return s.add(ctx, tx, tickets) })
}

func (s *Store) add(ctx context.Context, tx *sql.Tx, tickets []string) error {
	for _, ticket := range tickets {
		if _, err := tx.ExecContext(ctx, s.query(`INSERT INTO tickets (id) VALUES (?1) ON CONFLICT DO NOTHING`), ticket); err != nil {
			return err
		}
	}
	return nil
}

// Remove deletes those of the tickets that are not sold.
func (s *Store) Remove(ctx context.Context, tickets []string) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		for _, ticket := range tickets {
			if _, err := tx.ExecContext(ctx, s.query(`DELETE FROM tickets WHERE id = ?1 AND booked_by IS NULL`), ticket); err != nil {
				return err
			}
		}
		return nil
	})
}

// Count counts the tickets.
func (s *Store) Count(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM tickets`).Scan(&n)
	if isMissing(err) {
		err = notReady(err)
	}
	return n, err
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	var opts []goose.ProviderOption
	if s.dialect == goose.DialectPostgres { // several `init` may come at once
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return err
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	provider, err := goose.NewProvider(s.dialect, s.db, files, opts...)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func (s *Store) within(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // nothing, after a commit
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Selling is which kind of lock sells, and the epoch of its service.
type Selling struct {
	LockType string
	Epoch    int64
}

// Selling reads it. ErrNotReady says that Init was not run.
func (s *Store) Selling(ctx context.Context) (now Selling, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT lock_type, epoch FROM service`).Scan(&now.LockType, &now.Epoch)
	if errors.Is(err, sql.ErrNoRows) || isMissing(err) {
		err = notReady(err)
	}
	return now, err
}

// isMissing tells the error of a table that is not there.
func isMissing(err error) bool {
	var postgres *pgconn.PgError
	return errors.As(err, &postgres) && postgres.Code == "42P01" || err != nil && strings.Contains(err.Error(), "no such table")
}

func notReady(err error) error { return fmt.Errorf("%w: %w; run `tickets init`", ErrNotReady, err) }

// Anew lets one at a time, of all instances, decide upon the epoch: it is handed the one that
// is, and gives the one that shall be, which is never lower. It tells which kind of lock sells,
// and the epoch; when that is another kind nothing was decided. The others wait meanwhile, also
// with Init: so the decision has 2 s.
func (s *Store) Anew(ctx context.Context, lockType string, decide func(ctx context.Context, now int64) (int64, error)) (now Selling, err error) {
	err = s.within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE service SET epoch = epoch`); err != nil { // the others wait here
			return err
		}
		err := tx.QueryRowContext(ctx, `SELECT lock_type, epoch FROM service`).Scan(&now.LockType, &now.Epoch)
		if err != nil || now.LockType != lockType {
			return err
		}
		soon, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if now.Epoch, err = decide(soon, now.Epoch); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, s.query(`UPDATE service SET epoch = ?1 WHERE epoch < ?1`), now.Epoch)
		return err
	})
	return now, err
}

// Ticket is a ticket and its newest reservation, which may have expired or be lost.
type Ticket struct {
	ID       string
	Token    locks.Token
	Client   string        // who reserved it; empty when nobody did
	Left     time.Duration // how much longer that holds; not above zero when it has expired
	Clock    Clock         // the database's, when this was read
	BookedBy string        // empty when it is not sold
	Selling                // what sells now
}

// Clock is a reading of the database's clock.
type Clock struct {
	seconds float64   // since 1970
	read    time.Time // by this process's clock, not before that
}

// at tells what the database's clock shows at a time of this process's, or a little less.
func (c Clock) at(t time.Time) float64 { return c.seconds + t.Sub(c.read).Seconds() }

// Ticket reads a ticket; ErrUnknown when there is none.
func (s *Store) Ticket(ctx context.Context, id string) (Ticket, error) {
	var t Ticket
	var left float64
	err := s.db.QueryRowContext(ctx, s.query(`
SELECT id, t.epoch, token, client, reserved_until - {now}, {now}, coalesce(booked_by, ''), lock_type, s.epoch
FROM tickets t, service s WHERE id = ?1`), id).Scan(&t.ID, &t.Token.Epoch, &t.Token.Number, &t.Client, &left, &t.Clock.seconds, &t.BookedBy, &t.LockType, &t.Epoch)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = ErrUnknown
	case isMissing(err):
		err = notReady(err)
	}
	t.Clock.read = time.Now()
	t.Left = time.Duration(max(left, -1) * float64(time.Second))
	return t, err
}

// Unsold lists the tickets that are not sold, by name.
func (s *Store) Unsold(ctx context.Context) (ids []string, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id FROM tickets WHERE booked_by IS NULL ORDER BY length(id), id`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Reserve writes a reservation that holds until then. The clock says what that is in the
// database, so that what comes between the lock and the write is not added. ErrStale says that
// it changed nothing.
func (s *Store) Reserve(ctx context.Context, id, client string, t locks.Token, clock Clock, until time.Time) error {
	return s.changeOne(ctx, s.db, `
UPDATE tickets SET epoch = ?1, token = ?2, client = ?3, reserved_until = ?4
WHERE id = ?5 AND booked_by IS NULL AND (epoch < ?1 OR epoch = ?1 AND token < ?2)
  AND ?1 = (SELECT epoch FROM service) AND {now} < ?4`, t.Epoch, t.Number, client, clock.at(until), id)
}

// Cancel ends a reservation. ErrStale says that it changed nothing.
func (s *Store) Cancel(ctx context.Context, id string, t locks.Token) error {
	return s.changeOne(ctx, s.db, `
UPDATE tickets SET client = '', reserved_until = 0
WHERE id = ?1 AND booked_by IS NULL AND epoch = ?2 AND token = ?3
  AND ?2 = (SELECT epoch FROM service)`, id, t.Epoch, t.Number)
}

// Book sells a ticket to whoever reserved it with that token, and charges him. ErrStale says
// that it changed nothing. Init waits for it, so that from then on nothing is sold by the kind
// of lock before.
func (s *Store) Book(ctx context.Context, id string, t locks.Token) error {
	return s.within(ctx, func(tx *sql.Tx) error {
		err := s.changeOne(ctx, tx, `
UPDATE tickets SET booked_by = client
WHERE id = ?1 AND booked_by IS NULL AND epoch = ?2 AND token = ?3 AND reserved_until > {now}
  AND ?2 = (SELECT epoch FROM service {share})`, id, t.Epoch, t.Number)
		if err == nil {
			_, err = tx.ExecContext(ctx, s.query(`
INSERT INTO sales (ticket, client, epoch, token, at)
SELECT id, booked_by, epoch, token, {now} FROM tickets WHERE id = ?1`), id)
		}
		return err
	})
}

func (s *Store) changeOne(ctx context.Context, on interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, text string, args ...any) error {
	result, err := on.ExecContext(ctx, s.query(text), args...)
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = ErrStale
	}
	return err
}

// Sale is a ticket that was sold, and to whom.
type Sale struct{ Ticket, Client string }

// Sales lists all sales.
func (s *Store) Sales(ctx context.Context) (sales []Sale, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT ticket, client FROM sales`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var sale Sale
		if err := rows.Scan(&sale.Ticket, &sale.Client); err != nil {
			return nil, err
		}
		sales = append(sales, sale)
	}
	return sales, rows.Err()
}
