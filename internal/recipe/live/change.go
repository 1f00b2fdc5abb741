package live

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

var (
	// ErrConflict is for a Change's Edit, when it finds other settings than those that it
	// was made for.
	ErrConflict = errors.New("the configuration was changed meanwhile")
	// ErrUnknown says that a change was sent, that no answer came, and that what the node
	// holds now does not tell whether it was stored: somebody replaced it by other means,
	// or the session ended.
	ErrUnknown = errors.New("whether it was stored is not known; look with `agent config get`")
)

// Change is one change of the settings, however often it is tried.
type Change struct {
	Node   string
	Schema Schema
	// Edit gives the settings that are to be, from those there are, which it must not
	// keep. It may be called several times; its error ends the change.
	Edit func(Value) (Settings, error)

	id   string
	sent *Snapshot // upon which node, when no answer came
}

// Store checks the change and stores it, and returns the version that the node has then.
// On an error nothing was stored, unless it is ErrUnknown.
//
// It happens once: it is a write at the version that was read, which can succeed only
// once, and it carries an identifier, by which it is found when its answer was lost. When
// the session ended, Store may be called again with another.
//
// The errors: a *Refused for settings that the schema refuses, Edit's own, ErrUnknown,
// the session's end, ctx's cause.
func (c *Change) Store(ctx context.Context, sess Storing) (version int32, err error) {
	if c.id == "" {
		c.id = queue.NewID()
	}
	for {
		version, stored, err := c.try(ctx, sess)
		if over := sess.Err(); over != nil && errors.Is(err, session.ErrBroken) {
			err = fmt.Errorf("%w: %w", over, err) // the connection broke first, and that was told
		}
		switch {
		case err == nil && stored:
			return version, nil
		case err != nil && c.sent != nil:
			return 0, fmt.Errorf("%w: %w", ErrUnknown, err)
		case err != nil:
			return 0, err
		}
		queue.Pause(ctx, sess)
	}
}

// Unsettled tells whether the change was sent, and no answer came. Store finds out.
func (c *Change) Unsettled() bool { return c.sent != nil }

// Storing is what Store needs of a session: a *session.Session.
type Storing interface {
	queue.Session
	Set(ctx context.Context, path string, data []byte, version int32) (*zk.Stat, error)
}

// try is one look and one write. It gives neither an error nor a version when another try
// may do it.
func (c *Change) try(ctx context.Context, sess Storing) (version int32, stored bool, err error) {
	if err := queue.EnsurePath(ctx, sess, c.Node); err != nil {
		return 0, false, fmt.Errorf("make the configuration's node: %w", err)
	}
	node, err := Read(ctx, sess, c.Node)
	if err != nil {
		return 0, false, err
	}
	now := c.Schema.Value(node)
	// A write that was given up for lost may come true as late as this.
	if i := slices.Index(now.changes, c.id); i >= 0 {
		return now.Version - int32(len(now.changes)-1-i), true, nil
	}
	if c.sent != nil && !c.tells(now) {
		return 0, false, errors.New("somebody replaced the configuration meanwhile")
	}
	c.sent = nil
	if !node.Exists {
		return 0, false, nil
	}
	data, err := c.edit(now)
	if err != nil {
		return 0, false, err
	}
	stat, err := sess.Set(ctx, c.Node, data, node.Version)
	switch {
	case err == nil:
		return stat.Version, true, nil
	case errors.Is(err, zk.ErrBadVersion), errors.Is(err, zk.ErrNoNode):
		return 0, false, nil
	case session.Definite(err):
		return 0, false, fmt.Errorf("store the configuration: %w", err)
	}
	c.sent = &node
	if queue.Over(ctx, sess) {
		return 0, false, err
	}
	return 0, false, nil
}

// tells whether a node that does not name the change proves that it was not stored: it is
// the same node still, and names all changes since.
func (c *Change) tells(now Value) bool {
	return now.node.Czxid == c.sent.Czxid && int(now.Version-c.sent.Version) <= len(now.changes)
}

// edit gives what to write.
func (c *Change) edit(now Value) ([]byte, error) {
	settings, err := c.Edit(now)
	if err == nil {
		err = c.Schema.Refuse(settings)
	}
	if err != nil {
		return nil, err
	}
	return encode(settings, append(slices.Clone(now.changes), c.id)), nil
}

// Set is an Edit that sets what is given, and unsets what is given as empty. It refuses to
// build upon what is damaged.
func Set(given Settings) func(Value) (Settings, error) {
	return func(now Value) (Settings, error) {
		if now.Damaged != nil {
			return nil, fmt.Errorf("%w; mend it with `agent config edit`", now.Damaged)
		}
		next := maps.Clone(now.Settings)
		for name, text := range given {
			if next[name] = text; text == "" {
				delete(next, name)
			}
		}
		return next, nil
	}
}
