package api_test

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/api"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/booking"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/locks"
	"github.com/turnstile-fleet/turnstile/examples/tickets/internal/stage"
)

// TestReady_logsEachChangeOnce: it is asked each second.
func TestReady_logsEachChangeOnce(t *testing.T) {
	core, logged := observer.New(zap.InfoLevel)
	log := zap.New(core)
	db := stage.Store(t, locks.ZooKeeper, 1)
	server := api.New(&booking.Service{
		Locks: stage.New(t, locks.Redis).Open("one"), Store: db, LockType: locks.Redis, Hold: time.Minute, Log: zap.NewNop(),
	}, log)
	for range 3 {
		if server.Ready(t.Context()) == nil {
			t.Error("it says that it can sell, and another kind does")
		}
	}
	if err := db.Init(t.Context(), locks.Redis, nil); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := server.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	all := logged.All()
	if len(all) != 2 || all[0].Level != zap.WarnLevel || all[1].Message != "can sell" {
		t.Errorf("%+v", all)
	}
}
