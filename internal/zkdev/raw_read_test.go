package zkdev

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestListsAndCounts(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c, other := dialRaw(t, addr, longSession), dialRaw(t, addr, longSession)
		base := newBase(t, c)
		for _, name := range []string{"/a", "/a/b", "/a/b/c", "/ab"} {
			c.create(base+name, flagPersistent)
		}
		c.create(base+"/a/e1", flagEphemeral)
		c.create(base+"/e2", flagEphemeral)
		other.create(base+"/e3", flagEphemeral)
		for prefix, want := range map[string]string{
			base:         "B/a/e1 B/e2",
			base + "/a":  "B/a/e1",
			base + "/e3": "",
			"":           "B/a/e1 B/e2",
			"/":          "B/a/e1 B/e2",
		} {
			r := c.call(OpGetEphemerals, pathBody(prefix))
			got := strings.ReplaceAll(strings.Join(sortedStrings(&r.body), " "), base, "B")
			if r.code != errOK || got != want {
				t.Errorf("ephemerals below %q: %d, %q, want %q", prefix, r.code, got, want)
			}
		}
		for path, want := range map[string]string{base: "0: 7", base + "/a": "0: 3", base + "/ab": "0: 0", base + "/no": "-101: 0"} {
			r := c.call(OpGetAllChildrenNumber, pathBody(path))
			if got := fmt.Sprintf("%d: %d", r.code, r.body.int32()); got != want {
				t.Errorf("all children of %s: %s, want %s", path, got, want)
			}
		}
		if r := c.call(OpSync, pathBody(base)); r.code != errOK || r.body.string() != base {
			t.Errorf("sync: %d", r.code)
		}
	})
}

func TestNullDataStaysNull(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		for path, data := range map[string][]byte{base + "/null": nil, base + "/empty": {}} {
			c.call(OpCreate, func(e *encoder) { e.string(path); e.buffer(data); e.acls(openACL); e.int32(0) })
			r := c.call(OpGetData, watchBody(path, false))
			got := r.body.buffer()
			if (got == nil) != (data == nil) || r.body.stat().dataLength != 0 {
				t.Errorf("%s: %v", path, got)
			}
		}
	})
}

func TestSystemNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		r := c.call(OpGetChildren2, watchBody(pathSystem, false))
		names, st := sortedStrings(&r.body), r.body.stat()
		if fmt.Sprint(names) != "[config quota]" || st != (stat{cversion: -2, numChildren: 2}) {
			t.Errorf("%s: %v, %+v", pathSystem, names, st)
		}
		r = c.call(OpGetACL, pathBody(pathConfig))
		if acl, st := r.body.acls(), r.body.stat(); fmt.Sprint(acl) != fmt.Sprint(readOnlyACL) || st != (stat{aversion: -1}) {
			t.Errorf("%s: %v, %+v", pathConfig, acl, st)
		}
		r = c.call(OpGetData, watchBody(pathConfig, false))
		if data := r.body.buffer(); r.code != errOK || data == nil || len(data) > 0 {
			t.Errorf("%s: %d, %q", pathConfig, r.code, data)
		}
	})
}

func TestMultiAnswersContainersAndTTLNodesAsCreate2(t *testing.T) {
	onBoth(t, func(t *testing.T, addr string) {
		c := dialRaw(t, addr, longSession)
		base := newBase(t, c)
		r := c.call(OpMulti, multiBody(
			subOp{OpCreate2, createBody(base+"/plain", "", flagPersistent)},
			subOp{OpCreateContainer, createBody(base+"/container", "", flagContainer)},
			subOp{OpCreateTTL, createTTLBody(base+"/ttl-", flagSequentialTTL, 1000_000)},
			subOp{OpCreateContainer, createBody(base+"/no-container", "", flagEphemeral)},
		))
		var got []string
		for {
			op, done := Opcode(r.body.int32()), r.body.bool()
			r.body.int32()
			if done || r.body.err != nil {
				break
			}
			got = append(got, op.String()+" "+strings.TrimPrefix(r.body.string(), base))
			if op == OpCreate2 {
				r.body.stat()
			}
		}
		if want := "create /plain, create2 /container, create2 /ttl-0000000002, create /no-container"; strings.Join(got, ", ") != want {
			t.Errorf("%q", got)
		}
		if st, _ := c.exists(base + "/no-container"); st.ephemeralOwner != c.session {
			t.Error("in a multi the flags decide, not the opcode")
		}
	})
}

// A history needs no real server to show that zkdev agrees with itself, and
// keeps its tree in order.
func TestHistoryIsTheSameEachTime(t *testing.T) {
	s := RunT(t, func(c *Config) { c.ContainerCheckInterval = time.Hour })
	for seed := range uint64(10) {
		first := runHistory(t, s.Addr(), fmt.Sprintf("/h%d", seed), seed, 100)
		second := runHistory(t, s.Addr(), fmt.Sprintf("/i%d", seed), seed, 100)
		for i := range first {
			again := strings.ReplaceAll(second[i], fmt.Sprintf("/i%d", seed), fmt.Sprintf("/h%d", seed))
			if again != first[i] {
				t.Fatalf("seed %d: two runs differ:\n%s\n%s", seed, first[i], again)
			}
		}
		s.mu.Lock()
		checkTree(t, s.tree)
		s.mu.Unlock()
	}
}
