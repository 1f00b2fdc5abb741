// Package meeting has a fixed number of processes find each other in ZooKeeper, and then go
// step by step together: in each step every one gives a value and gets everybody's. (A
// barrier has nothing to say; here each step says something, and a check has hundreds.)
//
// In ZooKeeper, under the meeting's own directory:
//
//	<guid>   ephemeral; a member: who it is, with whom it began, its step and its values
//
// A member writes its own node alone, and reads the others'. The first Size in the order of
// their creation are in. Servers tell of creations in one order, so whoever sees a member
// sees all before it, and all agree on who is in. Who comes later is told so by ErrBusy.
//
// A member that has given its value for a step may be one step ahead of who has not read it
// yet, and no more, for its next step needs the other's value: so a node has two values.
//
// A node that goes is a death, or somebody who left: ErrGone says who, to all. The last who
// leaves removes the directory, and the one above it when that is empty. A crash of all
// leaves them; the next meeting uses them.
package meeting

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

var (
	// ErrBusy says that enough others are meeting here already; it wraps who they are.
	ErrBusy = errors.New("enough others are there already")
	// ErrSize says that somebody waits here for another number; it wraps both.
	ErrSize = errors.New("the number is in dispute")
	// ErrGone says that another member died or left; it wraps who.
	ErrGone = errors.New("another member is gone")
)

// Meeting is what a process says of a meeting that it wants to be in. All but Progress are
// required.
type Meeting struct {
	Sess *session.Session
	Dir  string // its node, made if it is missing
	Size int    // how many meet
	Who  queue.Member

	// Progress, if set, is told of who is there, ourselves among them, by the goroutine
	// of Begin.
	Progress func(there []queue.Member)
}

// Group is who met. It must be ended by Leave.
type Group struct {
	ID      string         // the same for all, and no other group's
	Members []queue.Member // in the same order for all
	Index   int            // where we are among them

	meeting Meeting
	own     string // our node's name
	self    card
}

// card is what a member's node says.
type card struct {
	Who  queue.Member    `json:"who"`
	Size int             `json:"size"`
	With []string        `json:"with,omitempty"` // the names of those with whom it began
	Step int             `json:"step"`
	Last json.RawMessage `json:"last,omitempty"` // its value for the step before
	Now  json.RawMessage `json:"now,omitempty"`  // its value for this step

	name  string
	czxid int64
}

var memberName = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Begin waits until Size members are there. When it fails, nothing of ours is left but what
// ends with the session, which the caller should close.
//
// The errors: ErrBusy; ErrSize; queue.ErrLost when somebody removed our node; the
// session's end; ctx's cause.
func (m Meeting) Begin(ctx context.Context) (*Group, error) {
	g := &Group{meeting: m, own: queue.NewID(), self: card{Who: m.Who, Size: m.Size}}
	err := g.arrive(ctx)
	if err == nil {
		err = g.gather(ctx)
	}
	if err != nil {
		g.Leave()
		return nil, fmt.Errorf("meet the others: %w", err)
	}
	return g, nil
}

func (g *Group) node(name string) string { return path.Join(g.meeting.Dir, name) }

// arrive makes our node.
func (g *Group) arrive(ctx context.Context) error {
	sess := g.meeting.Sess
	for {
		_, err := sess.Create(ctx, g.node(g.own), encode(g.self), zk.FlagEphemeral)
		switch {
		case err == nil, errors.Is(err, zk.ErrNodeExists): // its answer was lost
			return nil
		case errors.Is(err, zk.ErrNoNode):
			err = queue.EnsurePath(ctx, sess, g.meeting.Dir)
		case errors.Is(err, session.ErrBroken) && !queue.Over(ctx, sess):
			queue.Pause(ctx, sess)
			err = nil
		}
		if err != nil {
			return err
		}
	}
}

// gather waits until enough are there.
func (g *Group) gather(ctx context.Context) error {
	for {
		names, dir, err := g.meeting.Sess.WatchChildren(ctx, g.meeting.Dir)
		if errors.Is(err, zk.ErrNoNode) || err == nil && !slices.Contains(names, g.own) {
			return fmt.Errorf("%w: our node %s was removed", queue.ErrLost, g.node(g.own))
		}
		var there []card
		if err == nil {
			there, err = g.cards(ctx, names)
		}
		if err != nil {
			return err
		}
		if in, err := g.agree(there); in || err != nil {
			return err
		}
		if g.meeting.Progress != nil {
			g.meeting.Progress(members(there))
		}
		select {
		case <-dir.Watch:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d were there: %w", len(there), g.meeting.Size, context.Cause(ctx))
		case <-g.meeting.Sess.Done():
			return g.meeting.Sess.Err()
		}
	}
}

// cards reads the members' nodes, in the order of their creation.
func (g *Group) cards(ctx context.Context, names []string) (there []card, err error) {
	for _, name := range names {
		if !memberName.MatchString(name) {
			continue // a stranger
		}
		c, _, err := g.read(ctx, name, g.meeting.Sess.Get)
		if errors.Is(err, zk.ErrNoNode) {
			continue // it left
		}
		if err != nil {
			return nil, err
		}
		there = append(there, c)
	}
	slices.SortFunc(there, func(a, b card) int { return cmp.Compare(a.czxid, b.czxid) })
	return there, nil
}

