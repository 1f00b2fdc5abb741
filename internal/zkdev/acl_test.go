package zkdev

import (
	"fmt"
	"testing"
	"time"
)

func TestACLsDecideWhoMayDoWhat(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		owner, stranger := dialRaw(t, addr, longSession), dialRaw(t, addr, longSession)
		base := newBase(t, owner)
		owner.call(OpAuth, authBody("digest", "owner:secret"))
		id := digestIdentity("owner:secret")
		node := base + "/n"
		owner.call(OpCreate, createBody(node, "x", 0, ACL{permAll, "auth", ""}, ACL{permRead, "ip", "127.0.0.0/8"}))
		for _, q := range []struct {
			op   Opcode
			body func(*encoder)
			want errCode
		}{
			{OpGetData, watchBody(node, false), errOK},
			{OpGetChildren, watchBody(node, false), errOK},
			{OpExists, watchBody(node, false), errOK},
			{OpCheck, versionBody(node, 7), errBadVersion},
			{OpSetData, setDataBody(node, "y", -1), errNoAuth},
			{OpCreate, createBody(node+"/c", "", 0), errNoAuth},
			{OpDelete, versionBody(node+"/c", -1), errNoAuth},
			{OpSetACL, setACLBody(node, -1, openACL...), errNoAuth},
		} {
			if r := stranger.call(q.op, q.body); r.code != q.want {
				t.Errorf("a stranger's %v: %d, want %d", q.op, r.code, q.want)
			}
		}
		for who, c := range map[string]*rawClient{id.id: owner, "owner:x": stranger} {
			r := c.call(OpGetACL, pathBody(node))
			want := fmt.Sprint([]ACL{{permAll, "digest", who}, {permRead, "ip", "127.0.0.0/8"}})
			if got := fmt.Sprint(r.body.acls()); got != want {
				t.Errorf("%s sees %s", who, got)
			}
		}
		if r := owner.call(OpWhoAmI, nil); showWhoAmI(&r.body, nil) != "[digest:owner ip:127.0.0.1]" {
			t.Error("who am I?")
		}
		// What a connection proved ends with it.
		again := owner.reattach(addr)
		if r := again.call(OpSetData, setDataBody(node, "y", -1)); r.code != errNoAuth {
			t.Errorf("after a reconnect: %d", r.code)
		}
		again.call(OpAuth, authBody("digest", "owner:secret"))
		if r := again.call(OpSetACL, setACLBody(node, 0, openACL...)); r.code != errOK || r.body.stat().aversion != 1 {
			t.Errorf("setACL: %d", r.code)
		}
	})
}

func TestIPExpressions(t *testing.T) {
	for _, q := range []struct {
		addr, expr string
		valid, ok  bool
	}{
		{"127.0.0.1", "127.0.0.1", true, true},
		{"127.0.0.1", "127.0.0.2", true, false},
		{"10.1.2.3", "10.0.0.0/8", true, true},
		{"11.1.2.3", "10.0.0.0/8", true, false},
		{"11.1.2.3", "10.0.0.0/0", true, true},
		{"10.1.2.3", "10.1.2.3/32", true, true},
		{"10.1.2.3", "10.1.2.3/33", false, false},
		{"10.1.2.3", "10.1.2", false, false},
		{"10.1.2.3", "10.1.2.256", false, false},
		{"::1", "127.0.0.1", true, false},
		{"::1", "::1", false, false},
	} {
		if validID("ip", q.expr) != q.valid || (identity{"ip", q.addr}).matches(q.expr) != q.ok {
			t.Errorf("%+v", q)
		}
	}
}

func TestEmptyContainersAndOldTTLNodesAreReaped(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	for _, name := range []string{"/used", "/unused", "/full"} {
		c.call(OpCreateContainer, createBody(base+name, "", flagContainer))
	}
	for _, name := range []string{"/short", "/long", "/busy"} {
		ttl := map[string]int64{"/long": 3_600_000}[name]
		c.call(OpCreateTTL, createTTLBody(base+name, flagTTL, max(ttl, 1000)))
	}
	for _, path := range []string{"/used/c", "/full/c", "/busy/c"} {
		c.create(base+path, flagPersistent)
	}
	c.call(OpDelete, versionBody(base+"/used/c", -1))
	c.call(OpGetChildren, watchBody(base, true))
	s.mu.Lock()
	s.reap(time.Now().Add(time.Minute))
	s.mu.Unlock()
	r := c.call(OpGetChildren, watchBody(base, false))
	if got := fmt.Sprint(sortedStrings(&r.body)); got != "[busy full long unused]" {
		t.Errorf("left: %s", got)
	}
	if got := c.takeEvents(); got != "children "+base {
		t.Errorf("events: %q", got)
	}
}
