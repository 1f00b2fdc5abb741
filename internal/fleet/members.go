package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/session"
)

// member is an agent's entry under agents/: who is in the fleet.
type member struct {
	filelock.Member
	Run string `json:"run"` // one process's life, across its sessions

	Held      string     `json:"held,omitempty"`       // what holds it up: it takes no turns
	HeldSince *time.Time `json:"held_since,omitempty"` // by its own clock
}

// node is our entry.
func (a *Agent) node() string { return path.Join(a.Root.Agents(), a.scribe.called()) }

// ErrNameTaken says that another live agent has the name that was asked for.
var ErrNameTaken = errors.New("the agent's name is taken")

// mostAgents is how many names of its own giving a fleet has.
const mostAgents = 1024

// register enters the fleet under a name that no other live agent has: the one
// asked for, or if none was, the one had before, or the lowest free agent-N. It goes
// when the session ends. The agent that has the name asked for may have died just now:
// its session is given the time to expire.
func (a *Agent) register(ctx context.Context, sess Session, me member) (name string, err error) {
	asked, before := a.Name, a.name
	patience, cancel := context.WithTimeout(ctx, 2*sess.Timeout())
	defer cancel()
	for n := 0; ; n++ {
		switch {
		case asked != "":
			name = asked
		case n > mostAgents:
			return "", fmt.Errorf("enter the fleet: all names agent-1 to agent-%d are taken; stop agents that are not needed, or give this one a name (agent.name)", mostAgents)
		case n > 0:
			name = fmt.Sprintf("agent-%d", n)
		case before != "":
			name = before
		default:
			continue
		}
		me.Agent = name
		node := path.Join(a.Root.Agents(), name)
		taken, err := claim(ctx, sess, node, me)
		if err == nil && taken != nil && asked != "" {
			a.Log.Info("the agent's name is taken, waiting in case its owner has just died", zap.String("agent", name), zap.String("host", taken.Host))
			err = waitGone(patience, sess, node)
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				err = fmt.Errorf("%w by host %s since %s; give this one another agent.name, or none", ErrNameTaken, taken.Host, taken.Since.Format(time.RFC3339))
			}
		}
		if err != nil {
			return "", fmt.Errorf("enter the fleet as %s: %w", name, err)
		}
		if taken == nil {
			return name, nil
		}
	}
}

// waitGone blocks until there is no such node, or something happened to it. When the
// session is over as well as ctx, as after a pause of this process, the error is the
// session's.
func waitGone(ctx context.Context, sess filelock.Session, node string) error {
	there, err := sess.Watch(ctx, node)
	if err == nil {
		select {
		case <-there.Watch:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	switch {
	case sess.Err() != nil:
		return sess.Err()
	case errors.Is(err, zk.ErrNoNode):
		return nil
	}
	return err
}

// claim makes the node ours. taken is who has it, nil when we do. The node of an
// earlier session of this very process is in the way only until it is removed.
func claim(ctx context.Context, sess filelock.Session, node string, me member) (taken *member, err error) {
	for {
		_, err := sess.Create(ctx, node, encode(me), zk.FlagEphemeral)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, zk.ErrNodeExists) && !errors.Is(err, session.ErrBroken) || ctx.Err() != nil || sess.Err() != nil {
			return nil, cmp.Or(sess.Err(), err)
		}
		there, err := sess.Get(ctx, node)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if there.Stat.EphemeralOwner == sess.ID() {
			return nil, nil // the reply to our create was lost
		}
		var other member
		if json.Unmarshal(there.Data, &other) != nil || other.Run != me.Run {
			return &other, nil
		}
		err = sess.Delete(ctx, node)
		if session.Definite(err) && !errors.Is(err, zk.ErrNoNode) || ctx.Err() != nil || sess.Err() != nil {
			return nil, cmp.Or(sess.Err(), context.Cause(ctx), err) // and never nil: it is not ours yet
		}
	}
}

// members lists the fleet by name.
func members(ctx context.Context, sess filelock.Session, root filelock.Root) ([]member, error) {
	names, err := sess.Children(ctx, root.Agents())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	slices.SortFunc(names, func(a, b string) int { // agent-2 before agent-10
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	var all []member
	for _, name := range names {
		node, err := sess.Get(ctx, path.Join(root.Agents(), name))
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at agent %s: %w", name, err)
		}
		var m member
		// What cannot be read is listed all the same, by its name.
		_ = json.Unmarshal(node.Data, &m)
		m.Agent = name
		all = append(all, m)
	}
	return all, nil
}

// lives lists by what the deaths of the fleet's members are noticed.
func lives(ctx context.Context, sess filelock.Session, root filelock.Root) (names []string, err error) {
	all, err := members(ctx, sess, root)
	for _, m := range all {
		names = append(names, m.Life)
	}
	return names, err
}

// BootID identifies the running kernel: the same in all containers of a machine,
// another on every other machine and after every boot. It is empty where it cannot be
// had: deaths are noticed by the session's end then.
func BootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	return data
}
