package zkdev

import (
	"crypto/sha1"
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The permissions of an ACL.
const (
	permRead   = 1 << 0
	permWrite  = 1 << 1
	permCreate = 1 << 2
	permDelete = 1 << 3
	permAdmin  = 1 << 4
	permAll    = permRead | permWrite | permCreate | permDelete | permAdmin
)

// ACL grants permissions to whoever has the identity.
type ACL struct {
	Perms  int32
	Scheme string
	ID     string
}

// identity is what a connection has proved about itself.
type identity struct{ scheme, id string }

var (
	openACL     = []ACL{{permAll, "world", "anyone"}}
	readOnlyACL = []ACL{{permRead, "world", "anyone"}}
)

// permitted reports whether one of the identities has any of the permissions.
// A node without an ACL is open.
func permitted(acl []ACL, perm int32, ids []identity) bool {
	if len(acl) == 0 {
		return true
	}
	for _, a := range acl {
		if a.Perms&perm == 0 {
			continue
		}
		if a.Scheme == "world" && a.ID == "anyone" {
			return true
		}
		for _, id := range ids {
			if id.scheme == a.Scheme && id.matches(a.ID) {
				return true
			}
		}
	}
	return false
}

func (id identity) matches(expr string) bool {
	switch id.scheme {
	case "digest":
		return id.id == expr
	case "ip":
		return ipMatches(id.id, expr)
	}
	return false
}

// fixACL checks an ACL that a client wants to set, and puts the connection's
// own identities in the place of the scheme "auth".
func fixACL(acl []ACL, ids []identity) ([]ACL, errCode) {
	var fixed []ACL
	for i, a := range acl {
		if slices.Contains(acl[:i], a) {
			continue
		}
		switch {
		case a.Scheme == "world" && a.ID == "anyone":
			fixed = append(fixed, a)
		case a.Scheme == "auth":
			own := authACL(a.Perms, ids)
			if len(own) == 0 {
				return nil, errInvalidACL
			}
			fixed = append(fixed, own...)
		case validID(a.Scheme, a.ID):
			fixed = append(fixed, a)
		default:
			return nil, errInvalidACL
		}
	}
	if len(fixed) == 0 {
		return nil, errInvalidACL
	}
	return fixed, errOK
}

// authACL grants perms to each authenticated identity. An address proves
// nothing about who is there, so "ip" is none.
func authACL(perms int32, ids []identity) []ACL {
	var own []ACL
	for _, id := range ids {
		if id.scheme == "digest" {
			own = append(own, ACL{perms, id.scheme, id.id})
		}
	}
	return own
}

func validID(scheme, id string) bool {
	switch scheme {
	case "digest":
		// Trailing empty parts do not count, as in Java's split.
		return strings.Count(strings.TrimRight(id, ":"), ":") == 1
	case "ip":
		_, _, ok := parseIPExpr(id)
		return ok
	}
	return false
}

var digestSecret = regexp.MustCompile(`(?m):.*`)

// maskDigests hides the hashes from who may read an ACL but not administer it.
func maskDigests(acl []ACL) []ACL {
	masked := slices.Clone(acl)
	for i, a := range masked {
		if a.Scheme == "digest" {
			masked[i].ID = digestSecret.ReplaceAllString(a.ID, ":x")
		}
	}
	return masked
}

// digestIdentity is the identity that "user:password" proves.
func digestIdentity(userPassword string) identity {
	user, _, _ := strings.Cut(userPassword, ":")
	sum := sha1.Sum([]byte(userPassword))
	return identity{"digest", user + ":" + base64.StdEncoding.EncodeToString(sum[:])}
}

// userName is the part of an identity that whoAmI shows.
func (id identity) userName() string {
	if id.scheme == "digest" {
		user, _, _ := strings.Cut(id.id, ":")
		return user
	}
	return id.id
}

func ipMatches(addr, expr string) bool {
	want, bits, ok := parseIPExpr(expr)
	if !ok {
		return false
	}
	have, ok := parseIPv4(addr)
	if !ok {
		return false
	}
	mask := uint32(0)
	if bits > 0 {
		mask = ^uint32(0) << (32 - bits)
	}
	return have&mask == want&mask
}

// parseIPExpr reads "a.b.c.d" or "a.b.c.d/bits". Like the real server it knows
// IPv4 only.
func parseIPExpr(expr string) (addr uint32, bits int, ok bool) {
	host, length, found := strings.Cut(expr, "/")
	addr, ok = parseIPv4(host)
	if !ok || !found {
		return addr, 32, ok
	}
	bits, err := strconv.Atoi(length)
	return addr, bits, err == nil && bits >= 0 && bits <= 32
}

func parseIPv4(s string) (addr uint32, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return 0, false
	}
	for _, part := range parts {
		v, err := strconv.Atoi(part)
		if err != nil || v < 0 || v > 255 {
			return 0, false
		}
		addr = addr<<8 | uint32(v)
	}
	return addr, true
}
