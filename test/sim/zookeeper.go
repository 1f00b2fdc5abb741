package sim

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// zookeeper is two servers with one history. The first, the leader, has applied all of
// it; the second may lag behind, and answers reads from what it has. A write is answered
// when the server that was asked has applied it too.
type zookeeper struct {
	w        *world
	history  []txn
	zxid     int64
	counters map[string]int32 // children ever created, by parent
	servers  [2]*server
	sessions []*client // by order of creation
	ids      int64
	flights  []flight        // writes of connections that broke: still under way
	hidden   map[string]bool // nodes that nobody is allowed to read
}

// txn is one entry of the history.
type txn struct {
	zxid    int64
	changes []change
	ends    int64 // the session that ends with it, or 0
}

type change struct {
	path string
	node *znode // nil: deleted
}

// znode never changes once it is committed: a change puts another in its place.
type znode struct {
	data         []byte
	czxid, mzxid int64
	version      int32
	owner        int64
	asked        *zk.Stat // made when somebody asks for it first
}

func (n *znode) stat() *zk.Stat {
	if n.asked == nil {
		n.asked = &zk.Stat{Czxid: n.czxid, Mzxid: n.mzxid, Version: n.version, EphemeralOwner: n.owner, DataLength: int32(len(n.data))}
	}
	return n.asked
}

// flight is a write whose sender knows nothing of it any more.
type flight struct {
	from  *client
	conns uint64
	what  string
	write func() error
}

func newZookeeper(w *world) *zookeeper {
	z := &zookeeper{w: w, zxid: 1 << 32, counters: map[string]int32{}, hidden: map[string]bool{}}
	for i, name := range []string{"the leader", "the follower"} {
		z.servers[i] = &server{zk: z, name: name, nodes: map[string]*znode{}}
	}
	return z
}

func (z *zookeeper) leader() *server { return z.servers[0] }

// commit makes one transaction of changes, which must be allowed.
func (z *zookeeper) commit(changes []change, ends int64) {
	z.zxid++
	for _, c := range changes {
		if c.node == nil {
			continue
		}
		if c.node.mzxid = z.zxid; c.node.czxid == 0 {
			c.node.czxid = z.zxid
		}
	}
	z.history = append(z.history, txn{z.zxid, changes, ends})
	z.leader().applyTo(len(z.history))
	z.w.changed(changes)
}

// drop deletes a node, if it is there.
func (s *server) drop(node string) bool {
	if s.nodes[node] == nil {
		return false
	}
	s.zk.commit([]change{{path: node}}, 0)
	return true
}

// prepare turns a request into changes, or says why it is refused. Those of a multi
// see what the ones before them will have done.
func (z *zookeeper) prepare(op any, owner int64, sofar []change) (change, error) {
	look := func(p string) *znode {
		for _, c := range slices.Backward(sofar) {
			if c.path == p {
				return c.node
			}
		}
		return z.leader().nodes[p]
	}
	switch op := op.(type) {
	case *zk.CreateRequest:
		node := op.Path
		if op.Flags&zk.FlagSequence != 0 {
			node += fmt.Sprintf("%010d", z.counters[path.Dir(op.Path)])
		}
		if look(node) != nil {
			return change{}, zk.ErrNodeExists
		}
		if parent := path.Dir(node); parent != "/" && look(parent) == nil {
			return change{}, zk.ErrNoNode
		}
		n := &znode{data: op.Data}
		if op.Flags&zk.FlagEphemeral != 0 {
			n.owner = owner
		}
		return change{node, n}, nil
	case *zk.SetDataRequest:
		was := look(op.Path)
		if was == nil {
			return change{}, zk.ErrNoNode
		}
		if op.Version >= 0 && op.Version != was.version {
			return change{}, zk.ErrBadVersion
		}
		return change{op.Path, &znode{data: op.Data, czxid: was.czxid, version: was.version + 1, owner: was.owner}}, nil
	case *zk.DeleteRequest:
		if look(op.Path) == nil {
			return change{}, zk.ErrNoNode
		}
		return change{path: op.Path}, nil
	case *zk.CheckVersionRequest:
		was := look(op.Path)
		if was == nil {
			return change{}, zk.ErrNoNode
		}
		return change{op.Path, was}, nil
	}
	panic(fmt.Sprintf("sim: %T", op))
}

