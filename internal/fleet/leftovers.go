package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/writer"
)

const (
	// mature is for how long a node of turns/ is watched before it may be a leftover.
	mature = 3 * time.Second
	// often is how often leftovers are looked for.
	often = 1500 * time.Millisecond
	// keep is how long a node that may be deleted waits for our next commit; keepInLine is
	// that when we wait for our turn, and the nodes are small.
	keep       = time.Second
	keepInLine = 30 * time.Second
	small      = 4 << 10
	// sweepers is how many agents of a fleet look for leftovers at a time, about.
	sweepers = 8
	// recount is after how many sweeps the fleet is counted again.
	recount = 10
	// mostWorkers is how many nodes a sweep reads at most to learn that their owners are at
	// work on them. The next sweep goes on behind them.
	mostWorkers = 16
)

// tick is the time to the next sweep, with jitter, so that not all agents look at once. When
// a node is watched, it is no later than when it may be a leftover.
func (s *scribe) tick() time.Duration {
	next := often - s.Jitter(often/10)
	for _, since := range s.watched {
		if left := mature - time.Since(since); left > 0 {
			next = min(next, left+s.Jitter(often/10))
		}
	}
	return next
}

// sweep deletes what may be deleted and no commit has taken along, and settles the turns
// that others have left behind: a fleet without a next turn does not lag, and a dead
// owner's unsynced turn does not stay.
func (s *scribe) sweep(ctx context.Context) {
	sess := s.sess()
	if sess == nil || sess.Err() != nil || !s.entered() {
		return
	}
	err := s.tidy(ctx)
	if err == nil {
		err = s.remark(ctx, sess)
	}
	if err == nil {
		err = s.settleLeftovers(ctx)
	}
	switch {
	case err == nil || ctx.Err() != nil || sess.Err() != nil:
	case errors.Is(err, errVolume):
		s.failed(err)
	case s.mayComeRight(err):
		s.parted(err)
	case errors.Is(err, writer.ErrRefused):
		s.give(err)
	default:
		s.Log.Warn("what others left behind is not settled", zap.Error(err))
	}
}

// tidy deletes nodes that have waited for our next commit for too long. In a long line all
// wait for long, and a transaction for each turn's node alone would be one more for each turn.
func (s *scribe) tidy(ctx context.Context) error {
	s.mu.Lock()
	patience := keep
	if s.inLine && s.dropBytes <= small {
		patience = keepInLine
	}
	due := len(s.drops) > 0 && time.Since(s.dropped) > patience
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.dropAll(ctx, s.sess())
}

