package queue_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/turnstile-fleet/turnstile/internal/queue"
)

func TestOrderLeavesForeignNodesOut(t *testing.T) {
	a, b, c := strings.Repeat("a", 32), strings.Repeat("b", 32), strings.Repeat("c", 32)
	names := []string{"foreign", a + "-0000000010", "_c_", c + "-shared-0000000009", b + "-0000000002", b + "-3", a}
	want := []string{b + "-0000000002", c + "-shared-0000000009", a + "-0000000010"}
	if got := queue.Order(names); !slices.Equal(got, want) {
		t.Errorf("Order gives %q, want %q", got, want)
	}
}
