package queue

import (
	"context"
	"testing"
)

func TestSteady(t *testing.T) {
	type key struct{}
	ctx, stop := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	steady := Steady(ctx)
	if steady.Done() != nil || steady.Value(key{}) != "value" {
		t.Error("it ends, or lacks a value")
	}
	stop()
	if steady.Err() != nil {
		t.Error("it ended with what it was made of")
	}
	if Steady(ctx).Err() == nil {
		t.Error("a context that has ended would begin a request")
	}
	if never := context.Background(); Steady(never) != never {
		t.Error("a context that never ends is as good as any")
	}
}
