package sim

import "path"

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
	for _, p := range z.paths(func(_ string, n *znode) bool { return n.owner != 0 }) {
		ephemeral = append(ephemeral, change{path: p})
	}
	switch z.w.tape.pick(3) { // the old numbers once more,
	case 1: // a new epoch,
		z.zxid = (zxid>>32 + 1) << 32
	case 2: // or others were at work, and the next place may get a token that there was
		z.zxid = max(z.zxid, newest-int64(2+z.w.tape.pick(6)))
	}
	z.commit(ephemeral, 0)
}
