package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
)

// Place is a place in a line. It ends with Leave.
type Place struct {
	line   *Line
	name   string
	shared bool

	token   uint64          // its creation zxid, once looked at
	own     <-chan zk.Event // tells of its removal
	seen    uint64          // the session's connection on which that was set
	leaving atomic.Bool     // from here on we remove it ourselves
}

// Join takes the last place in the line. When it fails, no place is left behind,
// or the session is discarded and takes it along.
func (l *Line) Join(ctx context.Context) (*Place, error) { return l.join(ctx, false) }

// JoinShared takes the last place, with only those before it in its way that are not
// shared.
func (l *Line) JoinShared(ctx context.Context) (*Place, error) { return l.join(ctx, true) }

func (l *Line) join(ctx context.Context, shared bool) (*Place, error) {
	id := NewID()
	prefix := id
	if shared {
		prefix += sharedMark
	}
	for {
		node, err := l.Sess.Create(ctx, l.Prefix(prefix), l.Card(), zk.FlagEphemeral|zk.FlagSequence)
		if errors.Is(err, session.ErrBroken) && !Over(ctx, l.Sess) {
			// The answer was lost with the connection; the node may be there.
			node, err = l.Find(ctx, id)
			if err == nil && node == "" {
				continue
			}
		}
		if err != nil && !session.Definite(err) {
			l.tidy(id)
		}
		if err != nil {
			return nil, fmt.Errorf("join the queue: %w", err)
		}
		return l.Adopt(path.Base(node), 0)
	}
}

// Adopt makes a Place of a node that was made for us, as by a transaction of the caller's,
// whose zxid is the place's token; 0 means that it is not known.
func (l *Line) Adopt(name string, token uint64) (*Place, error) {
	_, seq, shared, ok := parseName(name)
	if !ok || seq < 0 || seq == math.MaxInt32 {
		l.tidy(name)
		return nil, ErrExhausted
	}
	if l.Log == nil {
		l.Log = zap.NewNop()
	}
	return &Place{line: l, name: name, shared: shared, token: token}, nil
}

// NewID is a GUID of our own, by which a node is recognised whose name we were
// never told.
func NewID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

// Prefix is the path with which to create a sequential node for id.
func (l *Line) Prefix(id string) string { return path.Join(l.Dir, id) + "-" }

// Card is what a place says of who has it. (Since when somebody is in the line is told by
// ZooKeeper's own clock, see Entry.)
func (l *Line) Card() []byte {
	if l.card != nil {
		return l.card
	}
	who := l.Who
	who.Since = time.Now().UTC()
	data, err := json.Marshal(who)
	if err != nil {
		panic(err) // a plain struct of strings and times
	}
	if l.Unwatched { // then one goroutine has the line
		l.card = data
	}
	return data
}

// Find looks for the place that carries our id; "" when there is none. Our create may
// have gone through another server than the read will.
func (l *Line) Find(ctx context.Context, id string) (string, error) {
	if err := Barrier(ctx, l.Sess, l.Dir); err != nil {
		return "", err
	}
	names, err := l.Sess.Children(ctx, l.Dir)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if strings.HasPrefix(name, id) {
			return path.Join(l.Dir, name), nil
		}
	}
	return "", nil
}

// tidy removes the place with this id or name, if there is one, though the
// caller's context has ended.
func (l *Line) tidy(id string) {
	ctx, cancel := context.WithTimeout(l.Sess.Context(), cmp.Or(l.Patience, Cleanup))
	defer cancel()
	err := l.remove(ctx, id)
	for l.Patience > 0 && errors.Is(err, session.ErrBroken) && ctx.Err() == nil {
		err = l.remove(ctx, id)
	}
	if err != nil && l.Sess.Err() == nil {
		l.Sess.Discard(fmt.Sprintf("a place may be left in the queue: %v", err))
	}
}

func (l *Line) remove(ctx context.Context, id string) error {
	node, err := l.Find(ctx, id)
	if errors.Is(err, zk.ErrNoNode) { // the whole line is gone, and our place with it
		return nil
	}
	if err == nil && node != "" {
		err = Remove(ctx, l.Sess, node)
	}
	return err
}

// Leave gives the place up, so that those behind move up at once. It works though
// the caller's own context has ended, and takes less than a second, or the line's Patience.
func (p *Place) Leave() {
	p.Leaving()
	p.line.tidy(p.name)
}

// Leaving says that from here on the place is removed by ourselves: its removal is no
// loss to those who Guard it.
func (p *Place) Leaving() { p.leaving.Store(true) }

// Name is the place's own, Path the whole path of its node.
func (p *Place) Name() string { return p.name }
func (p *Place) Path() string { return path.Join(p.line.Dir, p.name) }

// Sequence is the place's number in the line.
func (p *Place) Sequence() int32 {
	_, seq, _, _ := parseName(p.name)
	return seq
}

// Token is the fencing token: the place's creation zxid, higher than that of every place
// before it. It is known once Next or Wait returned nil.
func (p *Place) Token() uint64 { return p.token }

// idLen is the length of NewID.
const idLen = 32

const sharedMark = "-shared"

// parseName splits a place's name; ok is false for a node that is none of ours.
func parseName(name string) (id string, seq int32, shared, ok bool) {
	if len(name) <= idLen || strings.Trim(name[:idLen], "0123456789abcdef") != "" {
		return "", 0, false, false
	}
	rest, shared := strings.CutPrefix(name[idLen:], sharedMark)
	digits, ok := strings.CutPrefix(rest, "-")
	n, err := strconv.ParseInt(digits, 10, 32)
	if !ok || err != nil || len(digits) < 10 || len(digits) > 10 && digits[0] != '-' || digits[0] == '+' { // as ZooKeeper writes it: %010d
		return "", 0, false, false
	}
	return name[:idLen], int32(n), shared, true
}
