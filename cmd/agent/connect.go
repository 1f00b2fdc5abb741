package main

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
)

// dial gets a session as the settings say. notify, if given, is told of its states.
func dial(ctx context.Context, c config.Config, log *zap.Logger, notify ...func(session.State)) (*session.Session, error) {
	tls, err := c.TLS()
	if err != nil {
		return nil, err
	}
	digest, err := c.Digest()
	if err != nil {
		return nil, err
	}
	if digest != "" && tls == nil {
		log.Warn("the digest's password goes over the network in the clear: set zookeeper.tls.ca_file")
	}
	opts := session.Options{
		Servers:        c.Zookeeper.Servers,
		Timeout:        c.Zookeeper.SessionTimeout,
		ConnectTimeout: c.Zookeeper.ConnectTimeout,
		TLS:            tls,
		Digest:         digest,
		Log:            log,
	}
	if len(notify) > 0 {
		opts.Notify = notify[0]
	}
	sess, err := session.Dial(ctx, opts)
	if errors.Is(err, session.ErrUnavailable) {
		err = fmt.Errorf("%w; is ZooKeeper running there? The setting is zookeeper.servers (--zookeeper, TURNSTILE_ZOOKEEPER_SERVERS)", err)
	}
	return sess, err
}

func rootOf(c config.Config) filelock.Root { return filelock.Root("/turnstile/" + c.Fleet) }

// withSession runs do with a session of its own.
func withSession(ctx context.Context, c config.Config, log *zap.Logger, do func(*session.Session) error) error {
	sess, err := dial(ctx, c, log)
	if err != nil {
		return err
	}
	defer sess.Close()
	return do(sess)
}
