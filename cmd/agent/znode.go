package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/session"
)

func newZnode() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "znode",
		Short: "Look inside ZooKeeper, and change what is there",
		Long: `Look at ZooKeeper's nodes and change them. A PATH that begins with / is absolute; any
other is beneath the fleet's root, /turnstile/FLEET, which is also what is meant when
none is given. Paths are completed by Tab once the shell knows how: see agent
completion --help.

Nothing is deleted with what is beneath it, and none of the nodes that the fleet stands
on is changed, without a question or --yes.`,
		Example: `  agent znode ls                          the fleet's root
  agent znode tree                        and all beneath it
  agent znode get head --json
  agent znode watch head
  agent znode create /demo hello && agent znode stat /demo
  source <(agent completion bash)         Tab completes paths`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newZnodeList(), newZnodeTree(), newZnodeGet(), newZnodeStat(),
		newZnodeCreate(), newZnodeSet(), newZnodeDelete(), newZnodeWatch())
	return cmd
}

// znodeCommand completes a command that does something to one node in a session of its
// own. It takes at most values arguments after the path, which may be left out if there
// are none and rootToo.
func znodeCommand(cmd *cobra.Command, rootToo bool, values int, do func(z *znode, args []string) error) *cobra.Command {
	least := 1
	if rootToo {
		least = 0
	}
	cmd.Args = usageArgs(cobra.RangeArgs(least, 1+values))
	cmd.ValidArgsFunction = completeZnode
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := load(cmd)
		if err != nil {
			return err
		}
		z := &znode{cmd: cmd, ctx: cmd.Context(), c: c, out: cmd.OutOrStdout()}
		if len(args) == 0 {
			args = []string{""}
		}
		if z.path, err = znodePath(c, args[0]); err != nil {
			return err
		}
		return withSession(z.ctx, c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
			z.sess = sess
			return z.explain(z.path, do(z, args[1:]))
		})
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	return cmd
}

// znode is a node that a command is about.
type znode struct {
	cmd  *cobra.Command
	ctx  context.Context
	c    config.Config
	sess *session.Session
	path string
	out  io.Writer
}

// znodePath makes what was typed a path.
func znodePath(c config.Config, typed string) (string, error) {
	if strings.ContainsRune(typed, 0) || !utf8.ValidString(typed) {
		return "", usageError{fmt.Errorf("path %q: want valid UTF-8 without NUL", typed)}
	}
	if strings.HasPrefix(typed, "/") {
		return path.Clean(typed), nil
	}
	return path.Join(string(rootOf(c)), typed), nil
}

// nodeError is an error that names its node.
type nodeError struct{ error }

func (e nodeError) Unwrap() error { return e.error }

// explain makes ZooKeeper's word one that names the node and the next step.
func (z *znode) explain(node string, err error) error {
	if err == nil || errors.As(err, new(silentError)) || errors.As(err, new(usageError)) || errors.As(err, new(nodeError)) {
		return err
	}
	var why string
	switch parent := path.Dir(node); {
	case errors.Is(err, zk.ErrNoNode):
		why = fmt.Sprintf("there is no such node; `agent znode ls %s` lists what there is", parent)
	case errors.Is(err, zk.ErrNodeExists):
		why = "there is such a node already; `agent znode set` changes it"
	case errors.Is(err, zk.ErrNotEmpty):
		why = "there are nodes beneath it; `agent znode delete -r` deletes them too"
	case errors.Is(err, zk.ErrNoAuth):
		why = "not permitted; the setting is zookeeper.digest_file (TURNSTILE_ZOOKEEPER_DIGEST_FILE)"
	case errors.Is(err, zk.ErrNoChildrenForEphemerals):
		why = parent + " is ephemeral, and such nodes have no children; choose another parent"
	case errors.Is(err, zk.ErrInvalidPath), errors.Is(err, zk.ErrBadArguments):
		return usageError{fmt.Errorf("%s: ZooKeeper does not take this for a path; see `agent znode --help`", node)}
	case errors.Is(err, session.ErrBroken):
		why = fmt.Sprintf("%v, and whether it was done is not known; `agent znode stat %s` shows it", err, node)
	default:
		return nodeError{fmt.Errorf("%s: %w", node, err)}
	}
	return nodeError{fmt.Errorf("%s: %s", node, why)}
}

