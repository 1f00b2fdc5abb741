package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/queue"
	"github.com/turnstile-fleet/turnstile/session"
)

// mostBytes is what a value may have: a packet's 1 MiB less some for the rest of it.
const mostBytes = 1<<20 - 4096

// value is what was typed, or what standard input has when that is -.
func (z *znode) value(args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	data := []byte(args[0])
	if args[0] == "-" {
		var err error
		if data, err = io.ReadAll(io.LimitReader(z.cmd.InOrStdin(), mostBytes+1)); err != nil {
			return nil, fmt.Errorf("read the value: %w", err)
		}
	}
	if len(data) > mostBytes {
		return nil, usageError{fmt.Errorf("the value has more than %d bytes, which ZooKeeper does not take; keep it in a file, and its name here", mostBytes)}
	}
	return data, nil
}

func newZnodeSet() *cobra.Command {
	var version int32
	var yes bool
	cmd := &cobra.Command{
		Use:   "set PATH VALUE",
		Short: "Change a node's value",
		Long: `Change a node's value; - takes it from standard input, byte by byte. With --version it is
changed only if nobody else has changed it since: agent znode stat shows the version.`,
		Example: `  agent znode set /demo "hello, all"
  agent znode set /demo - <file
  agent znode set /demo --version 3 "the fourth"`,
	}
	cmd.Flags().Int32Var(&version, "version", -1, "the version `N` that it must have; -1 for any")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before a node that the fleet stands on is changed")
	znodeCommand(cmd, false, 1, func(z *znode, args []string) error {
		data, err := z.value(args)
		if err != nil {
			return err
		}
		if why := z.precious(); why != "" && !yes {
			if args[0] == "-" {
				return usageError{fmt.Errorf("%s %s: give --yes to change it all the same", z.path, why)}
			}
			if err := z.ask(fmt.Sprintf("%s %s. Change it?", z.path, why)); err != nil {
				return err
			}
		}
		stat, err := z.sess.Set(z.ctx, z.path, data, version)
		if errors.Is(err, zk.ErrBadVersion) {
			return z.changed(version)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(z.out, "version %d\n", stat.Version)
		return err
	})
	cmd.Args = usageArgs(cobra.ExactArgs(2))
	return cmd
}

// changed says that the version asked for is not the node's.
func (z *znode) changed(version int32) error {
	node, err := z.sess.Get(z.ctx, z.path)
	if err != nil {
		return err
	}
	return fmt.Errorf("it has version %d and not %d: somebody changed it; look at it again (`agent znode get %s --json`)", node.Stat.Version, version, z.path)
}

// precious tells what the fleet has the node for, "" when it does not stand on it.
func (z *znode) precious() string {
	root := rootOf(z.c)
	switch node := z.path; {
	case node == "/zookeeper" || strings.HasPrefix(node, "/zookeeper/"):
		return "is ZooKeeper's own"
	case node == string(root), node == "/", strings.HasPrefix(string(root), node+"/"):
		return "holds all that fleet " + z.c.Fleet + " has: without it its file must be adopted anew (agent adopt)"
	case node == root.Head():
		return "says how far the fleet's file is committed: agents refuse the file if it is wrong, until agent adopt"
	case node == root.Turns(), strings.HasPrefix(node, root.Turns()+"/"):
		return "holds turns that are committed and not known to be in the file: without it they may be lost"
	case path.Dir(node) == string(root) && strings.HasPrefix(path.Base(node), "queue-"):
		return "is the lock's queue, whose counter orders the turns: it must not go while agents run"
	}
	return ""
}

// ask asks on a terminal; elsewhere nobody could answer.
func (z *znode) ask(question string) error {
	if in, ok := z.cmd.InOrStdin().(*os.File); !ok || !isTerminal(in) {
		return usageError{fmt.Errorf("%s Give --yes when there is no terminal to ask on", question)}
	}
	fmt.Fprintf(z.cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, _ := bufio.NewReader(z.cmd.InOrStdin()).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

type createOptions struct{ ephemeral, sequential, parents bool }

func newZnodeCreate() *cobra.Command {
	var opts createOptions
	cmd := &cobra.Command{
		Use:   "create PATH [VALUE]",
		Short: "Make a node, and print its path",
		Long: `Make a node with a value, or with none, and print its path; - takes the value from
standard input. An ephemeral node lives as long as the session that made it: the command
then stays until Ctrl-C, and ends with 5 when the node is lost before.`,
		Example: `  agent znode create /demo hello
  agent znode create --sequential /demo/seat-     /demo/seat-0000000000
  agent znode create --ephemeral --parents /demo/here/me`,
	}
	cmd.Flags().BoolVarP(&opts.ephemeral, "ephemeral", "e", false, "it goes when this command ends")
	cmd.Flags().BoolVarP(&opts.sequential, "sequential", "s", false, "ZooKeeper lengthens its name by its parent's counter")
	cmd.Flags().BoolVarP(&opts.parents, "parents", "p", false, "make the nodes above it that are missing")
	return znodeCommand(cmd, false, 1, func(z *znode, args []string) error {
		data, err := z.value(args)
		if err != nil {
			return err
		}
		return z.create(data, opts)
	})
}

func (z *znode) create(data []byte, opts createOptions) error {
	if opts.parents {
		if err := queue.EnsurePath(z.ctx, z.sess, path.Dir(z.path)); err != nil {
			return z.explain(path.Dir(z.path), err)
		}
	}
	var flags int32
	if opts.ephemeral {
		flags |= zk.FlagEphemeral
	}
	// What is typed before the counter may end in a slash.
	node := z.path
	if typed := z.cmd.Flags().Arg(0); opts.sequential {
		flags |= zk.FlagSequence
		if strings.HasSuffix(typed, "/") && node != "/" {
			node += "/"
		}
	}
	made, err := z.sess.Create(z.ctx, node, data, flags)
	if errors.Is(err, zk.ErrNoNode) {
		return fmt.Errorf("there is no node %s to put it beneath; --parents makes it", path.Dir(z.path))
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(z.out, made); err != nil || !opts.ephemeral {
		return err
	}
	fmt.Fprintln(z.cmd.ErrOrStderr(), "it stays until Ctrl-C")
	return z.stay(made)
}

// stay waits until we are told to stop, or the node is lost.
func (z *znode) stay(node string) error {
	for {
		there, err := z.sess.Watch(z.ctx, node)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			return said(z.cmd, exitLost, fmt.Errorf("%s: somebody deleted it", node))
		case err != nil:
			return z.endOfStay(node, err)
		}
		select {
		case <-there.Watch:
		case <-z.sess.Done():
			return z.endOfStay(node, z.sess.Err())
		case <-z.ctx.Done():
			return nil
		}
	}
}

func (z *znode) endOfStay(node string, err error) error {
	switch {
	case z.ctx.Err() != nil:
		return nil
	case errors.Is(err, session.ErrExpired):
		return said(z.cmd, exitLost, fmt.Errorf("%s: it goes with its session: %w", node, err))
	}
	return err
}

func newZnodeDelete() *cobra.Command {
	var version int32
	var below, yes bool
	cmd := &cobra.Command{
		Use:   "delete PATH",
		Short: "Delete a node",
		Long: `Delete a node; with -r all beneath it too. That, and what the fleet stands on, is asked for
first, with how many nodes there are; --yes answers the question before it is asked.`,
		Example: `  agent znode delete /demo
  agent znode delete /demo --version 3
  agent znode delete -r /demo`,
	}
	cmd.Flags().Int32Var(&version, "version", -1, "the version `N` that it must have; -1 for any")
	cmd.Flags().BoolVarP(&below, "recursive", "r", false, "delete all beneath it too")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return znodeCommand(cmd, false, 0, func(z *znode, _ []string) error {
		switch {
		case z.path == "/":
			return usageError{errors.New("/: ZooKeeper does not delete its root; name what is beneath it")}
		case below && version != -1:
			return usageError{errors.New("--version is one node's: leave it or -r out")}
		case below:
			return z.deleteAll(yes)
		}
		if why := z.precious(); why != "" && !yes {
			if err := z.ask(fmt.Sprintf("%s %s. Delete it?", z.path, why)); err != nil {
				return err
			}
		}
		_, err := z.sess.Multi(z.ctx, &zk.DeleteRequest{Path: z.path, Version: version})
		if errors.Is(err, zk.ErrBadVersion) {
			return z.changed(version)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(z.out, "deleted %s\n", z.path)
		return err
	})
}

// deleteAll deletes a node and all beneath it, children first.
func (z *znode) deleteAll(yes bool) error {
	top, err := z.tree(z.path, -1)
	if err != nil {
		return err
	}
	nodes, ephemeral := top.count()
	if !yes {
		question := fmt.Sprintf("Delete %s and the %d nodes beneath it", z.path, nodes-1)
		if ephemeral > 0 {
			question += fmt.Sprintf(", %d of them ephemeral, whose owners lose them", ephemeral)
		}
		question += "?"
		if why := z.precious(); why != "" {
			question = fmt.Sprintf("%s %s. %s", z.path, why, question)
		}
		if err := z.ask(question); err != nil {
			return err
		}
	}
	deleted, err := z.deleteBranch(z.ctx, top)
	if err != nil && deleted > 0 {
		err = fmt.Errorf("%w; deleted before that: %d nodes", err, deleted)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(z.out, "deleted %d nodes\n", deleted)
	return err
}

func (z *znode) deleteBranch(ctx context.Context, b *branch) (deleted int, err error) {
	for _, child := range b.Nodes {
		n, err := z.deleteBranch(ctx, child)
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	err = queue.Remove(ctx, z.sess, b.Path)
	if errors.Is(err, zk.ErrNotEmpty) {
		return deleted, nodeError{fmt.Errorf("%s: nodes were made beneath it meanwhile: stop who makes them, or delete again", b.Path)}
	}
	if err != nil {
		return deleted, z.explain(b.Path, err)
	}
	return deleted + 1, nil
}
