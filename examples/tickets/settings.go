package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
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

func (s *settings) database(flags *pflag.FlagSet) {
	flags.StringVar(&s.Database, "database-url", "sqlite:tickets.db", "sqlite:PATH or postgres://user:password@host:port/database")
	inEnvironment(flags, "database-url")
}

func (s *settings) lockType(flags *pflag.FlagSet) {
	flags.StringVar(&s.LockType, "lock-type", locks.Redis, locks.Redis+" (Redis) or "+locks.ZooKeeper+" (ZooKeeper)")
	inEnvironment(flags, "lock-type")
}

func (s *settings) services(flags *pflag.FlagSet) {
	flags.StringVar(&s.Redis, "redis-url", "redis://localhost:6379/0", "for distributed_lock: redis://[user:password@]host:port/number")
	flags.StringVar(&s.ZooKeeper, "zookeeper-servers", "localhost:2181", "for ephemeral_node: host:port, separated by commas")
	flags.DurationVar(&s.SessionTimeout, "session-timeout", 5*time.Second, "for ephemeral_node: an instance that is silent for so long loses its reservations")
	inEnvironment(flags, "redis-url", "zookeeper-servers", "session-timeout")
}

// inEnvironment makes flags environment variables too, and has their help say so. Others are not:
// a URL or a CHECK that somebody has set for another program is not meant for us.
func inEnvironment(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f := flags.Lookup(name)
		f.Usage += " (" + variable(name) + ")"
		f.Annotations = map[string][]string{"environment": nil}
	}
}

// variable names the environment variable of a flag.
func variable(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// named names a flag, and its variable if it has one.
func named(f *pflag.Flag) string {
	if _, ok := f.Annotations["environment"]; ok {
		return fmt.Sprintf("--%s (%s)", f.Name, variable(f.Name))
	}
	return "--" + f.Name
}

// fromEnvironment sets what the command line does not say, by variables such as LOCK_TYPE.
func fromEnvironment(cmd *cobra.Command) (err error) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		_, ok := f.Annotations["environment"]
		value := os.Getenv(variable(f.Name))
		if !ok || f.Changed || value == "" || err != nil {
			return
		}
		if cmd.Flags().Set(f.Name, value) != nil {
			err = misread(f, value)
		}
	})
	return err
}

// misread is the error of a value that has not its flag's form.
func misread(f *pflag.Flag, value string) error {
	next := "use a " + f.Value.Type()
	switch f.Value.Type() {
	case "duration":
		next = "use a number and a unit, for example 120s or 2m"
	case "int":
		next = "use a whole number, for example 10"
	case "float64":
		next = "use a number, for example 0.3"
	case "bool":
		next = "use true or false"
	}
	return misuse("%s is %q: %s", named(f), value, next)
}

// flagError says of what is wrong on the command line what it says of variables.
func flagError(_ *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return misread(invalid.GetFlag(), invalid.GetValue())
	}
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
	for _, server := range s.servers() {
		if host, port, err := net.SplitHostPort(server); err != nil || host == "" || port == "" {
			return wrong("zookeeper-servers", s.ZooKeeper, "use host:port, separated by commas")
		}
	}
	return nil
}

// servers are ZooKeeper's, each as host:port.
func (s *settings) servers() []string {
	servers := strings.Split(s.ZooKeeper, ",")
	for i := range servers {
		servers[i] = strings.TrimSpace(servers[i])
	}
	return servers
}

// wrong is the error of a setting.
func wrong(flag, value, next string) error {
	return misuse("--%s (%s) is %q: %s", flag, variable(flag), masked(value), next)
}

var password = regexp.MustCompile(`(//[^/@:]*:).*@|(password=)[^&\s]*`)

// masked is a URL without its password, also if it is no good URL.
func masked(url string) string {
	return password.ReplaceAllStringFunc(url, func(found string) string {
		at := password.FindStringSubmatch(found)
		if at[1] == "" {
			return at[2] + "xxxxx"
		}
		return at[1] + "xxxxx@"
	})
}

// checkURL checks the address of a service.
func checkURL(flag, value string) error {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return misuse("--%s is %q: use http://host:port and nothing after it", flag, masked(value))
	}
	return nil
}

// openStore opens the database.
func (s *settings) openStore() (*store.Store, error) {
	if path, ok := strings.CutPrefix(s.Database, "sqlite:"); ok {
		dir := filepath.Dir(path)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() { // SQLite says "unable to open", again and again
			return nil, wrong("database-url", s.Database, "there is no directory "+dir+": make it, or name another file")
		}
	}
	db, err := store.Open(s.Database)
	if err != nil {
		next := "use sqlite:PATH or postgres://user:password@host:port/database"
		u, unread := url.Parse(s.Database) // if it cannot, the reason might quote the password
		if unread == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
			next = masked(err.Error()) + "; " + next
		}
		return nil, wrong("database-url", s.Database, next)
	}
	return db, nil
}

// openLocks opens the lock service of the kind that is set.
func (s *settings) openLocks(log *zap.Logger) (locks.Locks, error) {
	if s.LockType == locks.ZooKeeper {
		return locks.OpenZooKeeper(s.servers(), s.SessionTimeout, s.Instance, log), nil
	}
	l, err := locks.OpenRedis(s.Redis)
	if err != nil {
		return nil, wrong("redis-url", s.Redis, "use redis://host:port/0")
	}
	return l, nil
}

// errEnded says that there is nobody any more to wait for.
var errEnded = errors.New("it has ended")

// insist tries until it works, says so now and then, and gives up after a time, or at errEnded.
func insist(ctx context.Context, within time.Duration, say func(error), try func(context.Context) error) error {
	soon, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	said := time.Now()
	var last error
	for {
		err := try(soon)
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		if soon.Err() == nil || last == nil { // else it tells that the time is over, and not why
			last = err
		}
		if time.Since(said) > 2*time.Second {
			say(last)
			said = time.Now()
		}
		select {
		case <-ticker.C:
		case <-soon.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return errInterrupted
			}
			return fmt.Errorf("after %v: %w", within, last)
		}
	}
}
