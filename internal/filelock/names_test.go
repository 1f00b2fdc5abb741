package filelock

import (
	"errors"
	"math"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"

	"github.com/turnstile-fleet/turnstile/internal/session"
	"github.com/turnstile-fleet/turnstile/internal/zktest"
)

func TestParseName(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	tests := []struct {
		name string
		seq  int32
		ok   bool
	}{
		{id + "-0000000000", 0, true},
		{id + "-0000000042", 42, true},
		{id + "-2147483647", math.MaxInt32, true},
		{id + "--2147483648", math.MinInt32, true}, // ZooKeeper's counter after its end
		{id + "-2147483648", 0, false},
		{id + "-+000000001", 0, false},
		{id + "-000000000", 0, false},
		{id + "-", 0, false},
		{id, 0, false},
		{"", 0, false},
		{"_c_", 0, false},
		{id[1:] + "g-0000000001", 0, false},
		{"0123456789ABCDEF0123456789ABCDEF-0000000001", 0, false},
		{id + "_0000000001", 0, false},
		{id + "-0x00000001", 0, false},
		{id + "- 000000001", 0, false},
	}
	for _, test := range tests {
		gotID, seq, ok := parseName(test.name)
		if ok != test.ok || ok && (seq != test.seq || gotID != id) {
			t.Errorf("parseName(%q) = %q, %d, %v", test.name, gotID, seq, ok)
		}
	}
	for range 100 {
		if id, seq, ok := parseName(newID() + "-0000000007"); !ok || seq != 7 || uuid.Validate(id) != nil {
			t.Fatalf("our own ID %q, %d, %v", id, seq, ok)
		}
	}
}

func TestTheQueuesCounterComesToItsEnd(t *testing.T) {
	sess, err := session.Dial(t.Context(), session.Options{
		Servers: strings.Split(zktest.Shared(t), ","), Timeout: 20 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sess.Close()
	root := Root(zktest.Root(t))
	if err := Ensure(t.Context(), sess, root); err != nil {
		t.Fatal(err)
	}
	q := New(sess, root, Member{}, nil)
	for seq, want := range map[string]error{
		"-0000000000": nil, "-2147483646": nil,
		"-2147483647": ErrExhausted, "--2147483648": ErrExhausted, "--0000000001": ErrExhausted,
	} {
		name := newID() + seq
		if _, err := sess.Create(t.Context(), path.Join(root.Queue(), name), nil, zk.FlagEphemeral); err != nil {
			t.Fatal(err)
		}
		place, err := q.place(name)
		if !errors.Is(err, want) || (place == nil) != (want != nil) {
			t.Errorf("%s: place %v, %v, want %v", seq, place, err, want)
		}
		_, err = sess.Get(t.Context(), path.Join(root.Queue(), name))
		if left := err == nil; left != (want == nil) {
			t.Errorf("%s: in the queue: %v", seq, left)
		}
	}
}
