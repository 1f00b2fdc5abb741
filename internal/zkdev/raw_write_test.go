package zkdev

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// newBase makes a node of the test's own, below which nobody else works.
func newBase(t testing.TB, c *rawClient) string {
	t.Helper()
	base := fmt.Sprintf("/t%x-%x", c.session, time.Now().UnixNano())
	if r := c.call(OpCreate, createBody(base, "", flagPersistent)); r.code != errOK {
		t.Fatalf("create %s: %d", base, r.code)
	}
	return base
}

func (c *rawClient) exists(path string) (stat, errCode) {
	c.t.Helper()
	r := c.call(OpExists, watchBody(path, false))
	return r.body.stat(), r.code
}

func (c *rawClient) create(path string, flags int32) string {
	c.t.Helper()
	r := c.call(OpCreate, createBody(path, "", flags))
	if r.code != errOK {
		c.t.Fatalf("create %s: %d", path, r.code)
	}
	return r.body.string()
}

func TestSequenceCountsCreates(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		wantNext := func(want string) {
			t.Helper()
			if got := c.create(base+"/s-", flagSequential); got != base+"/s-"+want {
				t.Errorf("got %s, want …%s", got, want)
			}
		}
		wantNext("0000000000")
		c.create(base+"/plain", flagPersistent) // counts too
		wantNext("0000000002")
		c.call(OpDelete, versionBody(base+"/plain", -1)) // does not
		c.call(OpDelete, versionBody(base+"/s-0000000002", -1))
		wantNext("0000000003")
		c.call(OpCreate, createBody(base+"/s-0000000000", "", flagPersistent)) // fails: does not
		wantNext("0000000004")
		// 5 creates, 2 deletes, 3 children.
		if st, _ := c.exists(base); st.cversion != 5*2-3 || st.numChildren != 3 {
			t.Errorf("cversion %d, %d children", st.cversion, st.numChildren)
		}
	})
}

func TestPzxidMovesWithTheChildren(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		created := c.call(OpCreate, createBody(base+"/a", "", flagPersistent)).zxid
		if st, _ := c.exists(base); st.pzxid != created {
			t.Errorf("after the create at %x: %x", created, st.pzxid)
		}
		c.call(OpSetData, setDataBody(base+"/a", "x", -1))
		if st, _ := c.exists(base); st.pzxid != created {
			t.Errorf("after a change of the child's data: %x", st.pzxid)
		}
		deleted := c.call(OpDelete, versionBody(base+"/a", -1)).zxid
		if st, _ := c.exists(base); st.pzxid != deleted || st.mzxid == deleted {
			t.Errorf("after the delete at %x: pzxid %x, mzxid %x", deleted, st.pzxid, st.mzxid)
		}
	})
}

func TestRefusedWriteTakesAZxid(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		before := c.call(OpPing, nil).zxid
		r := c.call(OpDelete, versionBody("/nobody-here", -1))
		if r.code != errNoNode || r.zxid <= before {
			t.Errorf("code %d at %x, after %x", r.code, r.zxid, before)
		}
	})
}

func TestContainerAndTTLNodesShowNoOwner(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		for _, r := range []response{
			c.call(OpCreateContainer, createBody(base+"/container", "", flagContainer)),
			c.call(OpCreateTTL, createTTLBody(base+"/ttl", flagTTL, 3_600_000)),
		} {
			path, st := r.body.string(), r.body.stat()
			if r.code != errOK || st.ephemeralOwner != 0 || st.czxid != r.zxid {
				t.Errorf("%s: code %d, %+v", path, r.code, st)
			}
			// Unlike an ephemeral node it may have children.
			c.create(path+"/child", flagPersistent)
		}
	})
}

