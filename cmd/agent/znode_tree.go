package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"text/tabwriter"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"
)

func newZnodeList() *cobra.Command {
	var long, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [PATH]",
		Short: "List a node's children",
		Example: `  agent znode ls
  agent znode ls -l queue-1
  agent znode ls / --json`,
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "with each one's kind, version, size, children and time of change")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array: of names, or with -l of objects")
	return znodeCommand(cmd, true, 0, func(z *znode, _ []string) error {
		names, err := z.sess.Children(z.ctx, z.path)
		if err != nil {
			return err
		}
		slices.Sort(names)
		switch {
		case long:
			return z.listLong(names, asJSON)
		case asJSON:
			return json.NewEncoder(z.out).Encode(append([]string{}, names...))
		}
		for _, name := range names {
			if _, err := fmt.Fprintln(z.out, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (z *znode) listLong(names []string, asJSON bool) error {
	stats := []nodeStat{}
	for _, name := range names {
		child := path.Join(z.path, name)
		node, err := z.sess.Get(z.ctx, child)
		if errors.Is(err, zk.ErrNoNode) {
			continue // it went meanwhile
		}
		if err != nil {
			return z.explain(child, err)
		}
		stats = append(stats, statOf(child, node.Stat))
	}
	if asJSON {
		return json.NewEncoder(z.out).Encode(stats)
	}
	w := tabwriter.NewWriter(z.out, 0, 0, 2, ' ', 0)
	for _, s := range stats {
		fmt.Fprintf(w, "%s\tversion %d\t%d bytes\t%d children\t%s\t%s\n",
			s.Kind, s.Version, s.Bytes, s.Children, s.Mtime.Local().Format(znodeTime), path.Base(s.Path))
	}
	return w.Flush()
}

func newZnodeTree() *cobra.Command {
	var asJSON bool
	var depth int
	cmd := &cobra.Command{
		Use:   "tree [PATH]",
		Short: "Show a node and all beneath it",
		Long: `Show a node and all beneath it, with the size of its value and, of ephemeral nodes, the
session that owns them. What is deeper than --depth is counted by its parents' children.`,
		Example: `  agent znode tree
  agent znode tree / --depth 2`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object with the nodes beneath as its nodes")
	cmd.Flags().IntVar(&depth, "depth", 0, "go no more than `N` levels down; 0 means to the end")
	return znodeCommand(cmd, true, 0, func(z *znode, _ []string) error {
		if depth < 0 {
			return usageError{fmt.Errorf("--depth %d: give how many levels, or 0 for all", depth)}
		}
		if depth == 0 {
			depth = -1
		}
		top, err := z.tree(z.path, depth)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(z.out).Encode(top)
		}
		return z.draw(top)
	})
}

// branch is a node and what was seen beneath it.
type branch struct {
	nodeStat
	Nodes []*branch `json:"nodes"`
}

// tree reads a node and what is beneath it, depth levels down, to the end when depth is
// below zero. What goes meanwhile is left out, unless it is the node itself.
func (z *znode) tree(node string, depth int) (*branch, error) {
	n, err := z.sess.Get(z.ctx, node)
	if err != nil {
		return nil, err
	}
	b := &branch{nodeStat: statOf(node, n.Stat), Nodes: []*branch{}}
	if n.Stat.NumChildren == 0 || depth == 0 {
		return b, nil
	}
	names, err := z.sess.Children(z.ctx, node)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		below := path.Join(node, name)
		child, err := z.tree(below, depth-1)
		switch {
		case errors.Is(err, zk.ErrNoNode):
			continue
		case err != nil:
			return nil, z.explain(below, err)
		}
		b.Nodes = append(b.Nodes, child)
	}
	return b, nil
}

// draw prints a tree and how many nodes were seen.
func (z *znode) draw(top *branch) error {
	if _, err := fmt.Fprintf(z.out, "%s%s\n", top.Path, top.note()); err != nil {
		return err
	}
	if err := z.drawBelow(top, ""); err != nil {
		return err
	}
	nodes, ephemeral := top.count()
	_, err := fmt.Fprintf(z.out, "%d nodes, %d of them ephemeral\n", nodes, ephemeral)
	return err
}

func (z *znode) drawBelow(b *branch, indent string) error {
	for i, child := range b.Nodes {
		twig, next := "├── ", "│   "
		if i == len(b.Nodes)-1 {
			twig, next = "└── ", "    "
		}
		if _, err := fmt.Fprintf(z.out, "%s%s%s%s\n", indent, twig, path.Base(child.Path), child.note()); err != nil {
			return err
		}
		if err := z.drawBelow(child, indent+next); err != nil {
			return err
		}
	}
	return nil
}

// note is what a tree says of a node beside its name.
func (b *branch) note() (text string) {
	if b.Bytes > 0 {
		text += fmt.Sprintf("  %d bytes", b.Bytes)
	}
	switch {
	case b.Kind == "ephemeral":
		text += "  ephemeral, of session " + b.Owner
	case b.Kind != "persistent":
		text += "  " + b.Kind
	}
	if more := int(b.Children) - len(b.Nodes); more > 0 {
		text += fmt.Sprintf("  and %d beneath", more)
	}
	return text
}

// count tells how many nodes there are, and how many of them are ephemeral.
func (b *branch) count() (nodes, ephemeral int) {
	nodes = 1
	if b.Kind == "ephemeral" {
		ephemeral = 1
	}
	for _, child := range b.Nodes {
		n, e := child.count()
		nodes, ephemeral = nodes+n, ephemeral+e
	}
	return nodes, ephemeral
}
