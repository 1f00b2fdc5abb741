package fleet_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/fleet"
	"github.com/turnstile-fleet/turnstile/internal/frame"
)

// ghost commits turns and never writes: it holds, is at work, or dies when the test says so.
type ghost struct {
	s     *site
	name  string
	run   uuid.UUID
	sess  fleet.Session
	queue *filelock.Queue
}

func (s *site) ghost(name string) *ghost {
	s.t.Helper()
	g := &ghost{s: s, name: name, run: uuid.New(), sess: s.onlooker()}
	if err := filelock.Ensure(s.t.Context(), g.sess, s.root); err != nil {
		s.t.Fatal(err)
	}
	g.queue = filelock.New(g.sess, s.root, filelock.Member{Agent: name, Host: "haunted", BootID: "boot"}, nil, nil)
	return g
}

// hold waits for a turn.
func (g *ghost) hold() *filelock.Hold {
	g.s.t.Helper()
	place, err := g.queue.Join(g.s.t.Context())
	if err != nil {
		g.s.t.Fatal(err)
	}
	hold, err := place.Wait(g.s.t.Context())
	if err != nil {
		g.s.t.Fatal(err)
	}
	return hold
}

// turn is what the ghost would commit.
func (g *ghost) turn(hold *filelock.Hold, records ...string) frame.Turn {
	g.s.t.Helper()
	head, ok := hold.Head()
	if !ok {
		g.s.t.Fatal("there is no head")
	}
	texts := make([][]byte, len(records))
	for i, r := range records {
		texts[i] = []byte(r)
	}
	header := frame.Header{Agent: g.name, Token: hold.Token(), At: time.Now().UTC().Truncate(time.Millisecond)}
	return head.Next(header, g.run, texts)
}

// commit commits a turn.
func (g *ghost) commit(records ...string) frame.Turn {
	g.s.t.Helper()
	hold := g.hold()
	turn := g.turn(hold, records...)
	if _, err := hold.Commit(g.s.t.Context(), filelock.Commit{Turn: turn}); err != nil {
		g.s.t.Fatal(err)
	}
	return turn
}

// enrol makes the ghost an agent that is at work, or held up.
func (g *ghost) enrol(held string) {
	g.s.t.Helper()
	entry, err := json.Marshal(map[string]string{"agent": g.name, "host": "haunted", "run": g.run.String(), "held": held})
	if err != nil {
		g.s.t.Fatal(err)
	}
	node := g.s.root.Agents() + "/" + g.name
	_, err = g.sess.Create(g.s.t.Context(), node, entry, zk.FlagEphemeral)
	if errors.Is(err, zk.ErrNodeExists) {
		_, err = g.sess.Multi(g.s.t.Context(), &zk.SetDataRequest{Path: node, Data: entry, Version: -1})
	}
	if err != nil {
		g.s.t.Fatal(err)
	}
}

// nodes are the numbers of the turns that have a node.
func (s *site) nodes(sess fleet.Session) (numbers []uint64) {
	s.t.Helper()
	names, err := filelock.ListTurns(s.t.Context(), sess, s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range names {
		numbers = append(numbers, n.Number)
	}
	return numbers
}

// look asks for the fleet's status.
func (s *site) look(sess fleet.Session) fleet.Status {
	s.t.Helper()
	status, err := fleet.Look(s.t.Context(), sess, s.root, "test")
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

// held is what the entry of the agent called name says that holds it up.
func (s *site) held(sess fleet.Session, name string) string {
	s.t.Helper()
	for _, a := range s.look(sess).Agents {
		if a.Agent == name {
			return a.Held
		}
	}
	return ""
}

// evict removes whoever has the turn.
func (s *site) evict(sess fleet.Session) {
	s.t.Helper()
	holder := s.look(sess).Holder
	if holder == nil {
		s.t.Error("nobody has the turn")
		return
	}
	if err := filelock.Evict(s.t.Context(), sess, s.root, holder.Place); err != nil {
		s.t.Error(err)
	}
}

// isCommit tells a transaction that creates the node of a turn.
func isCommit(paths []string) bool {
	return len(paths) > 2 && strings.Contains(paths[0], "/queue-") && slices.ContainsFunc(paths[1:], func(p string) bool { return strings.Contains(p, "/turns/") })
}
