package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
)

func newZnodeWatch() *cobra.Command {
	var children, asJSON bool
	cmd := &cobra.Command{
		Use:   "watch [PATH]",
		Short: "Print a node's value, and again whenever it changes, until Ctrl-C",
		Long: `Print a node's value, and again whenever it changes, is made or deleted, until Ctrl-C. The
node need not be there. The last value is never missed; of changes that follow each other
closely those between may be, which the version tells. --children prints the names of its
children, with a + or - for each one that came or went. When the session is lost another
is asked for.`,
		Example: `  agent znode watch head
  agent znode watch --children agents`,
	}
	cmd.Flags().BoolVar(&children, "children", false, "watch which children it has, not its value")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object a change")
	return znodeCommand(cmd, true, 0, func(z *znode, _ []string) error {
		w := &watching{znode: z, children: children, json: asJSON}
		return w.run()
	})
}

// watching is what was printed last.
type watching struct {
	*znode
	children, json bool

	begun bool
	czxid int64 // 0 when there was no node
	mzxid int64
	names []string
}

// run watches in one session after another.
func (w *watching) run() error {
	err := w.follow()
	for errors.Is(err, session.ErrExpired) && w.ctx.Err() == nil {
		log := newLog(w.c.Log, w.cmd.ErrOrStderr())
		log.Warn("trying again with another ZooKeeper session", zap.Error(err))
		err = withSession(w.ctx, w.c, log, func(sess *session.Session) error {
			w.sess = sess
			return w.follow()
		})
		if errors.Is(err, session.ErrUnavailable) { // its Dial has waited
			err = fmt.Errorf("%w: %w", session.ErrExpired, err)
		}
	}
	if w.ctx.Err() != nil {
		return nil
	}
	return err
}

// follow prints each change that is seen in this session.
func (w *watching) follow() error {
	for {
		changed, err := w.look()
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-w.sess.Done():
			return w.sess.Err()
		case <-w.ctx.Done():
			return nil
		}
	}
}

// look prints what has changed since the last look, and watches for what comes next.
func (w *watching) look() (changed <-chan zk.Event, err error) {
	for {
		var names []string
		var node session.Node
		if w.children {
			names, node, err = w.sess.WatchChildren(w.ctx, w.path)
		} else {
			node, err = w.sess.Watch(w.ctx, w.path)
		}
		if err == nil {
			return node.Watch, w.there(node, names)
		}
		if !errors.Is(err, zk.ErrNoNode) {
			return nil, err
		}
		exists, made, err := w.sess.WatchFor(w.ctx, w.path)
		if err != nil {
			return nil, err
		}
		if !exists {
			return made, w.gone()
		}
	}
}

// change is what --json prints.
type change struct {
	At    time.Time `json:"at"`
	Event string    `json:"event"` // is, made, changed, deleted, none
	*nodeValue
	Children []string `json:"children,omitempty"`
	Came     []string `json:"came,omitempty"`
	Went     []string `json:"went,omitempty"`
}

func (w *watching) there(node session.Node, names []string) error {
	c := change{At: time.Now().UTC(), Event: "changed"}
	switch {
	case !w.begun:
		c.Event = "is"
	case w.czxid != node.Stat.Czxid:
		c.Event = "made"
	case w.children:
		slices.Sort(names)
		if slices.Equal(names, w.names) {
			return nil
		}
	case w.mzxid == node.Stat.Mzxid:
		return nil // the watch of a connection that was lost
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(w.names, name) {
			c.Came = append(c.Came, name)
		}
	}
	for _, name := range w.names {
		if !slices.Contains(names, name) {
			c.Went = append(c.Went, name)
		}
	}
	value := valueOf(statOf(w.path, node.Stat), node.Data)
	c.nodeValue, c.Children = &value, names
	if w.children {
		value.Data = nil
	}
	w.begun, w.czxid, w.mzxid, w.names = true, node.Stat.Czxid, node.Stat.Mzxid, names
	return w.print(c)
}

func (w *watching) gone() error {
	c := change{At: time.Now().UTC(), Event: "deleted", Went: w.names}
	switch {
	case !w.begun:
		c.Event = "none"
	case w.czxid == 0:
		return nil
	}
	w.begun, w.czxid, w.mzxid, w.names = true, 0, 0, nil
	return w.print(c)
}

func (w *watching) print(c change) error {
	if w.json {
		return json.NewEncoder(w.out).Encode(c)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  ", c.At.Local().Format("15:04:05.000"), w.path)
	switch {
	case c.Event == "none":
		fmt.Fprintln(&b, "is not there")
	case c.Event == "deleted":
		fmt.Fprintln(&b, "deleted")
	case w.children:
		fmt.Fprintf(&b, "%d children\n", len(c.Children))
	default:
		fmt.Fprintf(&b, "version %d, %d bytes\n", c.Stat.Version, c.Stat.Bytes)
		w.value(&b, c.nodeValue)
	}
	for _, name := range c.Went {
		fmt.Fprintf(&b, "- %s\n", name)
	}
	for _, name := range c.Came {
		fmt.Fprintf(&b, "+ %s\n", name)
	}
	_, err := w.out.Write([]byte(b.String()))
	return err
}

func (w *watching) value(b *strings.Builder, v *nodeValue) {
	switch {
	case v.Data == nil:
		fmt.Fprintf(b, "(not UTF-8) %q\n", v.Base64)
	case *v.Data != "":
		b.WriteString(strings.TrimSuffix(*v.Data, "\n") + "\n")
	}
}
