package zkdev

// record is what the checks of a transaction need to know of a node.
type record struct {
	acl      []ACL
	owner    int64
	version  int32
	aversion int32
	creates  int32
	children int
}

// view is the tree as it will be once the operations checked so far are
// applied. A multi is checked whole against a view, and the tree is touched
// only when nothing can fail any more: that is what makes it all or nothing.
type view struct {
	tree    *tree
	pending map[string]*record // nil: a single operation; a nil record: deleted
}

func (v *view) get(path string) (record, bool) {
	if r, ok := v.pending[path]; ok {
		if r == nil {
			return record{}, false
		}
		return *r, true
	}
	n := v.tree.nodes[path]
	if n == nil {
		return record{}, false
	}
	return record{
		acl: n.acl, owner: n.owner, version: n.version, aversion: n.aversion,
		creates: n.creates, children: len(n.children),
	}, true
}

// put makes a change visible to the later operations of the same multi.
func (v *view) put(path string, r record) {
	if v.pending == nil {
		return
	}
	v.pending[path] = &r
	// The root has two names; a change through one must show under the other.
	switch path {
	case "":
		v.pending[pathRoot] = &r
	case pathRoot:
		v.pending[""] = &r
	}
}

func (v *view) remove(path string) {
	if v.pending != nil {
		v.pending[path] = nil
	}
}
