package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/internal/verify"
	"github.com/turnstile-fleet/turnstile/session"
)

// What a verdict may be.
const (
	Fine     = "fine"     // nothing is wrong up to Turn
	Faults   = "faults"   // Faults things are wrong, the first of them First
	Checking = "checking" // a new auditor reads the file from its beginning, and is at Offset
	Failed   = "failed"   // the auditor could not do its work: Error tells why
)

// Verdict is what the auditor says of the file, as it stands in ZooKeeper.
type Verdict struct {
	Verdict string          `json:"verdict"`
	Turn    uint64          `json:"turn"`   // the last that was judged, and is in the file
	Offset  int64           `json:"offset"` // where that ends
	Of      int64           `json:"of,omitempty"`
	Records int64           `json:"records"`
	Faults  int64           `json:"faults"`
	First   *verify.Finding `json:"first_finding,omitempty"`
	Error   string          `json:"error,omitempty"`
	Auditor string          `json:"auditor"`
	Host    string          `json:"host"`
	Token   frame.Token     `json:"token"` // of the auditor's leadership
	Since   time.Time       `json:"since"` // it leads
	At      time.Time       `json:"at"`
}

// State is what an onlooker sees of a fleet's audit.
type State struct {
	*Verdict
	Auditors int `json:"auditors"` // who stand for it, the one that leads among them
}

// Look reads the verdict, nil when there never was one and nobody stands for auditor.
func Look(ctx context.Context, sess queue.Session, root string) (*State, error) {
	var s State
	names, err := sess.Children(ctx, electionDir(root))
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return nil, fmt.Errorf("list the auditors: %w", err)
	}
	s.Auditors = len(names)
	node, err := sess.Get(ctx, verdictNode(root))
	switch {
	case errors.Is(err, zk.ErrNoNode) && s.Auditors == 0:
		return nil, nil
	case errors.Is(err, zk.ErrNoNode):
		return &s, nil
	case err != nil:
		return nil, fmt.Errorf("read the auditor's verdict: %w", err)
	}
	s.Verdict = &Verdict{}
	if json.Unmarshal(node.Data, s.Verdict) != nil {
		s.Verdict = &Verdict{Verdict: Failed, Error: "the verdict in ZooKeeper cannot be read"}
	}
	return &s, nil
}

// publish makes v the fleet's verdict. On a nil error it is, and we led then.
// queue.ErrLost: we lead no more, and it is not.
func (t *term) publish(ctx context.Context, v Verdict) error {
	v.Auditor, v.Host = t.Who.Agent, t.Who.Host
	v.Token, v.Since, v.At = frame.Token(t.led.Token()), t.since, time.Now().UTC()
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // a plain struct of numbers, strings and times
	}
	for {
		err := t.write(ctx, data)
		switch {
		case err == nil:
			t.last = &v
			return nil
		case isOneOf(err, zk.ErrNoNode, zk.ErrNodeExists, zk.ErrBadVersion):
			// We lead no more, or the node is not as we knew it.
		case !errors.Is(err, session.ErrBroken) || queue.Over(ctx, t.sess):
			return fmt.Errorf("publish the verdict: %w", err)
		}
		if err := queue.Barrier(ctx, t.sess, t.led.Check().Path); errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("publish the verdict: %w: another may be the auditor", queue.ErrLost)
		} else if err != nil {
			return fmt.Errorf("publish the verdict: %w", err)
		}
		if err := t.learn(ctx); err != nil {
			return err
		}
		queue.Pause(ctx, t.sess)
	}
}

// write sends the transaction: that we lead, and the verdict at the version that we know.
func (t *term) write(ctx context.Context, data []byte) error {
	node := verdictNode(string(t.Root))
	if t.version == unknown {
		if err := t.learn(ctx); err != nil {
			return err
		}
	}
	var set any = &zk.SetDataRequest{Path: node, Data: data, Version: t.version}
	if t.version == none {
		set = &zk.CreateRequest{Path: node, Data: data, Acl: t.sess.ACL()}
	}
	_, err := t.sess.Multi(ctx, t.led.Check(), set)
	if err == nil {
		t.version++ // a created node has version 0
	}
	return err
}

// learn reads the version of the verdict's node.
func (t *term) learn(ctx context.Context) error {
	node, err := t.sess.Get(ctx, verdictNode(string(t.Root)))
	switch {
	case err == nil:
		t.version = node.Stat.Version
	case errors.Is(err, zk.ErrNoNode):
		t.version = none
	default:
		return fmt.Errorf("look at the verdict: %w", err)
	}
	return nil
}

func isOneOf(err error, words ...error) bool {
	for _, word := range words {
		if errors.Is(err, word) {
			return true
		}
	}
	return false
}

// Versions of the verdict's node that are none.
const (
	none    int32 = -1
	unknown int32 = -2
)
