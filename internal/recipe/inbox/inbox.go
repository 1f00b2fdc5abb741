// Package inbox is a fleet's queue of messages: whoever has something to be written
// leaves it there, and the agents write it to the file.
//
//	sender → messages/<priority>-<sequence> → taker → frame in the file, message deleted
//
// In ZooKeeper, under a Dir such as /turnstile/default/inbox:
//
//	messages/<p>-<sequence>  persistent; a record as it is; p is the priority, 0 to 9, 0 first
//	dead/<p>-<sequence>      persistent; what could not be written, and why
//	takers/                  a line (package queue): the first in it looks at the messages
//	senders/                 a line: who waits until there is room
//	sending/<guid>           persistent; how many batches a sender has sent
//
// # What is promised
//
// A message is in the file exactly once. The transaction that commits the frame with its
// record deletes it too (see Source.With), so that neither happens without the other,
// and a message can be deleted only once. It does not matter who crashes when, nor how
// many believe to be the first in the takers' line: that line is there so that one message
// wakes one agent, and for no other reason.
//
// A message is sent once, though the answer be lost with the connection or the session:
// each batch raises the version of the sender's own node in the transaction that creates
// its messages, so that the same transaction may be sent again and again until it is
// known that it happened (see Sender). When that cannot be found out, because the sender
// was told to stop, the error says which messages are in doubt.
//
// Messages of one sender and one priority are written in the order in which they were
// sent; a lower priority's number goes first, but does not overtake what an agent has
// loaded for its next turn.
//
// # What is not promised
//
// That a message is written soon: the first taker loads and another holds up the file, or
// it hangs until its session expires. And an operator who adopts a file whose last frame
// was never committed (`agent adopt`) has the messages of that frame in the file and in
// the inbox.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

var (
	// ErrFull says that as many messages wait as there may be.
	ErrFull = errors.New("the inbox is full")
	// ErrExhausted says that the counter of the messages has come to its end.
	ErrExhausted = errors.New("the inbox's sequence numbers are used up (ZooKeeper counts to 2147483647): " +
		"let the agents empty it, stop the senders, delete its node messages, start them again")
)

// LowestPriority is the last; 0 is the first.
const LowestPriority = 9

// DefaultPriority leaves room on both sides.
const DefaultPriority = 5

// DefaultLimit is how many messages may wait before senders are held up.
const DefaultLimit = 10_000

// MaxLimit is the highest limit: a list of the messages' names must fit into one packet of
// ZooKeeper's, at 16 bytes a name, and senders may each be a batch too late to see it.
const MaxLimit = 50_000

// Dir is the inbox's node in ZooKeeper, an absolute path.
type Dir string

// Messages, Dead, Takers, Senders and Sending are the paths under the inbox.
func (d Dir) Messages() string { return path.Join(string(d), "messages") }
func (d Dir) Dead() string     { return path.Join(string(d), "dead") }
func (d Dir) Takers() string   { return path.Join(string(d), "takers") }
func (d Dir) Senders() string  { return path.Join(string(d), "senders") }
func (d Dir) Sending() string  { return path.Join(string(d), "sending") }

// Ensure makes the inbox's nodes if they are missing.
func Ensure(ctx context.Context, sess *session.Session, dir Dir) error {
	for _, node := range []string{dir.Messages(), dir.Dead(), dir.Takers(), dir.Senders(), dir.Sending()} {
		if err := queue.EnsurePath(ctx, sess, node); err != nil {
			return fmt.Errorf("make the inbox: %w", err)
		}
	}
	return nil
}

// parseName splits a message's or a dead letter's name; ok is false for a node that is
// none of ours. Names sort in the order in which messages are taken.
func parseName(name string) (priority int, seq int32, ok bool) {
	if len(name) != len("5-0000000000") || name[0] < '0' || name[0] > '9' || name[1] != '-' {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(name[2:], 10, 31)
	if err != nil || fmt.Sprintf("%010d", n) != name[2:] || n == math.MaxInt32 {
		return 0, 0, false
	}
	return int(name[0] - '0'), int32(n), true
}

// prefix is the path with which to create a sequential node of a priority.
func prefix(parent string, priority int) string {
	return path.Join(parent, strconv.Itoa(priority)) + "-"
}

// transact sends a transaction, the same again on this session while the connection
// breaks under it, until ZooKeeper's definite word. again tells whether an answer was lost
// before that: a refusal may then be that of the second sending, after the first did it.
func transact(ctx context.Context, sess *session.Session, ops ...any) (results []zk.MultiResponse, again bool, err error) {
	for {
		results, err = sess.Multi(ctx, ops...)
		if !errors.Is(err, session.ErrBroken) || queue.Over(ctx, sess) {
			return results, again, err
		}
		again = true
		queue.Pause(ctx, sess)
	}
}

// lingering is done a while after ctx is, for what must be brought to its end.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(queue.Cleanup):
			cancel(context.Cause(ctx))
		case <-late.Done():
		}
	})
	return late, func() { unhook(); cancel(context.Canceled) }
}
