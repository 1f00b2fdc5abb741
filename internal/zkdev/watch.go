package zkdev

import "strings"

// eventType is what a watch reports, as it stands on the wire.
type eventType int32

const (
	eventCreated         eventType = 1
	eventDeleted         eventType = 2
	eventDataChanged     eventType = 3
	eventChildrenChanged eventType = 4
)

// stateConnected is the only session state a server writes into an event.
const stateConnected = 3

// watchMode says when a watch ends and how far down it sees.
type watchMode int32

const (
	watchOnce       watchMode = -1
	watchPersistent watchMode = 0 // 0 and 1 are addWatch's wire values
	watchRecursive  watchMode = 1
)

// watchTable holds watches by path and by connection. A connection has at most
// one watch on a path in each of the server's two tables (data and children);
// the mode last asked for wins, even if that turns a persistent watch into one
// that fires once (ZOOKEEPER-4466, as in 3.8.0).
type watchTable struct {
	byPath    map[string]map[*conn]watchMode
	byConn    map[*conn]map[string]struct{}
	recursive int // how many watches see below their path
}

func newWatchTable() *watchTable {
	return &watchTable{byPath: make(map[string]map[*conn]watchMode), byConn: make(map[*conn]map[string]struct{})}
}

func (w *watchTable) add(path string, c *conn, mode watchMode) {
	if c.dropped {
		return
	}
	w.remove(path, c)
	if w.byPath[path] == nil {
		w.byPath[path] = make(map[*conn]watchMode)
	}
	w.byPath[path][c] = mode
	if w.byConn[c] == nil {
		w.byConn[c] = make(map[string]struct{})
	}
	w.byConn[c][path] = struct{}{}
	if mode == watchRecursive {
		w.recursive++
	}
}

// remove reports whether there was one.
func (w *watchTable) remove(path string, c *conn) bool {
	mode, ok := w.byPath[path][c]
	if !ok {
		return false
	}
	delete(w.byPath[path], c)
	if len(w.byPath[path]) == 0 {
		delete(w.byPath, path)
	}
	delete(w.byConn[c], path)
	if len(w.byConn[c]) == 0 {
		delete(w.byConn, c)
	}
	if mode == watchRecursive {
		w.recursive--
	}
	return true
}

func (w *watchTable) removeConn(c *conn) {
	for path := range w.byConn[c] {
		w.remove(path, c)
	}
}

// any reports whether any connection watches the path. The real server's
// checkWatches asks no more than this, whoever the asker, and stumbles over a
// path without a slash.
func (w *watchTable) any(path string) (bool, errCode) {
	if path != "" && !strings.Contains(path, "/") {
		return false, errMarshalling
	}
	return path != "" && len(w.byPath[path]) > 0, errOK
}

func (w *watchTable) count() int {
	n := 0
	for _, paths := range w.byConn {
		n += len(paths)
	}
	return n
}

// trigger tells every connection that watches the path, once each and except
// those in told, and returns all it would have told. Who may not read the node
// is not told, but its watch is spent all the same.
func (w *watchTable) trigger(path string, event eventType, acl []ACL, told map[*conn]struct{}) map[*conn]struct{} {
	watchers := w.collect(path, event)
	for c := range watchers {
		if _, ok := told[c]; !ok && permitted(acl, permRead, c.identities) {
			c.notify(event, path)
		}
	}
	return watchers
}

// collect finds who is to hear of an event, and ends the watches that fire once.
func (w *watchTable) collect(path string, event eventType) map[*conn]struct{} {
	var watchers map[*conn]struct{}
	add := func(c *conn) {
		if watchers == nil {
			watchers = make(map[*conn]struct{})
		}
		watchers[c] = struct{}{}
	}
	for c, mode := range w.byPath[path] {
		switch {
		case mode != watchRecursive:
			add(c)
		case event != eventChildrenChanged:
			add(c)
		}
		if mode == watchOnce {
			w.remove(path, c)
		}
	}
	if w.recursive == 0 || event == eventChildrenChanged {
		return watchers
	}
	for at := path; at != pathRoot; {
		at = shownPath(at[:strings.LastIndexByte(at, '/')])
		for c, mode := range w.byPath[at] {
			if mode == watchRecursive {
				add(c)
			}
		}
	}
	return watchers
}
