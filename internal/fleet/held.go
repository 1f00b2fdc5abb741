package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"
)

// mostBound is the longest that an operation of the volume may take, see limit.
const mostBound = 2 * time.Second

// limit is how long an operation of the volume may take before the agent counts as held
// up: a quarter of the session's timeout, at most two seconds.
func (s *scribe) limit() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limitOf()
}

// holdUp notes that the volume does not take our writes.
func (s *scribe) holdUp(err error) {
	s.mu.Lock()
	fresh := s.held == ""
	if fresh {
		s.since = time.Now()
	}
	s.held = err.Error()
	s.mu.Unlock()
	if fresh {
		s.Log.Error("held up: no turn is taken until the volume takes our writes again; what is committed stays committed", zap.Error(err))
	}
	signal(s.moved)
}

// recovered notes that the volume takes our writes.
func (s *scribe) recovered() {
	s.doubted = time.Time{}
	s.mu.Lock()
	was := s.held
	s.held = ""
	s.mu.Unlock()
	if was != "" {
		s.Log.Info("no longer held up: the volume takes our writes again")
		signal(s.moved)
	}
}

// heldUp is what holds the volume up, empty when nothing does. The caller has the lock.
func (s *scribe) heldUp() string {
	if began := s.oldest(); s.held == "" && !began.IsZero() && time.Since(began) > s.limitOf() {
		return fmt.Sprintf("an operation on %s does not return", s.File.Path)
	}
	return s.held
}

// oldest is since when an operation of the volume is under way, zero when none is. The
// caller has the lock.
func (s *scribe) oldest() time.Time {
	if s.busy.IsZero() || !s.syncSince.IsZero() && s.syncSince.Before(s.busy) {
		return s.syncSince
	}
	return s.busy
}

// limitOf is limit, for who has the lock.
func (s *scribe) limitOf() time.Duration {
	if s.session == nil {
		return s.bound
	}
	return min(s.session.Timeout()/4, s.bound)
}

// heldSince is what holds us up, and since when.
func (s *scribe) heldSince() (what string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what = s.heldUp()
	switch {
	case what == "":
		return "", time.Time{}
	case s.held == "":
		return what, s.oldest()
	}
	return what, s.since
}

// publish says in our entry under agents/ what holds us up, whenever that has changed.
func (a *Agent) publish(ctx context.Context, sess Session) {
	what, since := a.scribe.heldSince()
	if what == a.told || a.scribe.called() == "" {
		return
	}
	err := a.update(ctx, sess, func(me *member) {
		me.Held, me.HeldSince = what, nil
		if at := since.UTC(); what != "" {
			me.HeldSince = &at
		}
	})
	if err != nil {
		a.Log.Debug("the fleet is not told what holds us up", zap.Error(err))
	}
	if err == nil || errors.Is(err, zk.ErrNoNode) || errors.Is(err, ErrNameTaken) { // else it is told next time
		a.told = what
	}
}

// update changes our entry under agents/. If somebody removed it there is nothing to change:
// we enter again with our next session.
func (a *Agent) update(ctx context.Context, sess Session, change func(*member)) error {
	for {
		there, err := sess.Get(ctx, a.node())
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		if err != nil {
			return err
		}
		if there.Stat.EphemeralOwner != sess.ID() {
			return nil // another has the name now
		}
		var me member
		if err := json.Unmarshal(there.Data, &me); err != nil {
			return fmt.Errorf("our entry %s was altered: %w", a.node(), err)
		}
		change(&me)
		_, err = sess.Multi(ctx, &zk.SetDataRequest{Path: a.node(), Data: encode(me), Version: there.Stat.Version})
		if !errors.Is(err, zk.ErrBadVersion) && !errors.Is(err, zk.ErrNoNode) { // else our other goroutine has changed it
			return err
		}
	}
}
