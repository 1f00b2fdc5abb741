package recipe_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/recipe/barrier"
	"github.com/turnstile-fleet/turnstile/internal/recipe/elect"
	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/internal/recipe/inbox"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/internal/zkdev"
	"github.com/turnstile-fleet/turnstile/recipe/lock"
	"github.com/turnstile-fleet/turnstile/session"
	"go.uber.org/zap"
)

// docs/recipes.md shows the bodies of these examples; TestDocsShowTheExamples compares.

func Example_lock() {
	ctx, sess := context.Background(), dial()
	defer sess.Close()

	l := &lock.Lock{Sess: sess, Dir: "/turnstile/default/locks/backup", Who: me}
	held, err := l.Exclusive(ctx) // or Shared, Slot(ctx, 3), TryExclusive …
	if err != nil {
		log.Fatal(err)
	}
	defer held.Close()
	work(held.Context(), held.Token()) // ends early when the lock is lost
	_, err = l.TryShared(ctx)
	fmt.Println(err)
	// Output:
	// at work
	// the lock is busy
}

func Example_ids() {
	ctx, sess := context.Background(), dial()
	defer sess.Close()

	pool := &ids.Pool{Sess: sess, Dir: "/turnstile/default/ids/worker", Size: ids.MaxSize, Who: me}
	first, err := pool.Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	second, err := pool.Take(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	fmt.Println(first.Number(), second.Number())
	first.Close()
	third, err := pool.Take(ctx) // the lowest that is free
	if err != nil {
		log.Fatal(err)
	}
	defer third.Close()
	fmt.Println(third.Number())
	// Output:
	// 1 2
	// 1
}

func Example_elect() {
	ctx, sess := context.Background(), dial()
	defer sess.Close()

	e := &elect.Election{Sess: sess, Dir: "/turnstile/default/elections/nightly", Who: me}
	leader, err := e.Campaign(ctx) // waits until we lead
	if err != nil {
		log.Fatal(err)
	}
	defer leader.Close()                   // resigns; the next leads at once
	work(leader.Context(), leader.Token()) // ends before another could lead
	// Output:
	// at work
}

func Example_barrier() {
	ctx, sess := context.Background(), dial()
	defer sess.Close()

	b := &barrier.Barrier{Sess: sess, Dir: "/turnstile/default/barriers/start", Size: 1, Who: me, Log: zap.NewNop()}
	inside, err := b.Enter(ctx) // waits until Size members are there
	if err != nil {
		log.Fatal(err)
	}
	work(inside.Context(), 0) // ends with barrier.ErrBroken when another member dies
	fmt.Println(inside.Leave(ctx))
	// Output:
	// at work
	// <nil>
}

func Example_live() {
	ctx, stop := context.WithCancel(context.Background())
	sess := dial()
	defer sess.Close()

	node := "/turnstile/default/config"
	schema := live.Schema{Keys: []live.Key{{Name: "pace"}}, Check: func(s live.Settings) error {
		_, err := time.ParseDuration(s["pace"])
		return err
	}}
	set := func(pace string) error {
		change := live.Change{Node: node, Schema: schema, Edit: live.Set(live.Settings{"pace": pace})}
		_, err := change.Store(ctx, sess)
		return err
	}
	if err := set("50ms"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(set("soon")) // refused: it reaches nobody
	connected, _ := live.Renewed()
	live.Watch(ctx, sess, node, connected, func(now live.Snapshot) {
		fmt.Println(schema.Value(now).Settings)
		stop() // one is enough here
	})
	// Output:
	// time: invalid duration "soon"
	// pace=50ms
}

func Example_inbox() {
	ctx := context.Background()
	sender := inbox.NewSender(inbox.SenderOptions{
		Dial: newSession, Dir: "/turnstile/default/inbox", Who: me,
		Priority: inbox.DefaultPriority, Limit: inbox.DefaultLimit, Patience: time.Minute,
	})
	defer sender.Close()
	names, err := sender.Send(ctx, []byte("a record"), []byte("another"))
	fmt.Println(names, err)
	// Output:
	// [5-0000000000 5-0000000001] <nil>
}

// What the examples share.

var me = queue.Member{Agent: "example"}

func work(ctx context.Context, _ uint64) {
	if ctx.Err() == nil {
		fmt.Println("at work")
	}
}

// newSession gives a session with a ZooKeeper of the example's own.
func newSession(ctx context.Context) (*session.Session, error) {
	server, err := zkdev.Start(zkdev.Config{}) // ends with the process
	if err != nil {
		return nil, err
	}
	sess, err := session.Dial(ctx, session.Options{Servers: []string{server.Addr()}, Timeout: 10 * time.Second})
	if err == nil {
		err = queue.EnsurePath(ctx, sess, "/turnstile/default")
	}
	return sess, err
}

func dial() *session.Session {
	sess, err := newSession(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	return sess
}
