package zkdev

import (
	"math"
	"strings"
)

// What the tree keeps as a node's owner when it is no session's ephemeral
// node. Clients see 0 for both.
const (
	ownerContainer = math.MinInt64
	ownerTTLMask   = int64(-1) << 56 // the high byte is set; the rest is the TTL in ms
	maxTTL         = int64(1)<<40 - 1
)

type ownerKind int

const (
	ownerNone ownerKind = iota
	ownerSession
	ownerIsContainer
	ownerIsTTL
)

func kindOfOwner(owner int64) ownerKind {
	switch {
	case owner == 0:
		return ownerNone
	case owner == ownerContainer:
		return ownerIsContainer
	case owner&ownerTTLMask == ownerTTLMask:
		return ownerIsTTL
	}
	return ownerSession
}

// znode is one node of the tree. Its acl and data are never changed in place:
// replies and undone transactions may still refer to them.
type znode struct {
	data     []byte
	acl      []ACL
	owner    int64
	children map[string]struct{}

	czxid, mzxid, pzxid int64
	ctime, mtime        int64 // ms since 1970
	version             int32
	aversion            int32
	creates             int32 // children ever created here: the next sequence number
}

// stat is a node's Stat as clients see it.
type stat struct {
	czxid, mzxid, ctime, mtime  int64
	version, cversion, aversion int32
	ephemeralOwner              int64
	dataLength, numChildren     int32
	pzxid                       int64
}

func (n *znode) stat() stat {
	owner := n.owner
	if kindOfOwner(owner) != ownerSession {
		owner = 0
	}
	return stat{
		czxid: n.czxid, mzxid: n.mzxid, ctime: n.ctime, mtime: n.mtime,
		version: n.version, aversion: n.aversion, ephemeralOwner: owner,
		// Each create and each delete of a child counts as one change: all
		// children there were came once, and those not there now went once.
		cversion:   n.creates*2 - int32(len(n.children)),
		dataLength: int32(len(n.data)), numChildren: int32(len(n.children)),
		pzxid: n.pzxid,
	}
}

func (e *encoder) stat(s stat) {
	e.int64(s.czxid)
	e.int64(s.mzxid)
	e.int64(s.ctime)
	e.int64(s.mtime)
	e.int32(s.version)
	e.int32(s.cversion)
	e.int32(s.aversion)
	e.int64(s.ephemeralOwner)
	e.int32(s.dataLength)
	e.int32(s.numChildren)
	e.int64(s.pzxid)
}

// childNames lists the children in no order at all. The real server has none
// either, and whoever relies on one should find out here.
func (e *encoder) childNames(n *znode) {
	e.int32(int32(len(n.children)))
	for name := range n.children {
		e.string(name)
	}
}

// tree holds the znodes by path. The root is there twice, as "/" and as "",
// which is its name as a parent.
type tree struct {
	nodes      map[string]*znode
	ephemerals map[int64]map[string]struct{} // by session
	reapable   map[string]struct{}           // container and TTL nodes
}

func newTree() *tree {
	t := &tree{
		nodes:      make(map[string]*znode),
		ephemerals: make(map[int64]map[string]struct{}),
		reapable:   make(map[string]struct{}),
	}
	add := func(path string, acl []ACL, children ...string) *znode {
		n := &znode{data: []byte{}, acl: acl, children: make(map[string]struct{})}
		for _, name := range children {
			n.children[name] = struct{}{}
		}
		t.nodes[path] = n
		return n
	}
	t.nodes[""] = add(pathRoot, openACL, "zookeeper")
	add(pathSystem, openACL, "quota", "config")
	add(pathQuota, openACL)
	add(pathConfig, readOnlyACL).aversion = -1
	return t
}

// create adds a node under an existing parent, which had `creates` children
// created, this one among them.
func (t *tree) create(path string, n *znode, creates int32) {
	parentPath, name, _ := splitPath(path)
	parent := t.nodes[parentPath]
	parent.creates = creates
	parent.pzxid = n.czxid
	parent.children[name] = struct{}{}
	t.nodes[path] = n
	switch kindOfOwner(n.owner) {
	case ownerSession:
		owned := t.ephemerals[n.owner]
		if owned == nil {
			owned = make(map[string]struct{})
			t.ephemerals[n.owner] = owned
		}
		owned[path] = struct{}{}
	case ownerIsContainer, ownerIsTTL:
		t.reapable[path] = struct{}{}
	}
}

// remove deletes a node that has no children, and returns it and its parent.
func (t *tree) remove(path string, zxid int64) (n, parent *znode) {
	parentPath, name, _ := splitPath(path)
	n, parent = t.nodes[path], t.nodes[parentPath]
	delete(t.nodes, path)
	delete(parent.children, name)
	parent.pzxid = zxid
	switch kindOfOwner(n.owner) {
	case ownerSession:
		delete(t.ephemerals[n.owner], path)
		if len(t.ephemerals[n.owner]) == 0 {
			delete(t.ephemerals, n.owner)
		}
	case ownerIsContainer, ownerIsTTL:
		delete(t.reapable, path)
	}
	return n, parent
}

// descendants counts the nodes below a path the way the real server does: the
// root's count is all nodes but itself.
func (t *tree) descendants(path string) int {
	if path == pathRoot {
		return len(t.nodes) - 2
	}
	count := 0
	for p := range t.nodes {
		if strings.HasPrefix(p, path+"/") {
			count++
		}
	}
	return count
}

// dataSize is the bytes in paths and data, as mntr reports them.
func (t *tree) dataSize() int {
	size := 0
	for path, n := range t.nodes {
		size += len(path) + len(n.data)
	}
	return size
}

func (t *tree) ephemeralCount() int {
	count := 0
	for _, owned := range t.ephemerals {
		count += len(owned)
	}
	return count
}
