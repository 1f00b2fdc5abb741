package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/turnstile-fleet/turnstile/internal/filelock"
	"github.com/turnstile-fleet/turnstile/internal/frame"
	"github.com/turnstile-fleet/turnstile/session"
)

// onlooker sees every commit as soon as ZooKeeper tells.
type onlooker struct {
	sess *session.Session
	root filelock.Root

	mu    sync.Mutex
	last  commit
	moved chan struct{} // closed when last is another
	ended error
}

// commit is when we heard of it, and whose turn it was.
type commit struct {
	at    time.Time
	token frame.Token
}

func dial(ctx context.Context, c config) (*session.Session, error) {
	return session.Dial(ctx, session.Options{
		Servers: strings.Split(c.servers, ","), Timeout: c.timeout, ConnectTimeout: 20 * time.Second,
	})
}

func look(ctx context.Context, c config, root filelock.Root) (*onlooker, error) {
	sess, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	o := &onlooker{sess: sess, root: root, moved: make(chan struct{})}
	go o.follow() // ends with the session
	return o, nil
}

func (o *onlooker) follow() {
	ctx := o.sess.Context()
	for {
		node, err := o.sess.Watch(ctx, o.root.Head())
		if errors.Is(err, zk.ErrNoNode) {
			_, made, ferr := o.sess.WatchFor(ctx, o.root.Head())
			node.Watch, err = made, ferr
		} else if err == nil {
			var head frame.Head
			if head, err = frame.ParseHead(node.Data); err == nil {
				o.saw(commit{time.Now(), head.Token})
			}
		}
		if err != nil {
			o.mu.Lock()
			o.ended = err
			close(o.moved)
			o.mu.Unlock()
			return
		}
		select {
		case <-node.Watch:
		case <-ctx.Done():
		}
	}
}

func (o *onlooker) saw(c commit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.token != o.last.token {
		o.last = c
		close(o.moved)
		o.moved = make(chan struct{})
	}
}

// after waits for the first commit that we hear of after t.
func (o *onlooker) after(ctx context.Context, t time.Time) (commit, error) {
	for {
		o.mu.Lock()
		last, moved, err := o.last, o.moved, o.ended
		o.mu.Unlock()
		switch {
		case err != nil:
			return last, err
		case last.at.After(t):
			return last, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return last, fmt.Errorf("no commit since %v: %w", time.Since(t), context.Cause(ctx))
		}
	}
}

// queue lists who waits, the holder first.
func (o *onlooker) queue(ctx context.Context) ([]filelock.Entry, error) {
	return filelock.Look(ctx, o.sess, o.root)
}

// isIn tells whether the turn of token stands in the file, of which the last turns are
// enough.
func isIn(path string, token frame.Token) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	tail := make([]byte, min(info.Size(), 1<<18))
	n, err := f.ReadAt(tail, info.Size()-int64(len(tail)))
	if err != nil && !errors.Is(err, io.EOF) { // a dead holder's tail may be cut meanwhile
		return false, err
	}
	return bytes.Contains(tail[:n], fmt.Appendf(nil, " token=%v ", token)), nil
}