func (g *Group) read(ctx context.Context, name string, get func(context.Context, string) (session.Node, error)) (card, session.Node, error) {
	node, err := get(ctx, g.node(name))
	if err != nil {
		return card{}, node, err
	}
	c := card{name: name, czxid: node.Stat.Czxid}
	if err := json.Unmarshal(node.Data, &c); err != nil {
		return c, node, fmt.Errorf("%s does not say what a member says: %w", g.node(name), err)
	}
	return c, node, nil
}

// agree tells whether enough are there, and we among them.
func (g *Group) agree(there []card) (in bool, err error) {
	size := g.meeting.Size
	first := there[:min(size, len(there))]
	busy := func(who []card) error {
		return fmt.Errorf("%w: %s", ErrBusy, names(members(who)))
	}
	for i, c := range there {
		switch {
		case c.name == g.own:
			if i >= size {
				return false, busy(first)
			}
		case c.Size != size && i < slices.IndexFunc(there, func(c card) bool { return c.name == g.own }):
			return false, fmt.Errorf("%w: %s waits for %d, we for %d; give all the same number", ErrSize, name(c.Who), c.Size, size)
		case c.Size != size: // it comes to see that
			return false, nil
		case len(c.With) > 0 && !slices.Contains(c.With, g.own):
			return false, busy(slices.DeleteFunc(slices.Clone(there), func(c card) bool { return c.name == g.own }))
		}
	}
	if len(first) < size {
		return false, nil
	}
	for i, c := range first {
		g.self.With = append(g.self.With, c.name)
		if c.name == g.own {
			g.Index = i
		}
	}
	g.ID, g.Members = first[0].name, members(first)
	return true, nil
}

// Exchange gives our value for the next step, and returns everybody's, in the order of
// Members, once all have given theirs. All members must call it equally often.
//
// The errors: ErrGone; queue.ErrLost when somebody removed our node; the session's end;
// ctx's cause.
func (g *Group) Exchange(ctx context.Context, mine json.RawMessage) ([]json.RawMessage, error) {
	g.self.Step++
	g.self.Last, g.self.Now = g.self.Now, mine
	if err := g.publish(ctx); err != nil {
		return nil, err
	}
	all := make([]json.RawMessage, len(g.Members))
	for i, name := range g.self.With {
		value, err := mine, error(nil)
		if i != g.Index {
			value, err = g.await(ctx, i, name)
		}
		if err != nil {
			return nil, err
		}
		all[i] = value
	}
	return all, nil
}

// publish writes our node. Repeating it is harmless.
func (g *Group) publish(ctx context.Context) error {
	for {
		_, err := g.meeting.Sess.Set(ctx, g.node(g.own), encode(g.self), -1)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			return fmt.Errorf("%w: our node %s was removed", queue.ErrLost, g.node(g.own))
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, g.meeting.Sess):
			return err
		}
		queue.Pause(ctx, g.meeting.Sess)
	}
}

// await waits until a member has given its value for our step.
func (g *Group) await(ctx context.Context, i int, name string) (json.RawMessage, error) {
	for {
		c, node, err := g.read(ctx, name, g.meeting.Sess.Watch)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			return nil, fmt.Errorf("%w: %s died or gave up", ErrGone, g.Name(i))
		case err != nil:
			return nil, err
		case len(c.With) > 0 && !slices.Equal(c.With, g.self.With):
			return nil, fmt.Errorf("%w: somebody left just when all were there", ErrGone)
		case c.Step == g.self.Step:
			return c.Now, nil
		case c.Step == g.self.Step+1:
			return c.Last, nil
		case c.Step > g.self.Step:
			return nil, fmt.Errorf("%s is at step %d, and we are at %d", g.Name(i), c.Step, g.self.Step)
		}
		select {
		case <-node.Watch:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for %s: %w", g.Name(i), context.Cause(ctx))
		case <-g.meeting.Sess.Done():
			return nil, g.meeting.Sess.Err()
		}
	}
}

// Leave removes our node, and the directories when nobody is left. It works though ctx has
// ended, and takes less than a second; what it can't remove ends with the session.
func (g *Group) Leave() {
	sess := g.meeting.Sess
	ctx, cancel := context.WithTimeout(sess.Context(), queue.Cleanup)
	defer cancel()
	if queue.Remove(ctx, sess, g.node(g.own)) != nil {
		return
	}
	for _, dir := range []string{g.meeting.Dir, path.Dir(g.meeting.Dir)} {
		if sess.Delete(ctx, dir) != nil { // others are there, or removed it
			return
		}
	}
}

// Name is how a member is called in what people read.
func (g *Group) Name(i int) string { return name(g.Members[i]) }

func name(who queue.Member) string { return fmt.Sprintf("%s on %s", who.Agent, who.Host) }

func names(all []queue.Member) string {
	var texts []string
	for _, who := range all {
		texts = append(texts, name(who))
	}
	return strings.Join(texts, ", ")
}

func members(cards []card) (all []queue.Member) {
	for _, c := range cards {
		all = append(all, c.Who)
	}
	return all
}

func encode(c card) []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // a plain struct
	}
	return data
}
