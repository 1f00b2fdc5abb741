package main

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/session"
)

// completionTime is how long Tab may take; whoever types does not want to wait.
const completionTime = time.Second

// completeZnode completes the path of a node: the children of what was typed up to its last
// slash. It says nothing when there is no ZooKeeper.
func completeZnode(cmd *cobra.Command, args []string, typed string) (found []string, how cobra.ShellCompDirective) {
	how = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, how // a value is nobody's to guess
	}
	c, err := load(cmd)
	if err != nil {
		return nil, how
	}
	parent, err := znodePath(c, typed[:strings.LastIndexByte(typed, '/')+1])
	if err != nil {
		return nil, how
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	c.Zookeeper.ConnectTimeout = completionTime
	_ = withSession(ctx, c, zap.NewNop(), func(sess *session.Session) error {
		names, err := sess.Children(ctx, parent)
		if err != nil {
			return err
		}
		slices.Sort(names)
		before := typed[:strings.LastIndexByte(typed, '/')+1]
		for _, name := range names {
			if strings.HasPrefix(before+name, typed) {
				found = append(found, before+name)
			}
		}
		if len(found) != 1 {
			return nil
		}
		// The one that it must be is complete, unless there is something beneath it.
		node, err := sess.Get(ctx, path.Join(parent, found[0][len(before):]))
		if err == nil && node.Stat.NumChildren > 0 {
			found[0] += "/"
			how |= cobra.ShellCompDirectiveNoSpace
		}
		return err
	})
	return found, how
}
