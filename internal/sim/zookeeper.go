package sim

import (
	"fmt"
	"path"
	"slices"
	"strings"

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
	flights  []flight // writes of connections that broke: still under way
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

// znode never changes: a change puts another in its place.
type znode struct {
	data         []byte
	czxid, mzxid int64
	version      int32
	owner        int64
}

func (n *znode) stat() *zk.Stat {
	return &zk.Stat{Czxid: n.czxid, Mzxid: n.mzxid, Version: n.version, EphemeralOwner: n.owner, DataLength: int32(len(n.data))}
}

// flight is a write whose sender knows nothing of it any more.
type flight struct {
	from  *client
	conns uint64
	what  string
	write func() error
}

func newZookeeper(w *world) *zookeeper {
	z := &zookeeper{w: w, zxid: 1 << 32, counters: map[string]int32{}}
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
	for _, c := range changes {
		if c.path == headNode && c.node != nil {
			z.w.committed(c.node.data)
		}
	}
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

// transact runs requests all or none.
func (z *zookeeper) transact(owner int64, ops ...any) ([]change, error) {
	var changes, done []change
	for _, op := range ops {
		c, err := z.prepare(op, owner, done)
		if err != nil {
			return nil, err
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

// expire ends a session, and with it its nodes. The client learns of it later.
func (z *zookeeper) expire(c *client) {
	c.gone = true
	var changes []change
	for _, p := range z.paths() {
		if z.leader().nodes[p].owner == c.id {
			changes = append(changes, change{path: p})
		}
	}
	z.w.tell("session %d of %s ends in ZooKeeper", c.id, c.p.name)
	z.commit(changes, c.id)
}

func (z *zookeeper) paths() []string {
	var all []string
	for p := range z.leader().nodes {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

// places are the nodes in the queue, by age: their names are at random.
func (z *zookeeper) places() []string {
	places := slices.DeleteFunc(z.paths(), func(p string) bool { return !strings.HasPrefix(p, queueNode+"/") })
	nodes := z.leader().nodes
	slices.SortStableFunc(places, func(a, b string) int { return int(nodes[a].czxid - nodes[b].czxid) })
	return places
}

// events are the things that ZooKeeper and the network may do next.
func (z *zookeeper) events() []func() {
	var can []func()
	for _, c := range z.sessions {
		switch {
		case c.over() || c.p.dead || c.p.ended:
			if !c.gone {
				can = append(can, func() { z.expire(c) })
			}
			if len(c.pending) > 0 && !c.p.dead {
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

// elect begins a new epoch. All connections break.
func (z *zookeeper) elect() {
	z.zxid = (z.zxid>>32 + 1) << 32
	for _, c := range z.sessions {
		if !c.over() {
			c.disconnect()
		}
	}
}

// rollBack restores ZooKeeper to what it was at an earlier entry of its history. All
// sessions are gone.
func (z *zookeeper) rollBack(to int) {
	old := z.history[:to]
	zxid, newest := z.zxid, int64(0)
	for _, p := range z.places() {
		newest = max(newest, z.leader().nodes[p].czxid)
	}
	z.history, z.counters, z.flights = nil, map[string]int32{}, nil
	for _, s := range z.servers {
		s.nodes, s.applied = map[string]*znode{}, 0
	}
	for _, c := range z.sessions { // they learn of it when they ask next
		c.gone = true
		c.disconnect()
	}
	for _, t := range old {
		z.history = append(z.history, t)
		z.zxid = t.zxid
		for _, c := range t.changes {
			if c.node != nil && c.node.czxid == t.zxid {
				z.counters[path.Dir(c.path)]++
			}
		}
	}
	for _, s := range z.servers {
		s.applyTo(len(z.history))
	}
	var ephemeral []change
	for _, p := range z.paths() {
		if z.leader().nodes[p].owner != 0 {
			ephemeral = append(ephemeral, change{path: p})
		}
	}
	switch z.w.tape.pick(3) { // the old numbers once more,
	case 1: // a new epoch,
		z.zxid = (zxid>>32 + 1) << 32
	case 2: // or others were at work, and the next place may get a token that there was
		z.zxid = max(z.zxid, newest-int64(2+z.w.tape.pick(6)))
	}
	z.commit(ephemeral, 0)
}
