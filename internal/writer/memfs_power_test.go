package writer

import (
	"math/rand/v2"
	"path"
	"slices"
	"testing"
)

// killed is what a process that was killed leaves: all that it wrote, and no lock.
func (m *memFS) killed() *memFS {
	return m.reborn(func(n *memNode) []byte { return n.live }, m.live)
}

// powerLost is what a power loss leaves. Of what was not synced, each piece of 512
// bytes, each length and each directory entry is there or not, at random.
func (m *memFS) powerLost(r *rand.Rand) *memFS {
	entries := map[string]*memNode{}
	for _, p := range slices.Sorted(mapKeys(m.live, m.safe)) {
		live, safe := m.live[p], m.safe[p]
		kept := live
		if live != safe && r.IntN(2) == 0 {
			kept = safe
		}
		if kept != nil && entries[path.Dir(p)] != nil || p == memDir {
			entries[p] = kept
		}
	}
	return m.reborn(func(n *memNode) []byte { return mix(r, n.live, n.safe) }, entries)
}

func mapKeys(maps ...map[string]*memNode) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i, m := range maps {
			for k := range m {
				if (i == 0 || maps[0][k] == nil) && !yield(k) {
					return
				}
			}
		}
	}
}

// mix is some of live's pieces and some of safe's. A piece is whole: a sector.
func mix(r *rand.Rand, live, safe []byte) []byte {
	size := len(live)
	if r.IntN(2) == 0 {
		size = len(safe)
	}
	out := make([]byte, size)
	for at := 0; at < size; at += sector {
		from := live
		if r.IntN(2) == 0 {
			from = safe
		}
		if at < len(from) {
			copy(out[at:min(at+sector, size)], from[at:])
		}
	}
	return out
}

func (m *memFS) reborn(content func(*memNode) []byte, entries map[string]*memNode) *memFS {
	next := &memFS{live: map[string]*memNode{}, safe: map[string]*memNode{}, nextID: m.nextID}
	for p, n := range entries {
		c := content(n)
		node := &memNode{id: n.id, dir: n.dir, links: n.links, live: slices.Clone(c), safe: slices.Clone(c)}
		next.live[p], next.safe[p] = node, node
	}
	return next
}

func TestThePowerLossOfTheTestsLosesWhatWasNotSynced(t *testing.T) {
	m := newMemFS()
	h, _ := m.Open(memDir+"/a", osCreate)
	h.Write(slices.Repeat([]byte("s"), 3*sector))
	h.Sync()
	m.SyncDir(memDir)
	h.Write(slices.Repeat([]byte("u"), 3*sector))
	unsynced, _ := m.Open(memDir+"/b", osCreate)
	unsynced.Write([]byte("x"))
	unsynced.Sync()
	seen := map[string]bool{}
	for seed := range uint64(200) {
		after := m.powerLost(rand.New(rand.NewPCG(seed, 0)))
		a := after.live[memDir+"/a"]
		if a == nil || string(a.live[:3*sector]) != string(h.(*memHandle).node.safe) {
			t.Fatalf("seed %d: what was synced is gone", seed)
		}
		switch {
		case len(a.live) == 3*sector:
			seen["all lost"] = true
		case string(a.live) == string(h.(*memHandle).node.live):
			seen["all kept"] = true
		default:
			seen["holes"] = true
		}
		seen[map[bool]string{true: "entry kept", false: "entry lost"}[after.live[memDir+"/b"] != nil]] = true
	}
	for _, what := range []string{"all lost", "all kept", "holes", "entry kept", "entry lost"} {
		if !seen[what] {
			t.Errorf("never seen: %s", what)
		}
	}
}
