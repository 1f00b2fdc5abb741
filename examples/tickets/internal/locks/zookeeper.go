package locks

import (
	"context"
	"errors"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
)

// The nodes. A ticket's lock is a node of its own, which stays when it is free.
const (
	root      = "/tickets"
	seatsNode = root + "/seats"
	epochNode = root + "/epoch"
)

// atOnce is how much is asked of ZooKeeper at a time, by one instance. A try that can't be ended
// in time costs the whole session, and all reservations with it: so the rest waits here.
const atOnce = 32

// redial is the pause after a session could not be had.
const redial = 500 * time.Millisecond

type zooKeeperLocks struct {
	opts   session.Options
	who    lock.Member
	log    *zap.Logger
	cancel context.CancelFunc
	ended  chan struct{} // closed when keep has ended
	turns  chan struct{} // capacity atOnce: full of those who ask

	mu    sync.Mutex
	sess  *session.Session // nil while there is none
	tried map[string]bool  // tickets that somebody tries to take, here
}

// OpenZooKeeper gives locks in ZooKeeper, by the ephemeral nodes of an instance: they go when
// it ends, and at the latest timeout after it fell silent. It does not wait for a connection.
// Close closes the session.
func OpenZooKeeper(servers []string, timeout time.Duration, instance string, log *zap.Logger) Locks {
	ctx, cancel := context.WithCancel(context.Background())
	l := &zooKeeperLocks{
		opts: session.Options{Servers: servers, Timeout: timeout, Log: log},
		who:  lock.Member{Agent: instance, Since: time.Now().UTC()}, log: log,
		cancel: cancel, ended: make(chan struct{}), turns: make(chan struct{}, atOnce), tried: map[string]bool{},
	}
	go l.keep(ctx)
	return l
}

// keep dials a session whenever there is none, until Close.
func (l *zooKeeperLocks) keep(ctx context.Context) {
	defer close(l.ended)
	for ctx.Err() == nil {
		sess, err := session.Dial(ctx, l.opts)
		if err != nil {
			if ctx.Err() == nil {
				l.log.Warn("no session with ZooKeeper, trying again", zap.Error(err))
			}
			select {
			case <-time.After(redial):
			case <-ctx.Done():
			}
			continue
		}
		l.use(sess)
		select {
		case <-sess.Done():
			l.log.Warn("the session with ZooKeeper is over, and all reservations made here", zap.Error(sess.Err()))
		case <-ctx.Done():
		}
		l.use(nil)
		sess.Close()
	}
}

func (l *zooKeeperLocks) use(sess *session.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sess = sess
}

func (l *zooKeeperLocks) session() (*session.Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sess == nil {
		return nil, ErrUnavailable
	}
	return l.sess, nil
}

func (l *zooKeeperLocks) Take(ctx context.Context, ticket string, epoch int64, hold time.Duration) (token Token, until time.Time, err error) {
	if !l.begin(ticket) {
		return token, until, ErrTaken // of those who try at the same moment one at most has it
	}
	defer l.end(ticket)
	held, until, err := l.try(ctx, ticket, epoch, hold)
	if err != nil {
		return token, until, err
	}
	expiry := time.AfterFunc(time.Until(until), held.Close)
	context.AfterFunc(held.Context(), func() { expiry.Stop() }) // runs when it is not ours any more
	return Token{epoch, int64(held.Token())}, until, nil
}

// begin notes that somebody tries to take a ticket, unless another does.
func (l *zooKeeperLocks) begin(ticket string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tried[ticket] {
		return false
	}
	l.tried[ticket] = true
	return true
}

func (l *zooKeeperLocks) end(ticket string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tried, ticket)
}

func (l *zooKeeperLocks) try(ctx context.Context, ticket string, epoch int64, hold time.Duration) (held *lock.Held, until time.Time, err error) {
	if err := l.turn(ctx); err != nil {
		return nil, until, err
	}
	defer l.done()
	sess, err := l.session()
	if err != nil {
		return nil, until, err
	}
	until = time.Now().Add(hold)
	// Before the lock, because a thousand may have waited for a turn meanwhile; and after it, in
	// the session that took it: an epoch of another life of ZooKeeper would give the token a
	// false place.
	if _, err := checkEpoch(ctx, sess, epoch); err != nil {
		return nil, until, err
	}
	seat := &lock.Lock{Sess: sess, Dir: seat(ticket), Who: l.who, Log: l.log, Patience: patience}
	held, err = seat.TryExclusive(ctx)
	if errors.Is(err, lock.ErrBusy) {
		var old bool
		if old, err = evictOld(ctx, sess, seat.Dir, epoch); old {
			held, err = seat.TryExclusive(ctx)
		}
	}
	switch {
	case errors.Is(err, lock.ErrBusy):
		return nil, until, ErrTaken
	case err != nil:
		return nil, until, asUnavailable(err)
	}
	now, err := checkEpoch(ctx, sess, epoch)
	if err == nil && now.since > int64(held.Token()) {
		err = ErrEpoch
	}
	if err != nil {
		held.Close()
		return nil, until, err
	}
	return held, until, nil
}

// patience is for how long to try to give a lock up. Without, a session would be given up for
// it, and all other reservations with it. It ends with the session.
const patience = time.Hour