// nodeStat is a node's Stat, for scripts.
type nodeStat struct {
	Path     string    `json:"path"`
	Kind     string    `json:"kind"` // persistent, ephemeral, container, ttl
	Version  int32     `json:"version"`
	Bytes    int32     `json:"bytes"`
	Children int32     `json:"children"`
	Ctime    time.Time `json:"ctime"`
	Mtime    time.Time `json:"mtime"`
	Czxid    string    `json:"czxid"`
	Mzxid    string    `json:"mzxid"`
	Pzxid    string    `json:"pzxid"`
	Cversion int32     `json:"cversion"`
	Aversion int32     `json:"aversion"`
	Owner    string    `json:"owner,omitempty"` // an ephemeral node's session
}

func statOf(node string, s *zk.Stat) nodeStat {
	hex := func(n int64) string { return fmt.Sprintf("0x%x", uint64(n)) }
	stat := nodeStat{
		Path: node, Kind: "persistent", Version: s.Version, Bytes: s.DataLength, Children: s.NumChildren,
		Ctime: time.UnixMilli(s.Ctime).UTC(), Mtime: time.UnixMilli(s.Mtime).UTC(),
		Czxid: hex(s.Czxid), Mzxid: hex(s.Mzxid), Pzxid: hex(s.Pzxid), Cversion: s.Cversion, Aversion: s.Aversion,
	}
	// The owner's highest byte tells of nodes that have none (ZooKeeper's EphemeralType).
	switch owner := uint64(s.EphemeralOwner); {
	case owner == 0:
	case owner == 1<<63:
		stat.Kind = "container"
	case owner>>56 == 0xff:
		stat.Kind = "ttl"
	default:
		stat.Kind, stat.Owner = "ephemeral", hex(s.EphemeralOwner)
	}
	return stat
}

const znodeTime = "2006-01-02 15:04:05.000"

func newZnodeStat() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stat [PATH]",
		Short: "Show all that is known of a node but its value",
		Example: `  agent znode stat head
  agent znode stat --json /zookeeper | jq -r .children`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return znodeCommand(cmd, true, 0, func(z *znode, _ []string) error {
		node, err := z.sess.Get(z.ctx, z.path)
		if err != nil {
			return err
		}
		s := statOf(z.path, node.Stat)
		if asJSON {
			return json.NewEncoder(z.out).Encode(s)
		}
		owner := "none: the node is " + s.Kind
		if s.Owner != "" {
			owner = fmt.Sprintf("session %s: the node is ephemeral and goes with it", s.Owner)
		}
		_, err = fmt.Fprintf(z.out, `path         %s
version      %d
bytes        %d
children     %d
made         %s  czxid %s
changed      %s  mzxid %s
children's   zxid %s, version %d
permissions' version %d
owner        %s
`, s.Path, s.Version, s.Bytes, s.Children, s.Ctime.Local().Format(znodeTime), s.Czxid,
			s.Mtime.Local().Format(znodeTime), s.Mzxid, s.Pzxid, s.Cversion, s.Aversion, owner)
		return err
	})
}

func newZnodeGet() *cobra.Command {
	var asJSON, raw bool
	cmd := &cobra.Command{
		Use:   "get [PATH]",
		Short: "Print a node's value",
		Long: `Print a node's value, with a newline after it if it has none of its own. --raw prints its
bytes and nothing else. --json prints the Stat too, and the value as data, or as base64 if
it is not valid UTF-8.`,
		Example: `  agent znode get head
  agent znode get --raw /some/node >value`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	cmd.Flags().BoolVar(&raw, "raw", false, "print the bytes as they are")
	cmd.MarkFlagsMutuallyExclusive("json", "raw")
	return znodeCommand(cmd, true, 0, func(z *znode, _ []string) error {
		node, err := z.sess.Get(z.ctx, z.path)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(z.out).Encode(valueOf(statOf(z.path, node.Stat), node.Data))
		}
		data := node.Data
		if n := len(data); !raw && n > 0 && data[n-1] != '\n' {
			data = append(data, '\n')
		}
		_, err = z.out.Write(data)
		return err
	})
}

// nodeValue is a node's value, for scripts.
type nodeValue struct {
	Data   *string  `json:"data,omitempty"` // when it is valid UTF-8
	Base64 []byte   `json:"base64,omitempty"`
	Stat   nodeStat `json:"stat"`
}

func valueOf(s nodeStat, data []byte) nodeValue {
	if utf8.Valid(data) {
		text := string(data)
		return nodeValue{Data: &text, Stat: s}
	}
	return nodeValue{Base64: data, Stat: s}
}
