package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// Letter is a dead letter: a message that could not be written. In its node this is one
// line of JSON, and the record's own bytes follow, whatever they are.
type Letter struct {
	Name   string    `json:"name,omitempty"` // among the dead letters
	Was    string    `json:"was"`            // among the messages
	Reason string    `json:"reason"`
	When   time.Time `json:"when"` // by the clock of who put it there
	By     string    `json:"by"`   // the agent who did
	Record []byte    `json:"-"`
}

// MarshalJSON adds the record: as text when it is text, else in base64.
func (l Letter) MarshalJSON() ([]byte, error) {
	type plain Letter
	out := struct {
		plain
		Text   *string `json:"record,omitempty"`
		Base64 []byte  `json:"record_base64,omitempty"`
	}{plain: plain(l)}
	if text := string(l.Record); utf8.ValidString(text) {
		out.Text = &text
	} else {
		out.Base64 = l.Record
	}
	return json.Marshal(out)
}

// mostBuried is the longest record that fits into a packet with what is said about it.
const mostBuried = 1<<20 - 8<<10

// bury moves a message to the dead letters. That somebody else took it is no error.
func (t *Taker) bury(ctx context.Context, m Message, bad error) error {
	if len(m.Record) > mostBuried {
		t.alone(m.Name, fmt.Sprintf("it has %d bytes, too many to be moved to the dead letters", len(m.Record)))
		return nil
	}
	line, err := json.Marshal(struct {
		Was    string    `json:"was"`
		Reason string    `json:"reason"`
		When   time.Time `json:"when"`
		By     string    `json:"by"`
	}{m.Name, bad.Error(), time.Now().UTC(), t.by})
	if err != nil {
		return err
	}
	priority, _, _ := parseName(m.Name)
	_, _, err = transact(ctx, t.sess, m.Delete(), &zk.CreateRequest{
		Path: prefix(t.dir.Dead(), priority), Data: slices.Concat(line, []byte("\n"), m.Record),
		Acl: t.sess.ACL(), Flags: zk.FlagSequence,
	})
	switch {
	case err == nil:
		t.log.Warn("a message can't be written: moved to the dead letters, see `agent inbox dead`",
			zap.String("message", m.Name), zap.NamedError("why", bad))
	case errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrBadVersion): // gone, by us or others, or another now
	default:
		return fmt.Errorf("move message %s to the dead letters: %w", m.Name, err)
	}
	return nil
}

// Letters lists the dead letters, in order of priority and then of their death.
func Letters(ctx context.Context, sess *session.Session, dir Dir) ([]Letter, error) {
	names, err := letterNames(ctx, sess, dir)
	if err != nil {
		return nil, err
	}
	letters := []Letter{}
	for _, name := range names {
		l, _, err := letter(ctx, sess, dir, name)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return nil, err
		}
		letters = append(letters, l)
	}
	return letters, nil
}

func letterNames(ctx context.Context, sess *session.Session, dir Dir) (names []string, err error) {
	listed, err := sess.Children(ctx, dir.Dead())
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the dead letters: %w", err)
	}
	for _, name := range listed {
		if _, _, ok := parseName(name); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func letter(ctx context.Context, sess *session.Session, dir Dir, name string) (l Letter, version int32, err error) {
	node, err := sess.Get(ctx, path.Join(dir.Dead(), name))
	if err != nil {
		return l, 0, fmt.Errorf("read dead letter %s: %w", name, err)
	}
	line, record, ok := bytes.Cut(node.Data, []byte("\n"))
	if !ok || json.Unmarshal(line, &l) != nil {
		l, record = Letter{Reason: "unknown: it was not put there by an agent"}, node.Data
	}
	l.Name, l.Record = name, record
	return l, node.Stat.Version, nil
}

// ErrNoLetter says that there is no such dead letter.
var ErrNoLetter = errors.New("no such dead letter")

// Retry puts a dead letter back among the messages, as the last of its priority.
func Retry(ctx context.Context, sess *session.Session, dir Dir, name string) error {
	priority, _, ok := parseName(name)
	if !ok {
		return fmt.Errorf("%w: %q", ErrNoLetter, name)
	}
	l, version, err := letter(ctx, sess, dir, name)
	if errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("%w: %s", ErrNoLetter, name)
	}
	if err != nil {
		return err
	}
	if err := Ensure(ctx, sess, dir); err != nil {
		return err
	}
	_, again, err := transact(ctx, sess,
		&zk.DeleteRequest{Path: path.Join(dir.Dead(), name), Version: version},
		&zk.CreateRequest{Path: prefix(dir.Messages(), priority), Data: l.Record, Acl: sess.ACL(), Flags: zk.FlagSequence})
	switch {
	case again && errors.Is(err, zk.ErrNoNode): // whoever put it back, it was put back or dropped
		return nil
	case errors.Is(err, zk.ErrNoNode):
		return fmt.Errorf("%w: %s", ErrNoLetter, name)
	case err != nil:
		return fmt.Errorf("put dead letter %s back: %w", name, err)
	}
	return nil
}

// Drop deletes a dead letter for good.
func Drop(ctx context.Context, sess *session.Session, dir Dir, name string) error {
	if _, _, ok := parseName(name); !ok {
		return fmt.Errorf("%w: %q", ErrNoLetter, name)
	}
	if _, err := sess.Get(ctx, path.Join(dir.Dead(), name)); errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("%w: %s", ErrNoLetter, name)
	}
	return queue.Remove(ctx, sess, path.Join(dir.Dead(), name))
}