// evictOld takes a lock away from a holder of an epoch before the service's, who is worth
// nothing. ErrBusy says that there is none such.
func evictOld(ctx context.Context, sess *session.Session, dir string, epoch int64) (old bool, err error) {
	now, err := checkEpoch(ctx, sess, epoch)
	if err != nil {
		return false, err
	}
	state, err := lock.Look(ctx, sess, dir)
	if err != nil {
		return false, err
	}
	for _, h := range state.Holders {
		if int64(h.Token) < now.since {
			return true, lock.Evict(ctx, sess, dir, h.Place)
		}
	}
	return false, lock.ErrBusy
}

// asUnavailable wraps an error that is none of this package's.
func asUnavailable(err error) error {
	if errors.Is(err, ErrEpoch) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return silent(err)
}

// turn waits until there is room for one more who asks.
func (l *zooKeeperLocks) turn(ctx context.Context) error {
	select {
	case l.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return silent(context.Cause(ctx))
	}
}

func (l *zooKeeperLocks) done() { <-l.turns }

func (l *zooKeeperLocks) Free(ctx context.Context, ticket string, t Token) error {
	sess, err := l.session()
	if err != nil {
		return err
	}
	state, err := lock.Look(ctx, sess, seat(ticket))
	if err != nil {
		return silent(err)
	}
	for _, h := range state.Holders {
		if int64(h.Token) == t.Number { // no other node ever has its name
			return silent(lock.Evict(ctx, sess, seat(ticket), h.Place))
		}
	}
	return nil
}

func (l *zooKeeperLocks) Holders(ctx context.Context, tickets []string) (map[string]Token, error) {
	sess, err := l.session()
	if err != nil {
		return nil, err
	}
	// The server of this session may lag behind that of the instance that took a lock.
	if err := sess.Sync(ctx, "/"); err != nil {
		return nil, silent(err)
	}
	now, err := readEpoch(ctx, sess)
	if err != nil {
		return nil, err
	}
	held := map[string]Token{}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, ticket := range tickets {
		group.Go(func() error {
			if err := l.turn(ctx); err != nil {
				return err
			}
			defer l.done()
			state, err := lock.Look(ctx, sess, seat(ticket))
			if err != nil {
				return silent(err)
			}
			if len(state.Holders) > 0 && int64(state.Holders[0].Token) > now.since {
				mu.Lock()
				defer mu.Unlock()
				held[ticket] = Token{now.epoch, int64(state.Holders[0].Token)}
			}
			return nil
		})
	}
	return held, group.Wait()
}

func (l *zooKeeperLocks) Raise(ctx context.Context, to int64) error {
	sess, err := l.session()
	if err != nil {
		return err
	}
	for {
		node, err := sess.Get(ctx, epochNode)
		if errors.Is(err, zk.ErrNoNode) {
			err = makeEpoch(ctx, sess, to)
			if errors.Is(err, zk.ErrNodeExists) {
				continue
			}
			return silent(err)
		}
		if err != nil {
			return silent(err)
		}
		if asEpoch(string(node.Data)) >= to {
			return nil
		}
		_, err = sess.Set(ctx, epochNode, []byte(strconv.FormatInt(to, 10)), node.Stat.Version)
		if errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNoNode) {
			continue
		}
		return silent(err)
	}
}

// makeEpoch makes the epoch's node, and the one above it.
func makeEpoch(ctx context.Context, sess *session.Session, epoch int64) error {
	if _, err := sess.Create(ctx, root, nil, 0); err != nil && !errors.Is(err, zk.ErrNodeExists) {
		return err
	}
	_, err := sess.Create(ctx, epochNode, []byte(strconv.FormatInt(epoch, 10)), 0)
	return err
}

// era is an epoch, 0 when there is none, and the zxid it was raised at: a lock with a lower one
// was taken before.
type era struct{ epoch, since int64 }

// checkEpoch is readEpoch, and ErrEpoch when it is another than wanted.
func checkEpoch(ctx context.Context, sess *session.Session, want int64) (era, error) {
	now, err := readEpoch(ctx, sess)
	if err == nil && now.epoch != want {
		err = ErrEpoch
	}
	return now, err
}

func readEpoch(ctx context.Context, sess *session.Session) (era, error) {
	node, err := sess.Get(ctx, epochNode)
	if errors.Is(err, zk.ErrNoNode) {
		return era{}, nil
	}
	if err != nil {
		return era{}, silent(err)
	}
	return era{asEpoch(string(node.Data)), node.Stat.Mzxid}, nil
}

func (l *zooKeeperLocks) Epoch(ctx context.Context) (int64, error) {
	sess, err := l.session()
	if err != nil {
		return 0, err
	}
	if err := sess.Sync(ctx, "/"); err != nil { // its server may lag behind
		return 0, silent(err)
	}
	now, err := readEpoch(ctx, sess)
	return now.epoch, err
}

func (l *zooKeeperLocks) Close() {
	l.cancel()
	<-l.ended
}

// seat is a ticket's node. A ticket's name is never a path: see package booking.
func seat(ticket string) string { return path.Join(seatsNode, ticket) }