// settleLeftovers writes the turns that were watched for long enough and whose owner is
// not at work on them, in order. A round syncs them, and their nodes go.
func (s *scribe) settleLeftovers(ctx context.Context) error {
	if spared, err := s.spared(ctx); err != nil || spared {
		return err
	}
	names, err := filelock.ListTurns(ctx, s.sess(), s.Root)
	if err != nil {
		return err
	}
	if err := s.follow(ctx, names); err != nil {
		return err
	}
	workers, first := 0, s.resume
	s.resume = 0
	for _, name := range from(s.watch(names), first) {
		works, err := s.settleOne(ctx, name)
		if errors.Is(err, errBegun) {
			return s.look(ctx)
		}
		if works {
			workers++
		}
		if workers == mostWorkers {
			s.resume = name.Number + 1
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// from gives the turns in order, but those before a number last.
func from(names []filelock.TurnName, number uint64) []filelock.TurnName {
	i, _ := slices.BinarySearchFunc(names, number, func(n filelock.TurnName, number uint64) int { return cmp.Compare(n.Number, number) })
	return slices.Concat(names[i:], names[:i])
}

// spared tells, by chance, whether this sweep is left to others. A large fleet would else
// have ZooKeeper list the same nodes again and again. One that is picked twice has watched a
// node for long enough: among 1,000 agents that is after about 40 sweeps, which take 8 s.
func (s *scribe) spared(ctx context.Context) (bool, error) {
	if s.sweeps%recount == 0 {
		agents, err := s.sess().Get(ctx, s.Root.Agents())
		switch {
		case errors.Is(err, zk.ErrNoNode):
			s.fleet = 0
		case err != nil:
			return false, err
		default:
			s.fleet = agents.Stat.NumChildren
		}
	}
	s.sweeps++
	return s.fleet > sweepers && s.Jitter(time.Duration(s.fleet)) >= sweepers, nil
}

// follow looks at the file when turns of another incarnation than we know are committed:
// it was begun or adopted, and who has no turn of its own would not learn of it. Nodes alone
// do not say so, for those of an older incarnation may stay.
func (s *scribe) follow(ctx context.Context, names []filelock.TurnName) error {
	if !slices.ContainsFunc(names, func(n filelock.TurnName) bool { return n.Incarnation != s.known() }) {
		return nil
	}
	head, _, err := filelock.ReadHead(ctx, s.sess(), s.Root)
	if err != nil || head.Incarnation == s.known() {
		return err
	}
	return s.look(ctx)
}

// watch keeps since when each node has been seen, and gives those that are old.
func (s *scribe) watch(names []filelock.TurnName) (old []filelock.TurnName) {
	known := s.known()
	watched, now := map[string]time.Time{}, time.Now()
	for _, name := range names {
		node := s.Root.Turn(name.Incarnation, name.Number)
		since, seen := s.watched[node]
		if !seen {
			since = now
		}
		watched[node] = since
		if now.Sub(since) >= mature && name.Incarnation == known && known != uuid.Nil {
			old = append(old, name)
		}
	}
	s.watched = watched
	return old
}

// settleOne writes one leftover, and before it whatever the file lacks. It tells whether it
// is none, because its owner is at work on it.
func (s *scribe) settleOne(ctx context.Context, name filelock.TurnName) (works bool, err error) {
	t, err := filelock.ReadTurn(ctx, s.sess(), s.Root, name)
	switch {
	case errors.Is(err, filelock.ErrNoTurn):
		return false, nil
	case err != nil:
		return false, s.believe(err)
	case s.has(t):
		return false, nil
	case s.isOurs(t.Run) && t.Number > 0: // we are at it; but turn 0 others may have written, and died
		return false, nil
	}
	if !s.isOurs(t.Run) {
		if works, err := s.works(ctx, t); err != nil || works {
			return works, err
		}
	}
	if err := s.attached(ctx); err != nil {
		return false, err
	}
	if err := s.belongs(ctx, t); err != nil {
		return false, err
	}
	if err := s.put(t); err != nil {
		return false, err
	}
	s.unsynced = append(s.unsynced, t)
	s.Log.Info("writing a turn that its agent left behind", zap.Uint64("turn", t.Number), zap.String("agent", t.Header.Agent))
	return false, nil
}

// belongs fills the file up to where a leftover begins, and makes sure that the leftover
// is committed and follows what is there: in the file of its own incarnation, which is the
// one that is open, and the one that head speaks of.
func (s *scribe) belongs(ctx context.Context, t frame.Turn) error {
	head, err := s.fresh(ctx)
	if err != nil {
		return err
	}
	if t.Incarnation != s.known() || t.Incarnation != head.Incarnation {
		return errBegun
	}
	if t.Number > head.Turn || t.End() > head.Offset {
		return s.believe(&filelock.TurnError{Node: s.Root.Turn(t.Incarnation, t.Number), Err: fmt.Errorf("turn %d is not committed", t.Number)})
	}
	if err := s.fill(ctx, t); err != nil {
		return err
	}
	if t.Number == 0 || t.Before == head.Line {
		return nil
	}
	return s.precedes(ctx, t.Incarnation, turnAt{t.Number - 1, t.Before, t.Offset, t.Prev})
}

// has tells whether a turn was written by us already and waits for its sync.
func (s *scribe) has(t frame.Turn) bool {
	for _, u := range s.unsynced {
		if u.Number == t.Number && u.Incarnation == t.Incarnation {
			return true
		}
	}
	return false
}

// works tells whether a turn's owner is at work on it.
func (s *scribe) works(ctx context.Context, t frame.Turn) (bool, error) {
	if t.Number == 0 { // it does not say whose it is
		working, err := s.working(ctx)
		return working[t.Run], err
	}
	node, err := s.sess().Get(ctx, path.Join(s.Root.Agents(), t.Header.Agent))
	if errors.Is(err, zk.ErrNoNode) {
		return false, nil
	}
	var m member
	if err != nil || json.Unmarshal(node.Data, &m) != nil {
		return false, err
	}
	return m.Run == t.Run.String() && m.Held == "", nil
}

// working tells which agents are at work on their turns: they are in the fleet, and
// nothing holds them up.
func (s *scribe) working(ctx context.Context) (map[uuid.UUID]bool, error) {
	all, err := members(ctx, s.sess(), s.Root)
	if err != nil {
		return nil, err
	}
	runs := map[uuid.UUID]bool{}
	for _, m := range all {
		if id, err := uuid.Parse(m.Run); err == nil && m.Held == "" {
			runs[id] = true
		}
	}
	return runs, nil
}
