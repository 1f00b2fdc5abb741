package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
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
		err = fmt.Errorf("%w; is ZooKeeper running there? The setting is zookeeper.servers (--zookeeper, TURNSTILE_ZOOKEEPER_SERVERS). To try things out, `agent dev-server` is a ZooKeeper of your own", err)
	}
	if err != nil {
		return nil, err
	}
	if digest != "" {
		if err := openParents(ctx, sess, c.Zookeeper.Root); err != nil {
			sess.Close()
			return nil, err
		}
		if acl, err := sess.ACLOf(ctx, string(rootOf(c))); err == nil && isOpen(acl) {
			log.Warn("the fleet's nodes in ZooKeeper are open to everybody, though credentials are set: it was begun without; `agent acl --tighten` gives them to these credentials alone", zap.String("fleet", string(rootOf(c))))
		}
	}
	return sess, nil
}

// openParents makes the nodes above the fleets' own, where they are missing, such that others
// than we can make their fleets beneath them.
func openParents(ctx context.Context, sess *session.Session, root string) error {
	if _, err := sess.Get(ctx, root); !errors.Is(err, zk.ErrNoNode) {
		return nil // what is wrong with it whoever uses it is told
	}
	acl := slices.Concat(sess.ACL(), zk.WorldACL(zk.PermRead|zk.PermCreate))
	node := ""
	for part := range strings.SplitSeq(strings.TrimPrefix(root, "/"), "/") {
		node += "/" + part
		_, err := sess.Multi(ctx, &zk.CreateRequest{Path: node, Acl: acl})
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return fmt.Errorf("create %s: %w", node, err)
		}
	}
	return nil
}

func rootOf(c config.Config) filelock.Root {
	return filelock.Root(path.Join(c.Zookeeper.Root, c.Fleet))
}

// explained adds to an error what a person can do about it, where ZooKeeper's own words do not
// say so.
func explained(err error) error {
	switch {
	case errors.Is(err, zk.ErrNoAuth):
		return fmt.Errorf("%w: that node's access control does not let us; give the credentials that it was made with (zookeeper.digest_file, --digest-file). `agent znode stat` shows whose it is", err)
	case errors.Is(err, session.ErrAuthWanted):
		return fmt.Errorf("%w; give credentials that it knows (zookeeper.digest_file, --digest-file)", err)
	case errors.Is(err, zk.ErrAuthFailed):
		return fmt.Errorf("%w: the server does not take these credentials; look at zookeeper.digest_file (--digest-file)", err)
	case errors.Is(err, session.ErrQuota):
		return fmt.Errorf("%w; who runs the ensemble can raise it (setquota), or show what fills it (listquota)", err)
	case errors.Is(err, session.ErrReadOnly):
		return fmt.Errorf("%w; it comes back when more than half of the servers run and see each other", err)
	}
	return err
}

// withSession runs do with a session of its own.
func withSession(ctx context.Context, c config.Config, log *zap.Logger, do func(*session.Session) error) error {
	sess, err := dial(ctx, c, log)
	if err != nil {
		return err
	}
	defer sess.Close()
	return do(sess)
}
