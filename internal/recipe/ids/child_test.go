package ids_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/recipe/ids"
	"github.com/turnstile-fleet/turnstile/session"
)

const (
	childEnv       = "TURNSTILE_TEST_IDS_CHILD"
	witnesses      = "/witnesses"
	sessionTimeout = 2 * time.Second
)

// TestMain makes the test binary, run again, a process that takes numbers and loses them.
func TestMain(m *testing.M) {
	text, is := os.LookupEnv(childEnv)
	if !is {
		os.Exit(m.Run())
	}
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the parent closes our input, or dies
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for ctx.Err() == nil {
		o.live(ctx)
	}
	fmt.Println("bye")
}

// orders are what a process needs to know.
type orders struct {
	ZooKeeper, Dir string
	Size, Process  int
}

// live takes numbers for as long as a session lasts, and tells of what goes wrong.
func (o orders) live(ctx context.Context) {
	sess, err := session.Dial(ctx, session.Options{Servers: []string{o.ZooKeeper}, Timeout: sessionTimeout, ConnectTimeout: 10 * time.Second})
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, session.ErrUnavailable) {
			fmt.Println("dial:", err)
		}
		return
	}
	defer sess.Close()
	witness, err := sess.Create(ctx, witnesses+"/w-", nil, zk.FlagEphemeral|zk.FlagSequence)
	if err != nil {
		return // the answer was lost: begin again
	}
	for sess.Err() == nil && ctx.Err() == nil {
		id, err := pool(sess, o.Dir, o.Size).Take(ctx)
		if err != nil {
			if ctx.Err() == nil && sess.Err() == nil {
				fmt.Println("take:", err)
			}
			return
		}
		o.hold(ctx, sess, id, witness)
		id.Close()
	}
}

// hold writes to ZooKeeper while it has the number, and tells when that was.
func (o orders) hold(ctx context.Context, sess *session.Session, id *ids.ID, witness string) {
	for range 1 + rand.N(5) {
		if id.Context().Err() != nil {
			return
		}
		time.Sleep(rand.N(20 * time.Millisecond)) // its work
		stat, err := sess.Set(ctx, witness, nil, -1)
		switch {
		case errors.Is(err, session.ErrBroken) || ctx.Err() != nil:
			continue
		case err != nil:
			return // the session is over
		}
		fmt.Printf("has %d %d %d\n", id.Number(), id.Token(), stat.Mzxid)
		node, err := sess.Get(ctx, path.Join(o.Dir, "taken", strconv.Itoa(id.Number())))
		switch {
		case sess.Err() != nil || ctx.Err() != nil:
			return
		case err != nil:
			fmt.Printf("number %d is held, but: %v\n", id.Number(), err)
		case uint64(node.Stat.Czxid) != id.Token() || node.Stat.EphemeralOwner != sess.ID():
			fmt.Printf("number %d is held, but its node is another's\n", id.Number())
		}
	}
}
