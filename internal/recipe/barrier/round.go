package barrier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// A round's states.
const (
	open   = "open"
	ready  = "ready"
	done   = "done"
	broken = "broken"
)

// state is what a round's node says.
type state struct {
	State   string   `json:"state"`
	Size    int      `json:"size"`
	By      string   `json:"by"` // who opened it
	Members []string `json:"members,omitempty"`
	Why     string   `json:"why,omitempty"` // it was broken

	version int32
	watch   <-chan zk.Event
}

// round is a round as one of its members sees it.
type round struct {
	*Barrier
	number int32
	id     string // ours
	name   string // our node's
}

func (r *round) path() string            { return path.Join(r.Dir, strconv.Itoa(int(r.number))) }
func (r *round) node(name string) string { return path.Join(r.path(), name) }
func (r *round) own() string             { return r.node(r.name) }

const leftPrefix = "left-"

var (
	memberName = regexp.MustCompile(`^[0-9a-f]{32}-[0-9]{10}$`)
	markerName = regexp.MustCompile(`^` + leftPrefix + `[0-9a-f]{32}$`)
	roundName  = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})$`)
)

// marker is the path of what says that a member has left.
func (r *round) marker(member string) string { return r.node(leftPrefix + idOf(member)) }

func idOf(member string) string { return member[:strings.IndexByte(member, '-')] }

// members picks the members out of a round's children, in the order of their arrival.
func members(names []string) (found []string) {
	for _, name := range names {
		if memberName.MatchString(name) {
			found = append(found, name)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(a[32:], b[32:]) })
	return found
}

// parse reads a round's node. One that no member wrote is a broken round.
func parse(node session.Node) state {
	s := state{}
	err := json.Unmarshal(node.Data, &s)
	if err != nil || !slices.Contains([]string{open, ready, done, broken}, s.State) || s.Size < 1 ||
		slices.ContainsFunc(s.Members, func(m string) bool { return !memberName.MatchString(m) }) {
		s = state{State: broken, Why: "somebody wrote into its node"}
	}
	s.version, s.watch = node.Stat.Version, node.Watch
	return s
}

// look reads the round's state and watches it.
func (r *round) look(ctx context.Context) (state, error) {
	node, err := r.Sess.Watch(ctx, r.path())
	if errors.Is(err, zk.ErrNoNode) {
		return state{}, fmt.Errorf("%w: the round's node %s was removed", queue.ErrLost, r.path())
	}
	if err != nil {
		return state{}, fmt.Errorf("look at the round: %w", err)
	}
	return parse(node), nil
}

// change makes the round's state, which was s, another, together with ops; and moves the
// directory on when the round was open. A nil error, like zk.ErrBadVersion and one that is
// not definite, means: look again.
func (r *round) change(ctx context.Context, s state, to state, ops ...any) error {
	to.Size, to.By = s.Size, s.By
	if to.Members == nil {
		to.Members = s.Members
	}
	all := append(ops, &zk.SetDataRequest{Path: r.path(), Data: encode(to), Version: s.version})
	if s.State == open {
		dir, err := r.Sess.Get(ctx, r.Dir)
		if err != nil {
			return err
		}
		if dir.Stat.Version == r.number { // else somebody wrote into it
			all = append(all, &zk.SetDataRequest{Path: r.Dir, Version: r.number})
		}
	}
	_, err := r.Sess.Multi(ctx, all...)
	return err
}

// settled tells whether after change there is nothing to do but to look again.
func settled(err error) bool {
	return err == nil || errors.Is(err, zk.ErrBadVersion) || errors.Is(err, session.ErrBroken)
}

func unlessNoNode(err error) error {
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}

func encode(s state) []byte {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // a plain struct
	}
	return data
}

// depart takes us out of the round. Unless we have left it, it is broken by that, when it
// is not over. It works though the caller's context has ended, and takes less than a second.
func (r *round) depart(why string, left bool) {
	ctx, cancel := context.WithTimeout(r.Sess.Context(), queue.Cleanup)
	defer cancel()
	err := r.goAway(ctx, why, left)
	if err != nil {
		if r.Sess.Err() == nil {
			r.Sess.Discard(fmt.Sprintf("a node may be left at the barrier: %v", err))
		}
		return
	}
	for err = r.sweep(ctx); errors.Is(err, session.ErrBroken) && ctx.Err() == nil; err = r.sweep(ctx) {
		queue.Pause(ctx, r.Sess)
	}
	if err != nil {
		r.Log.Debug("the round is left to be cleared away by a later one", zap.Error(err))
	}
}

func (r *round) goAway(ctx context.Context, why string, left bool) error {
	for {
		node, err := r.Sess.Get(ctx, r.path())
		if errors.Is(err, zk.ErrNoNode) {
			return nil // and ours with it
		}
		if err != nil {
			return err
		}
		s := parse(node)
		if left || s.State == done || s.State == broken || s.State == ready && !slices.Contains(s.Members, r.name) {
			return queue.Remove(ctx, r.Sess, r.own())
		}
		to := state{State: broken, Why: why}
		err = r.change(ctx, s, to, &zk.DeleteRequest{Path: r.own(), Version: -1})
		if errors.Is(err, zk.ErrNoNode) { // ours was removed by somebody
			err = r.change(ctx, s, to)
		}
		switch {
		case err == nil:
			return nil
		case !settled(err) && !errors.Is(err, zk.ErrNoNode), ctx.Err() != nil:
			return err
		}
		queue.Pause(ctx, r.Sess)
	}
}

// sweep removes a round that is over when nobody is there any more. Strangers in it keep it.
func (r *round) sweep(ctx context.Context) error {
	names, err := r.Sess.Children(ctx, r.path())
	if errors.Is(err, zk.ErrNoNode) || err == nil && len(members(names)) > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var ops []any
	for _, name := range names {
		if markerName.MatchString(name) {
			ops = append(ops, &zk.DeleteRequest{Path: r.node(name), Version: -1})
		}
	}
	_, err = r.Sess.Multi(ctx, append(ops, &zk.DeleteRequest{Path: r.path(), Version: -1})...)
	switch {
	case errors.Is(err, zk.ErrNotEmpty):
		r.Log.Warn("foreign nodes keep a barrier's round that is over: `agent znode delete -r` removes it", zap.String("node", r.path()))
		return nil
	case errors.Is(err, zk.ErrNoNode): // another sweeps
		return nil
	}
	return err
}

// sweepBefore removes what is left of rounds before this one.
func (r *round) sweepBefore(ctx context.Context) {
	names, err := r.Sess.Children(ctx, r.Dir)
	for _, name := range names {
		n, parsed := strconv.ParseInt(name, 10, 32)
		if parsed != nil || !roundName.MatchString(name) || int32(n) >= r.number {
			continue // a stranger, or a later round
		}
		old := &round{Barrier: r.Barrier, number: int32(n)}
		err = errors.Join(err, old.sweep(ctx))
	}
	if err != nil {
		r.Log.Debug("earlier rounds cannot be cleared away now", zap.Error(err))
	}
}

// card is what a member's node says of it.
func (b *Barrier) card() []byte {
	who := b.Who
	who.Since = time.Now().UTC()
	data, err := json.Marshal(who)
	if err != nil {
		panic(err) // a plain struct
	}
	return data
}
