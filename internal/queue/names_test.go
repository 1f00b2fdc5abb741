package queue

import (
	"errors"
	"math"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
	"github.com/turnstile-fleet/turnstile/test/zktest"
)

func TestParseName(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	tests := []struct {
		name   string
		seq    int32
		ok     bool
		shared bool
	}{
		{id + "-shared-0000000042", 42, true, true},
		{id + "-shared0000000042", 0, false, false},
		{id + "-shared-", 0, false, false},
		{id + "-Shared-0000000042", 0, false, false},
		{id + "-0000000000", 0, true, false},
		{id + "-0000000042", 42, true, false},
		{id + "-2147483647", math.MaxInt32, true, false},
		{id + "--2147483648", math.MinInt32, true, false}, // ZooKeeper's counter after its end
		{id + "-2147483648", 0, false, false},
		{id + "-+000000001", 0, false, false},
		{id + "-000000000", 0, false, false},
		{id + "-", 0, false, false},
		{id, 0, false, false},
		{"", 0, false, false},
		{"_c_", 0, false, false},
		{id[1:] + "g-0000000001", 0, false, false},
		{"0123456789ABCDEF0123456789ABCDEF-0000000001", 0, false, false},
		{id + "_0000000001", 0, false, false},
		{id + "-0x00000001", 0, false, false},
		{id + "- 000000001", 0, false, false},
	}
	for _, test := range tests {
		gotID, seq, shared, ok := parseName(test.name)
		if ok != test.ok || ok && (seq != test.seq || gotID != id || shared != test.shared) {
			t.Errorf("parseName(%q) = %q, %d, %v, %v", test.name, gotID, seq, shared, ok)
		}
	}
	for range 100 {
		if id, seq, _, ok := parseName(NewID() + "-0000000007"); !ok || seq != 7 || uuid.Validate(id) != nil {
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
	dir := path.Join(zktest.Root(t), "line")
	if err := EnsurePath(t.Context(), sess, dir); err != nil {
		t.Fatal(err)
	}
	line := &Line{Sess: sess, Dir: dir, Log: zap.NewNop()}
	for seq, want := range map[string]error{
		"-0000000000": nil, "-2147483646": nil,
		"-2147483647": ErrExhausted, "--2147483648": ErrExhausted, "--0000000001": ErrExhausted,
	} {
		name := NewID() + seq
		if _, err := sess.Create(t.Context(), path.Join(dir, name), nil, zk.FlagEphemeral); err != nil {
			t.Fatal(err)
		}
		place, err := line.Adopt(name, 0)
		if !errors.Is(err, want) || (place == nil) != (want != nil) {
			t.Errorf("%s: place %v, %v, want %v", seq, place, err, want)
		}
		_, err = sess.Get(t.Context(), path.Join(dir, name))
		if left := err == nil; left != (want == nil) {
			t.Errorf("%s: in the queue: %v", seq, left)
		}
	}
}
