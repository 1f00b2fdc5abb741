package zkdev

import "strings"

// The nodes that are always there. They cannot be deleted.
const (
	pathRoot   = "/"
	pathSystem = "/zookeeper"
	pathQuota  = "/zookeeper/quota"
	pathConfig = "/zookeeper/config"
)

func isSpecialPath(path string) bool {
	return path == pathRoot || path == pathSystem || path == pathQuota || path == pathConfig
}

// splitPath returns the parent's path and the node's name. The parent of a top
// node is "", under which the tree knows the root as well as under "/".
// It reports false for what can have no parent: no slash, or a NUL.
func splitPath(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 || strings.IndexByte(path, 0) >= 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}

// shownPath is how a parent's path appears in events.
func shownPath(path string) string {
	if path == "" {
		return pathRoot
	}
	return path
}

// validPath reports whether a node may have this path: absolute, no empty,
// "." or ".." element, no trailing slash, no control or private character.
func validPath(path string) bool {
	if path == pathRoot {
		return true
	}
	if path == "" || path[0] != '/' {
		return false
	}
	for element := range strings.SplitSeq(path[1:], "/") {
		if element == "" || element == "." || element == ".." {
			return false
		}
	}
	for _, r := range path {
		if !validRune(r) {
			return false
		}
	}
	return true
}

// validRune follows the real server, which looks at UTF-16 units: whatever
// takes two of them is refused.
func validRune(r rune) bool {
	switch {
	case r <= 0x1f, r >= 0x7f && r <= 0x9f:
		return false
	case r >= 0xd800 && r <= 0xf8ff, r >= 0xfff0:
		return false
	}
	return true
}
