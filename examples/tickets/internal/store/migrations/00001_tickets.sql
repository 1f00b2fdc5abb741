-- The same text for PostgreSQL and SQLite. Times are seconds since 1970 by the database's clock.

-- +goose Up
CREATE TABLE service (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  lock_type TEXT NOT NULL, -- the one kind of lock that sells
  epoch BIGINT NOT NULL    -- of the lock service: tokens of another change nothing
);

CREATE TABLE tickets (
  id TEXT PRIMARY KEY,
  -- The newest reservation. Its token names it: it is never set back.
  epoch BIGINT NOT NULL DEFAULT 0,
  token BIGINT NOT NULL DEFAULT 0,
  client TEXT NOT NULL DEFAULT '',
  reserved_until DOUBLE PRECISION NOT NULL DEFAULT 0,
  booked_by TEXT
);

-- A customer is charged by a row here.
CREATE TABLE sales (
  ticket TEXT PRIMARY KEY REFERENCES tickets (id),
  client TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  token BIGINT NOT NULL,
  at DOUBLE PRECISION NOT NULL
);

-- +goose Down
DROP TABLE sales;
DROP TABLE tickets;
DROP TABLE service;
