package zkdev

import (
	"strings"
	"testing"
)

func TestEventComesBeforeTheReplyToItsWrite(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		c.call(OpGetData, watchBody(base, true))
		c.call(OpGetChildren, watchBody(base, true))
		c.call(OpExists, watchBody(base+"/a", true))
		c.call(OpMulti, multiBody(
			subOp{OpCreate, createBody(base+"/a", "", 0)},
			subOp{OpSetData, setDataBody(base, "x", -1)},
		))
		want := strings.ReplaceAll("created B/a, children B, changed B", "B", base)
		if got := strings.Join(c.events, ", "); got != want {
			t.Errorf("before the reply: %q, want %q", got, want)
		}
		c.events = nil
		c.call(OpSetData, setDataBody(base, "y", -1))
		if got := c.takeEvents(); got != "" {
			t.Errorf("a watch fired twice: %s", got)
		}
	})
}

func TestDeleteTellsADataAndChildWatcherOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		c.create(base+"/a", flagPersistent)
		c.call(OpGetData, watchBody(base+"/a", true))
		c.call(OpGetChildren, watchBody(base+"/a", true))
		c.call(OpGetChildren, watchBody(base, true))
		c.call(OpDelete, versionBody(base+"/a", -1))
		if got, want := c.takeEvents(), "deleted "+base+"/a, children "+base; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestReadsSetTheirWatchOnlyWhenTheySucceed(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		for _, op := range []Opcode{OpGetData, OpGetChildren, OpGetChildren2} {
			c.call(op, watchBody(base+"/a", true))
		}
		c.create(base+"/a", flagPersistent)
		if got := c.takeEvents(); got != "" {
			t.Errorf("a failed read left a watch: %s", got)
		}
		c.call(OpExists, watchBody(base+"/b", true))
		c.create(base+"/b", flagPersistent)
		if got := c.takeEvents(); got != "created "+base+"/b" {
			t.Errorf("exists on nobody: %q", got)
		}
	})
}

func addWatchBody(path string, mode watchMode) func(*encoder) { return versionBody(path, int32(mode)) }

func TestPersistentWatchStaysAndRecursiveSeesBelow(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		persistent, recursive, c := dialRaw(t, addr, longSession), dialRaw(t, addr, longSession), dialRaw(t, addr, longSession)
		base := newBase(t, c)
		persistent.call(OpAddWatch, addWatchBody(base, watchPersistent))
		recursive.call(OpAddWatch, addWatchBody(base, watchRecursive))
		for range 2 {
			c.create(base+"/a", flagPersistent)
			c.create(base+"/a/b", flagPersistent)
			c.call(OpSetData, setDataBody(base, "x", -1))
			c.call(OpDelete, versionBody(base+"/a/b", -1))
			c.call(OpDelete, versionBody(base+"/a", -1))
		}
		want := strings.ReplaceAll("children B, changed B, children B", "B", base)
		if got := persistent.takeEvents(); got != want+", "+want {
			t.Errorf("persistent: %s", got)
		}
		want = strings.ReplaceAll("created B/a, created B/a/b, changed B, deleted B/a/b, deleted B/a", "B", base)
		if got := recursive.takeEvents(); got != want+", "+want {
			t.Errorf("recursive: %s", got)
		}
	})
}

func TestSetWatchesFiresWhatWasMissed(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		for _, name := range []string{"/same", "/changed", "/gone", "/parent"} {
			c.create(base+name, flagPersistent)
		}
		since := c.call(OpPing, nil).zxid
		c.call(OpSetData, setDataBody(base+"/changed", "x", -1))
		c.call(OpDelete, versionBody(base+"/gone", -1))
		c.create(base+"/come", flagPersistent)
		c.create(base+"/parent/child", flagPersistent)
		again := c.reattach(addr)
		again.sendAs(-8, OpSetWatches, func(e *encoder) {
			e.int64(since)
			stringsBody(e, []string{base + "/same", base + "/changed", base + "/gone"})
			stringsBody(e, []string{base + "/come", base + "/never"})
			stringsBody(e, []string{base + "/same", base + "/parent", base + "/gone"})
		})
		if r, err := again.read(); err != nil || r.xid != -8 || r.code != errOK {
			t.Fatal(r, err)
		}
		want := strings.ReplaceAll("changed B/changed, deleted B/gone, created B/come, children B/parent, deleted B/gone", "B", base)
		if got := strings.Join(again.events, ", "); got != want {
			t.Errorf("missed: %s\nwant:   %s", got, want)
		}
		again.events = nil
		again.call(OpSetData, setDataBody(base+"/same", "x", -1))
		again.create(base+"/same/child", flagPersistent)
		again.create(base+"/never", flagPersistent)
		want = strings.ReplaceAll("changed B/same, children B/same, created B/never", "B", base)
		if got := again.takeEvents(); got != want {
			t.Errorf("set anew: %s\nwant:     %s", got, want)
		}
	})
}

func TestWatchesEndWithTheirConnection(t *testing.T) {
	s := RunT(t)
	c := dialRaw(t, s.Addr(), longSession)
	base := newBase(t, c)
	c.call(OpGetData, watchBody(base, true))
	c.call(OpAddWatch, addWatchBody(base, watchRecursive))
	if n := s.Stats().Watches; n != 2 {
		t.Errorf("%d watches: the recursive one replaces the other, and counts twice", n)
	}
	again := c.reattach(s.Addr())
	if n := s.Stats().Watches; n != 0 {
		t.Errorf("%d watches after the connection ended", n)
	}
	again.call(OpSetData, setDataBody(base, "x", -1))
	if got := again.takeEvents(); got != "" {
		t.Error(got)
	}
}

func TestCheckAndRemoveWatches(t *testing.T) {
	const children, data, either = 1, 2, 3
	onBoth(t, func(t *testing.T, addr string) {
		c, other := dialRaw(t, addr, longSession), dialRaw(t, addr, longSession)
		base := newBase(t, c)
		want := func(c *rawClient, op Opcode, kind int32, code errCode) {
			t.Helper()
			if r := c.call(op, versionBody(base, kind)); r.code != code {
				t.Errorf("%v %d: %d, want %d", op, kind, r.code, code)
			}
		}
		want(c, OpCheckWatches, either, errNoWatcher)
		c.call(OpGetData, watchBody(base, true))
		want(c, OpCheckWatches, data, errOK)
		want(c, OpCheckWatches, children, errNoWatcher)
		want(other, OpCheckWatches, data, errOK) // anybody's watch will do
		want(other, OpRemoveWatches, data, errNoWatcher)
		want(c, OpRemoveWatches, either, errOK)
		want(c, OpRemoveWatches, either, errNoWatcher)
		want(c, OpCheckWatches, 9, errMarshalling)
		c.call(OpSetData, setDataBody(base, "x", -1))
		if got := c.takeEvents(); got != "" {
			t.Errorf("a removed watch fired: %s", got)
		}
	})
}

func TestWhoMayNotReadANodeDoesNotHearOfIt(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c, owner := dialRaw(t, addr, longSession), dialRaw(t, addr, longSession)
		base := newBase(t, c)
		owner.call(OpAuth, authBody("digest", "owner:secret"))
		owner.events = nil
		c.call(OpAddWatch, addWatchBody(base, watchRecursive))
		owner.call(OpCreate, createBody(base+"/open", "", 0))
		owner.call(OpCreate, createBody(base+"/hidden", "", 0, ACL{permAll, "auth", ""}))
		owner.call(OpSetData, setDataBody(base+"/hidden", "x", -1))
		if got := c.takeEvents(); got != "created "+base+"/open" {
			t.Error(got)
		}
	})
}
