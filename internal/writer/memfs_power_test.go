package writer

import (
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// sector is what a power loss does not tear.
const sector = 512

// killed is what a process that was killed leaves: all that it wrote.
func (m *memFS) killed() *memFS {
	return m.reborn(func(n *memNode) []byte { return n.live }, m.live)
}

// powerLost is what a power loss leaves. Of what was not synced, each sector and each
// length is there or not, at random; of the directory's changes the first few are, for
// they are journalled in order.
func (m *memFS) powerLost(r *rand.Rand) *memFS {
	entries := map[string]*memNode{}
	for p, n := range m.safe {
		entries[p] = n
	}
	for _, change := range m.entries[:r.IntN(len(m.entries)+1)] {
		change(entries)
	}
	return m.reborn(func(n *memNode) []byte { return mix(r, n.live, n.safe) }, entries)
}

// mix is some of live's sectors and some of safe's.
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
	next := &memFS{live: map[string]*memNode{}, safe: map[string]*memNode{}, nextID: m.nextID, old: m.old}
	nodes := map[*memNode]*memNode{}
	for p, n := range entries {
		node := nodes[n]
		if node == nil {
			c := content(n)
			node = &memNode{id: n.id, dir: n.dir, live: slices.Clone(c), safe: slices.Clone(c)}
			nodes[n] = node
		}
		node.links++
		next.live[p], next.safe[p] = node, node
	}
	return next
}

// put makes a file that is on disk; content is what a file has, "" when there is none.
func (m *memFS) put(name, content string) {
	m.nextID++
	node := &memNode{id: m.nextID, links: 1, live: []byte(content), safe: []byte(content)}
	m.live[name], m.safe[name] = node, node
}

func (m *memFS) content(name string) string {
	if m.live[name] == nil {
		return ""
	}
	return string(m.live[name].live)
}

func (m *memFS) names() string {
	var names []string
	for p := range m.live {
		if p != memDir {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestMemFS_powerLossLosesWhatWasNotSynced(t *testing.T) {
	m := newMemFS()
	write := func(name string, b string, at int64) Handle {
		h, err := m.Open(memDir+"/"+name, os.O_RDWR|os.O_CREATE)
		if err == nil {
			_, err = h.WriteAt(slices.Repeat([]byte(b), 3*sector), at)
		}
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a := write("a", "s", 0)
	if err := a.Datasync(); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir(memDir); err != nil {
		t.Fatal(err)
	}
	write("a", "u", 3*sector)
	if err := write("b", "x", 0).Datasync(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for seed := range uint64(200) {
		after := m.powerLost(rand.New(rand.NewPCG(seed, 0)))
		content := after.content(memDir + "/a")
		if len(content) < 3*sector || content[:3*sector] != string(a.(*memHandle).node.safe) {
			t.Fatalf("seed %d: what was synced is gone", seed)
		}
		switch {
		case len(content) == 3*sector:
			seen["all lost"] = true
		case content == m.content(memDir+"/a"):
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