func TestWritesAreRefusedWithTheRightCode(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		c.create(base+"/e", flagEphemeral)
		c.create(base+"/full", flagPersistent)
		c.create(base+"/full/child", flagPersistent)
		for _, q := range []struct {
			what string
			op   Opcode
			body func(*encoder)
			want errCode
		}{
			{"no parent", OpCreate, createBody(base+"/no/a", "", 0), errNoNode},
			{"there already", OpCreate, createBody(base+"/e", "", 0), errNodeExists},
			{"root", OpCreate, createBody("/", "", 0), errNodeExists},
			{"under an ephemeral", OpCreate, createBody(base+"/e/a", "", 0), errNoChildrenForEphemerals},
			{"relative", OpCreate, createBody("a", "", 0), errBadArguments},
			{"empty path", OpCreate, createBody("", "", 0), errBadArguments},
			{"trailing slash", OpCreate, createBody(base+"/a/", "", 0), errNoNode},
			{"empty element", OpCreate, createBody(base+"//a", "", 0), errNoNode},
			{"dot dot", OpCreate, createBody(base+"/full/..", "", 0), errBadArguments},
			{"NUL", OpCreate, createBody(base+"/a\x00", "", 0), errBadArguments},
			{"control character", OpCreate, createBody(base+"/a\x01", "", 0), errBadArguments},
			{"beyond the BMP", OpCreate, createBody(base+"/\U0001F600", "", 0), errBadArguments},
			{"not UTF-8", OpCreate, createBody(base+"/\xff", "", 0), errBadArguments},
			{"unknown flags", OpCreate, createBody(base+"/a", "", 7), errBadArguments},
			{"TTL flags without a TTL", OpCreate, createBody(base+"/a", "", flagTTL), errBadArguments},
			{"TTL of 0", OpCreateTTL, createTTLBody(base+"/a", flagTTL, 0), errBadArguments},
			{"TTL too long", OpCreateTTL, createTTLBody(base+"/a", flagTTL, maxTTL+1), errBadArguments},
			{"no ACL", OpSetACL, setACLBody(base, -1), errInvalidACL},
			{"ACL of an unknown scheme", OpCreate, createBody(base+"/a", "", 0, ACL{31, "sasl", "x"}), errInvalidACL},
			{"ACL auth without one", OpCreate, createBody(base+"/a", "", 0, ACL{31, "auth", ""}), errInvalidACL},
			{"delete nobody", OpDelete, versionBody(base+"/nobody", -1), errNoNode},
			{"delete another version", OpDelete, versionBody(base+"/e", 3), errBadVersion},
			{"delete with children", OpDelete, versionBody(base+"/full", -1), errNotEmpty},
			{"delete the root", OpDelete, versionBody("/", -1), errBadArguments},
			{"delete the system's", OpDelete, versionBody(pathQuota, -1), errBadArguments},
			{"set another version", OpSetData, setDataBody(base, "", 3), errBadVersion},
			{"set nobody", OpSetData, setDataBody(base+"/nobody", "", -1), errNoNode},
			{"set the configuration", OpSetData, setDataBody(pathConfig, "", -1), errNoAuth},
			{"set ACL of another version", OpSetACL, setACLBody(base, 3, openACL...), errBadVersion},
			{"check another version", OpCheck, versionBody(base, 3), errBadVersion},
			{"deleteContainer", OpDeleteContainer, pathBody(base), errBadArguments},
			{"reconfig", OpReconfig, func(e *encoder) { e.string(""); e.string(""); e.string(""); e.int64(0) }, errReconfigDisabled},
		} {
			if r := c.call(q.op, q.body); r.code != q.want || len(r.body.buf) > 0 {
				t.Errorf("%s: %v gives %d (want %d) and %d bytes", q.what, q.op, r.code, q.want, len(r.body.buf))
			}
		}
	})
}

func TestMultiIsAllOrNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		before, _ := c.exists(base)
		r := c.call(OpMulti, multiBody(
			subOp{OpCreate, createBody(base+"/a-", "", flagSequential)},
			subOp{OpSetData, setDataBody(base, "x", 0)},
			subOp{OpDelete, versionBody(base+"/nobody", -1)},
			subOp{OpCreate, createBody(base+"/b", "", 0)},
		))
		if got := showMulti(&r.body, nil); r.code != errOK || got != "[error 0 0 error 0 0 error -101 -101 error -2 -2]" {
			t.Errorf("failed: %d %s", r.code, got)
		}
		if after, _ := c.exists(base); after != before {
			t.Errorf("it left something: %+v, was %+v", after, before)
		}
		// The sequence has not moved either, and each operation sees those before.
		r = c.call(OpMulti, multiBody(
			subOp{OpCreate, createBody(base+"/a-", "", flagSequential)},
			subOp{OpCreate, createBody(base+"/a-0000000000/child", "", 0)},
			subOp{OpSetData, setDataBody(base, "x", 0)},
			subOp{OpCheck, versionBody(base, 1)},
			subOp{OpDelete, versionBody(base+"/a-0000000000/child", 0)},
			subOp{OpCreate2, createBody(base+"/a-", "", flagSequential)},
		))
		h := &history{names: map[int64]string{}}
		got := zxidPattern.ReplaceAllStringFunc(showMulti(&r.body, h), func(s string) string {
			if s == zxidToken(r.zxid) {
				return "this"
			}
			return s
		})
		want := strings.ReplaceAll(`[create 0 "BASE/a-0000000000" create 0 "BASE/a-0000000000/child" `+
			`setData 0 czxid `+zxidToken(before.czxid)+` mzxid this pzxid this version 1 cversion 1 aversion 0 owner nobody length 1 children 1 `+
			`check 0  delete 0  create 0 "BASE/a-0000000001"]`, "BASE", base)
		if got != want {
			t.Errorf("passed:\n got %s\nwant %s", got, want)
		}
	})
}

func TestMultiReadAnswersEachOnItsOwn(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		c.create(base+"/a", flagPersistent)
		r := c.call(OpMultiRead, multiBody(
			subOp{OpGetChildren, watchBody(base, false)},
			subOp{OpGetData, watchBody(base+"/nobody", false)},
			subOp{OpGetChildren, watchBody(base+"/a", false)},
		))
		if got := showMulti(&r.body, nil); got != `[getChildren 0 ["a"] error -101 -101 getChildren 0 []]` {
			t.Error(got)
		}
	})
}
