package zkdev

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// fuzzServer is a server with one session and no network: its requests are
// handed over directly.
func fuzzServer(t testing.TB) (*Server, *conn) {
	s := RunT(t, func(c *Config) { c.TickTime, c.MaxSessionTimeout = time.Hour, 0 })
	here, there := net.Pipe()
	t.Cleanup(func() { there.Close() })
	c := &conn{server: s, net: here, out: newOutbox(), gone: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.identities = []identity{{"ip", "127.0.0.1"}}
	s.newSession(c, time.Hour)
	return s, c
}

func fuzzSeeds(add func(op int32, body []byte)) {
	for op, body := range map[Opcode]func(*encoder){
		OpCreate:               createBody("/a-", "data", flagEphemeralSequential),
		OpCreate2:              createBody("/a", "data", 0),
		OpCreateTTL:            createTTLBody("/ttl", flagTTL, 1000),
		OpCreateContainer:      createBody("/c", "", flagContainer),
		OpDelete:               versionBody("/a", -1),
		OpSetData:              setDataBody("/a", "x", 0),
		OpSetACL:               setACLBody("/a", -1, readOnlyACL...),
		OpExists:               watchBody("/a", true),
		OpGetData:              watchBody("/zookeeper", true),
		OpGetChildren2:         watchBody("/", true),
		OpGetACL:               pathBody("/a"),
		OpSync:                 pathBody("/"),
		OpCheck:                versionBody("/", -1),
		OpMulti:                multiBody(subOp{OpCreate, createBody("/m", "", 0)}, subOp{OpCheck, versionBody("/m", 0)}),
		OpMultiRead:            multiBody(subOp{OpGetData, watchBody("/", false)}, subOp{OpGetChildren, watchBody("/", false)}),
		OpAuth:                 authBody("digest", "a:b"),
		OpSetWatches:           func(e *encoder) { e.int64(0); stringsBody(e, []string{"/a"}); stringsBody(e, nil); stringsBody(e, nil) },
		OpAddWatch:             addWatchBody("/", watchRecursive),
		OpCheckWatches:         versionBody("/", 3),
		OpRemoveWatches:        versionBody("/", 3),
		OpGetEphemerals:        pathBody(""),
		OpGetAllChildrenNumber: pathBody("/"),
		OpReconfig:             func(e *encoder) { e.string(""); e.string(""); e.string(""); e.int64(0) },
		OpWhoAmI:               nil,
		OpPing:                 nil,
	} {
		var e encoder
		if body != nil {
			body(&e)
		}
		add(int32(op), e.buf)
		add(int32(op), e.buf[:len(e.buf)/2])
	}
	add(int32(OpMulti), []byte{0, 0, 0, 1, 0, 255, 255, 255, 255, 127, 255, 255, 255})
}

// FuzzDecodeRequest: no request crashes the server, breaks the tree, or makes
// it answer with far more than it was sent and holds.
func FuzzDecodeRequest(f *testing.F) {
	fuzzSeeds(func(op int32, body []byte) { f.Add(op, body) })
	s, c := fuzzServer(f)
	f.Fuzz(func(t *testing.T, op int32, body []byte) {
		r := &request{conn: c, op: Opcode(op), body: decoder{buf: bytes.Clone(body)}}
		r.paths()
		if r.op == OpCloseSession {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.effect(r)
		checkTree(t, s.tree)
		if len(s.tree.nodes) > 500 || s.dataWatches.count() > 500 {
			s.tree = newTree()
			s.dataWatches.removeConn(c)
			s.childWatches.removeConn(c)
			c.identities = c.identities[:1]
		}
		c.out.buf = c.out.buf[:0]
	})
}

// checkTree holds a tree to its own rules.
func checkTree(t *testing.T, tree *tree) {
	for path, n := range tree.nodes {
		if path == "" || path == pathRoot {
			continue
		}
		parentPath, name, _ := splitPath(path)
		parent := tree.nodes[parentPath]
		if parent == nil {
			t.Fatalf("%q has no parent", path)
		}
		if _, ok := parent.children[name]; !ok {
			t.Fatalf("%q is not among its parent's children", path)
		}
		if !validPath(path) {
			t.Fatalf("%q is no path", path)
		}
		_, owned := tree.ephemerals[n.owner][path]
		if owned != (kindOfOwner(n.owner) == ownerSession) || owned && len(n.children) > 0 {
			t.Fatalf("%q: owner %x, %d children", path, n.owner, len(n.children))
		}
	}
}

// FuzzReadFrame: the memory taken follows the bytes that came, not the length
// that was announced.
func FuzzReadFrame(f *testing.F) {
	f.Add(int32(4), []byte("data"))
	f.Add(int32(maxFrame), []byte("short"))
	f.Add(int32(maxFrame+1), []byte(""))
	f.Add(int32(-1), []byte(""))
	f.Fuzz(func(t *testing.T, n int32, data []byte) {
		frame, err := readFrame(bytes.NewReader(data), n)
		switch {
		case n < 0 || n > maxFrame:
			if err == nil {
				t.Fatal("out of range")
			}
		case int(n) > len(data):
			if err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatal(err)
			}
		case err != nil || !bytes.Equal(frame, data[:n]):
			t.Fatal(err)
		}
		if cap(frame) > 2*len(data)+readStep {
			t.Fatalf("%d bytes taken for %d", cap(frame), len(data))
		}
	})
}

func TestDecoderTakesNoMemoryForLengthsThatAreNotThere(t *testing.T) {
	huge := []byte{0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4}
	for name, decode := range map[string]func(*decoder){
		"buffer":  func(d *decoder) { d.buffer() },
		"string":  func(d *decoder) { d.string() },
		"strings": func(d *decoder) { d.strings() },
		"ACLs":    func(d *decoder) { d.acls() },
	} {
		allocs := testing.AllocsPerRun(10, func() {
			d := decoder{buf: huge}
			if decode(&d); d.err == nil {
				t.Errorf("%s: no error", name)
			}
		})
		if allocs > 2 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}
