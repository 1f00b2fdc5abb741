package inbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// MaxBatch and MaxBatchBytes bound one transaction's messages.
const (
	MaxBatch      = 100
	MaxBatchBytes = 512 << 10
)

// Forever is a Patience that does not end.
const Forever = time.Duration(-1)

// SenderOptions for a Sender. All but Log are required.
type SenderOptions struct {
	Dial     func(context.Context) (*session.Session, error)
	Dir      Dir
	Who      queue.Member  // who sends
	Priority int           // 0 to LowestPriority, 0 first
	Limit    int           // how many messages may wait, 1 to MaxLimit; a batch too many is possible for each sender
	Patience time.Duration // how long to wait for room; 0: not at all
	Log      *zap.Logger
}

// Sender sends messages, in order, each once. It goes on across sessions: what a session
// that is over left in doubt is found out with the next. It ends with Close.
type Sender struct {
	SenderOptions
	sess  *session.Session
	id    string
	made  bool  // our node was
	at    int32 // its version
	batch int   // sent so far
}

// DoubtError says that messages were sent, no answer came, and it could not be found out
// what became of them: they are all in the inbox (or in the file by now), or none is.
type DoubtError struct {
	Messages int // the next so many after those that were sent
	Err      error
}

func (e *DoubtError) Error() string {
	return fmt.Sprintf("whether the next %d messages were sent is not known: %v", e.Messages, e.Err)
}

func (e *DoubtError) Unwrap() error { return e.Err }

// NewSender gives a sender. It does nothing until Send.
func NewSender(opts SenderOptions) *Sender {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	return &Sender{SenderOptions: opts, id: queue.NewID()}
}

// Send sends records, in batches, each as a whole. It returns the names of those that were
// sent, be it that an error ended it; a name is "" when its message was sent and the
// answer that had the name was lost.
//
// The errors: ErrFull when there was no room in time; *DoubtError; *frame.RecordError for
// a record that cannot be written, when those before it were sent; ctx's cause, the
// session's end or session.ErrUnavailable, when no more than the names says was sent.
func (s *Sender) Send(ctx context.Context, records ...[]byte) (names []string, err error) {
	var bad error
	for i, r := range records {
		if bad = frame.CheckRecord(r); bad != nil {
			records = records[:i]
			break
		}
	}
	for len(records) > 0 {
		n := s.fit(records)
		sent, err := s.send(ctx, records[:n])
		names = append(names, sent...)
		if err != nil {
			return names, err
		}
		records = records[n:]
	}
	return names, bad
}

// fit is how many of the records make a batch.
func (s *Sender) fit(records [][]byte) int {
	n, size := 0, 0
	for ; n < min(len(records), MaxBatch, s.Limit); n++ {
		if size += len(records[n]); n > 0 && size > MaxBatchBytes {
			break
		}
	}
	return n
}

// send sends one batch.
func (s *Sender) send(ctx context.Context, records [][]byte) ([]string, error) {
	for {
		names, err := s.try(ctx, records)
		switch {
		case err == nil:
			return names, nil
		case ctx.Err() != nil || errors.As(err, new(*DoubtError)):
			return nil, err
		case s.sess != nil && s.sess.Err() != nil: // before anything was sent
			s.Log.Warn("not sending: asking for a new ZooKeeper session", zap.Error(err))
		case errors.Is(err, queue.ErrLost):
			s.Log.Warn("our place in the senders' line was removed, queueing again", zap.Error(err))
		default:
			return nil, err
		}
	}
}

// try sends one batch, unless the session ends before.
func (s *Sender) try(ctx context.Context, records [][]byte) ([]string, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	leave, err := s.room(ctx, len(records))
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.commit(ctx, records)
}

// enter gets a session if need be, and makes our node.
func (s *Sender) enter(ctx context.Context) (err error) {
	if s.sess != nil && s.sess.Err() != nil {
		s.sess.Close()
		s.sess = nil
	}
	if s.sess == nil {
		sess, err := s.Dial(ctx)
		if err != nil {
			return err
		}
		s.sess = sess
	}
	if s.made {
		return nil
	}
	if err := Ensure(ctx, s.sess, s.Dir); err != nil {
		return err
	}
	if err := s.make(ctx); err != nil {
		return fmt.Errorf("begin to send: %w", err)
	}
	s.made = true
	sweep(ctx, s.sess, s.Dir, s.node(), forgotten, s.Log)
	return nil
}

func (s *Sender) node() string { return path.Join(s.Dir.Sending(), s.id) }

// make makes our node: its version counts our batches.
func (s *Sender) make(ctx context.Context) error {
	for {
		_, err := s.sess.Create(ctx, s.node(), s.card(), 0)
		switch {
		case err == nil || errors.Is(err, zk.ErrNodeExists): // nobody else has our GUID
			s.at = 0
			return nil
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, s.sess):
			return err
		}
		queue.Pause(ctx, s.sess)
	}
}

// card is what our node holds when so many batches were sent.
func (s *Sender) card() []byte {
	data, err := json.Marshal(struct {
		queue.Member
		Batch int `json:"batch"`
	}{s.Who, s.batch})
	if err != nil {
		panic(err) // a plain struct
	}
	return data
}

// Close ends the session and forgets the sender. It takes a second or two at most.
func (s *Sender) Close() {
	if s.sess == nil {
		return
	}
	if s.made && s.sess.Err() == nil {
		ctx, cancel := context.WithTimeout(s.sess.Context(), queue.Cleanup)
		defer cancel()
		if err := queue.Remove(ctx, s.sess, s.node()); err != nil {
			s.Log.Debug("the sender's node stays for a day", zap.Error(err))
		}
	}
	s.sess.Close()
}
