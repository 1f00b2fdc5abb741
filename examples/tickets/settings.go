package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/store"
)

// settings are the flags that commands share. Each is an environment variable too.
type settings struct {
	LockType       string
	ReserveFor     time.Duration
	Database       string
	Redis          string
	ZooKeeper      string
	SessionTimeout time.Duration
	Instance       string
}

// errUsage is wrapped by what is wrong with the command line or the environment.
var errUsage = errors.New("wrong usage")

func (s *settings) database(flags *pflag.FlagSet) {
	flags.StringVar(&s.Database, "database-url", "sqlite:tickets.db", "sqlite:PATH or postgres://user:password@host:port/database")
}

func (s *settings) lockType(flags *pflag.FlagSet) {
	flags.StringVar(&s.LockType, "lock-type", locks.Redis, locks.Redis+" (Redis) or "+locks.ZooKeeper+" (ZooKeeper)")
}

func (s *settings) services(flags *pflag.FlagSet) {
	flags.StringVar(&s.Redis, "redis-url", "redis://localhost:6379/0", "for distributed_lock: redis://[user:password@]host:port/number")
	flags.StringVar(&s.ZooKeeper, "zookeeper-servers", "localhost:2181", "for ephemeral_node: host:port, separated by commas")
	flags.DurationVar(&s.SessionTimeout, "session-timeout", 5*time.Second, "for ephemeral_node: how long after its last word an instance's reservations are freed")
}

func (s *settings) reserveFor(flags *pflag.FlagSet) {
	flags.DurationVar(&s.ReserveFor, "reserve-for", 2*time.Minute, "how long a reservation holds")
}

// fromEnvironment sets what the command line does not say, by variables such as LOCK_TYPE.
func fromEnvironment(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		name := strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || f.Changed || value == "" || err != nil || f.Name == "help" {
			return
		}
		if wrong := cmd.Flags().Set(f.Name, value); wrong != nil {
			err = fmt.Errorf("%w: the variable %s=%q: %w", errUsage, name, value, wrong)
		}
	})
	return err
}

func (s *settings) check() error {
	switch {
	case s.LockType != "" && s.LockType != locks.Redis && s.LockType != locks.ZooKeeper:
		return wrong("lock-type", s.LockType, "use "+locks.Redis+" or "+locks.ZooKeeper)
	case s.ReserveFor != 0 && (s.ReserveFor < 100*time.Millisecond || s.ReserveFor > 24*time.Hour):
		return wrong("reserve-for", s.ReserveFor.String(), "use 100ms to 24h")
	}
	return nil
}

// checkServices checks what only those need who use the lock service.
func (s *settings) checkServices() error {
	if s.LockType != locks.ZooKeeper {
		return nil // openLocks checks the URL
	}
	if s.SessionTimeout <= 0 || s.SessionTimeout > time.Minute {
		return wrong("session-timeout", s.SessionTimeout.String(), "use more than 0 and up to 1m; the servers say what they grant")
	}
	for _, server := range strings.Split(s.ZooKeeper, ",") {
		if host, port, err := net.SplitHostPort(server); err != nil || host == "" || port == "" {
			return wrong("zookeeper-servers", s.ZooKeeper, "use host:port, separated by commas")
		}
	}
	return nil
}

// wrong is the error of a setting.
func wrong(flag, value, next string) error {
	return fmt.Errorf("%w: --%s (%s) is %q: %s", errUsage, flag, strings.ToUpper(strings.ReplaceAll(flag, "-", "_")), value, next)
}

// openStore opens the database.
func (s *settings) openStore() (*store.Store, error) {
	db, err := store.Open(s.Database)
	if err != nil {
		return nil, fmt.Errorf("%w: --database-url (DATABASE_URL): %w", errUsage, err)
	}
	return db, nil
}

// openLocks opens the lock service of the kind that is set.
func (s *settings) openLocks(log *zap.Logger) (locks.Locks, error) {
	if s.LockType == locks.ZooKeeper {
		return locks.OpenZooKeeper(strings.Split(s.ZooKeeper, ","), s.SessionTimeout, s.Instance, log), nil
	}
	l, err := locks.OpenRedis(s.Redis)
	if err != nil {
		return nil, fmt.Errorf("%w: --redis-url (REDIS_URL): %w", errUsage, err)
	}
	return l, nil
}

// errEnded says that there is nobody any more to wait for.
var errEnded = errors.New("it has ended")

// insist tries until it works, says so now and then, and gives up after a time, or at errEnded.
func insist(ctx context.Context, within time.Duration, say func(error), try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	said := time.Now()
	for {
		err := try(ctx)
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		if time.Since(said) > 2*time.Second {
			say(err)
			said = time.Now()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", within, err)
		}
	}
}
