package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/session"
)

func newAccess() *cobra.Command {
	var tighten, asJSON bool
	cmd := &cobra.Command{
		Use:   "acl",
		Short: "Say who may change the fleet's nodes in ZooKeeper, and tighten it",
		Long: `Look at the fleet's nodes in ZooKeeper: who may change them? A fleet that was begun without
credentials (zookeeper.digest_file) is open to everybody who reaches the servers, and its turns/
carry records for a while. It stays so when credentials are given later.

--tighten gives every node of the fleet to the credentials that are set, and to nobody else.
Agents that run without them are refused from then on: give them the credentials first, which
does no harm, and then tighten.

Exit 3 when nodes are open to others.`,
		Example: `  agent acl --fleet audit
  agent acl --fleet audit --digest-file audit.secret --tighten`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err == nil && tighten && c.Zookeeper.DigestFile == "" {
				err = usageError{errors.New("--tighten goes with credentials: give zookeeper.digest_file (--digest-file)")}
			}
			if err != nil {
				return err
			}
			a := &access{tighten: tighten}
			err = withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
				a.sess = sess
				return a.walk(cmd.Context(), string(rootOf(c)))
			})
			if err != nil {
				return err
			}
			return a.report(cmd, asJSON)
		},
	}
	cmd.Flags().BoolVar(&tighten, "tighten", false, "give every node to the credentials that are set, and to nobody else")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	return cmd
}

// access looks at a fleet's nodes.
type access struct {
	sess    *session.Session
	tighten bool

	Nodes     int      `json:"nodes"`
	Open      []string `json:"open"` // others may change them
	Tightened int      `json:"tightened"`
}

// walk looks at a node and all beneath it. One that goes meanwhile is none.
func (a *access) walk(ctx context.Context, node string) error {
	err := a.look(ctx, node)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := a.sess.Children(ctx, node)
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	slices.Sort(names)
	for _, name := range names {
		if err == nil {
			err = a.walk(ctx, path.Join(node, name))
		}
	}
	return err
}

func (a *access) look(ctx context.Context, node string) error {
	acl, err := a.sess.ACLOf(ctx, node)
	if err != nil {
		return err
	}
	a.Nodes++
	if !isOpen(acl) {
		return nil
	}
	if !a.tighten {
		a.Open = append(a.Open, node)
		return nil
	}
	a.Tightened++
	return a.sess.SetACL(ctx, node, a.sess.ACL())
}

// isOpen tells whether everybody may read or change a node.
func isOpen(acl []zk.ACL) bool {
	return slices.ContainsFunc(acl, func(who zk.ACL) bool { return who.Scheme == "world" })
}

func (a *access) report(cmd *cobra.Command, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		a.Open = append([]string{}, a.Open...)
		if err := json.NewEncoder(out).Encode(a); err != nil {
			return err
		}
	} else {
		for _, node := range a.Open {
			fmt.Fprintf(out, "open to everybody: %s\n", node)
		}
		fmt.Fprintf(out, "%d nodes, %d open to everybody, %d tightened\n", a.Nodes, len(a.Open), a.Tightened)
	}
	if len(a.Open) > 0 {
		return silentError{exitFaults}
	}
	return nil
}