// transact runs requests all or none. The error is that of the first that was refused,
// which is the one after those that are done.
func (z *zookeeper) transact(owner int64, ops ...any) ([]change, error) {
	var changes, done []change
	for _, op := range ops {
		c, err := z.prepare(op, owner, done)
		if err != nil {
			return done, err
		}
		done = append(done, c)
		if _, check := op.(*zk.CheckVersionRequest); !check {
			changes = append(changes, c)
		}
	}
	for _, op := range ops { // only now: a refused multi counts nothing
		if create, ok := op.(*zk.CreateRequest); ok {
			z.counters[path.Dir(create.Path)]++
		}
	}
	z.commit(changes, 0)
	return done, nil
}

// connect begins a session.
func (z *zookeeper) connect(p *proc) *client {
	z.zxid++
	z.ids++
	c := newClient(p, z.ids)
	z.history = append(z.history, txn{zxid: z.zxid})
	z.leader().applyTo(len(z.history))
	c.attach(z.servers[z.w.tape.pick(2)])
	c.server.applyTo(len(z.history))
	z.sessions = append(z.sessions, c)
	z.w.tell("%s has session %d, at %s", p.name, c.id, c.server.name)
	return c
}

// expireOld ends the sessions that nobody has used for as long as their timeout.
func (z *zookeeper) expireOld() {
	for _, c := range z.sessions {
		if !c.gone && !c.left.IsZero() && time.Since(c.left) > timeout {
			z.expire(c)
		}
	}
}

// expire ends a session, and with it its nodes. The client learns of it later.
func (z *zookeeper) expire(c *client) {
	c.gone = true
	var changes []change
	for _, p := range z.paths(func(_ string, n *znode) bool { return n.owner == c.id }) {
		changes = append(changes, change{path: p})
	}
	z.w.tell("session %d of %s ends in ZooKeeper", c.id, c.p.name)
	z.w.since = time.Now()
	z.commit(changes, c.id)
}

// paths are the leader's nodes that are chosen, by name.
func (z *zookeeper) paths(chosen func(path string, node *znode) bool) []string {
	var all []string
	for p, n := range z.leader().nodes {
		if chosen(p, n) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

// places are the nodes in the queues, by age: their names are at random.
func (z *zookeeper) places() []string {
	places := z.paths(func(p string, _ *znode) bool { return strings.HasPrefix(path.Dir(p), string(fleetRoot)+"/queue-") })
	nodes := z.leader().nodes
	slices.SortStableFunc(places, func(a, b string) int { return int(nodes[a].czxid - nodes[b].czxid) })
	return places
}

// turns are the nodes of turns/, all of one incarnation, by number.
func (z *zookeeper) turns() []string {
	turns := z.under(turnsNode)
	slices.SortStableFunc(turns, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	return turns
}

func (z *zookeeper) under(parent string) []string {
	return z.paths(func(p string, _ *znode) bool { return below(p, parent) })
}

// below tells whether a path is one under a parent's.
func below(p, parent string) bool {
	return len(p) > len(parent) && p[len(parent)] == '/' && p[:len(parent)] == parent
}

// events are the things that ZooKeeper and the network may do next.
func (z *zookeeper) events() []func() {
	var can []func()
	for _, c := range z.sessions {
		switch {
		case c.over() || c.p.gone():
			if !c.gone {
				can = append(can, func() { z.expire(c) })
			}
			if len(c.pending) > 0 && !c.p.gone() {
				can = append(can, c.deliver)
			}
		case c.p.paused:
		case !c.connected:
			can = append(can, func() { c.reconnect() })
		case c.rewatch:
			can = append(can, c.setWatches)
		case len(c.pending) > 0:
			can = append(can, c.deliver)
		case c.gone && c.server.knowsEnd(c.id):
			can = append(can, func() { c.expire("ZooKeeper says that the session is gone") })
		}
	}
	if follower := z.servers[1]; follower.applied < len(z.history) {
		can = append(can, func() { follower.applyTo(follower.applied + 1) })
	}
	if len(z.hidden) > 0 {
		can = append(can, func() { z.hidden = map[string]bool{} })
	}
	for i, f := range z.flights {
		can = append(can, func() {
			z.flights = slices.Delete(z.flights, i, i+1)
			f.land()
		})
	}
	return can
}

// land lets a write arrive, unless its session has ended or gone on elsewhere.
func (f flight) land() {
	if f.from.gone || f.from.conns != f.conns {
		return
	}
	err := f.write()
	f.from.p.w.tell("late, %s of %s arrives: %v", f.what, f.from.p.name, err)
}
