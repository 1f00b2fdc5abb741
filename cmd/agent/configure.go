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

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
	"github.com/turnstile-fleet/turnstile/session"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Read, change and watch the settings that a running fleet shares",
		Long: `Read, change and watch the settings that a running fleet shares. They lie in
ZooKeeper; every running agent of the fleet goes by them at once, without a restart, and
each by its own where nothing is set. A value is checked before it is stored.

` + keysHelp() + `
While the fleet is paused an agent takes the turn that it has queued for, and no other.`,
		Example: `  agent config get
  agent config set turn.pace=200ms turn.lines=5
  agent config set paused=true
  agent config set turn.pace=      each agent goes by its own again
  agent config edit
  agent config watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range []*cobra.Command{newConfigGet(), newConfigSet(), newConfigEdit(), newConfigWatch()} {
		sub.Args = usageArgs(sub.Args)
		config.Flags(sub.Flags(), "zookeeper", "fleet", "log")
		cmd.AddCommand(sub)
	}
	return cmd
}

// pausedKey is the one setting that an agent has none of its own of.
const pausedKey = "paused"

// fleetSchema is what the fleet's configuration may say. The rules are those of the
// settings of the same names.
func fleetSchema() live.Schema {
	s := live.Schema{Check: checkFleet}
	for _, name := range []string{"turn.pace", "turn.lines", "turn.max_records", "log.level"} {
		setting, ok := config.Lookup(name)
		if !ok {
			panic("no setting " + name)
		}
		usage := strings.ReplaceAll(setting.Usage, "`", "")
		s.Keys = append(s.Keys, live.Key{Name: name, Rule: setting.Rule(), Usage: usage})
	}
	s.Keys = append(s.Keys, live.Key{Name: pausedKey, Rule: "true or false", Usage: "whether the whole fleet holds still"})
	return s
}

func checkFleet(settings live.Settings) error {
	_, _, err := readFleet(settings)
	return err
}

// readFleet checks the settings; what they leave out has its default.
func readFleet(settings live.Settings) (c config.Config, paused bool, err error) {
	own := map[string]string{}
	for name, text := range settings {
		switch {
		case name != pausedKey:
			own[name] = text
		case text == "true":
			paused = true
		case text != "false":
			err = fmt.Errorf("%s %q: not one of them; choose true or false", pausedKey, text)
		}
	}
	c, wrong := config.Check(own)
	return c, paused, errors.Join(wrong, err)
}

func keysHelp() string {
	var b strings.Builder
	for _, k := range fleetSchema().Keys {
		fmt.Fprintf(&b, "  %-17s %s: %s\n", k.Name, k.Rule, k.Usage)
	}
	return b.String()
}

func configNode(c config.Config) string { return path.Join(string(rootOf(c)), "config") }

// readConfig looks once.
func readConfig(ctx context.Context, c config.Config, log *zap.Logger) (v live.Value, err error) {
	err = withSession(ctx, c, log, func(sess *session.Session) error {
		node, err := live.Read(ctx, sess, configNode(c))
		v = fleetSchema().Value(node)
		return err
	})
	return v, err
}

func newConfigGet() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "get [KEY]",
		Short: "Show what is set",
		Long:  "Show what is set. With a KEY only its value is printed; a key that is not set exits 1.\n\n" + keysHelp(),
		Example: `  agent config get
  agent config get turn.pace
  agent config get --json | jq .settings`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(cmd)
			if err == nil {
				err = knownKeys(args...)
			}
			if err != nil {
				return err
			}
			v, err := readConfig(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()))
			switch {
			case err != nil:
				return err
			case asJSON && len(args) == 0:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(showValue(v))
			case v.Damaged != nil:
				return fmt.Errorf("%w; agents keep what they had before; mend it with `agent config edit`", v.Damaged)
			case len(args) == 0:
				return printSettings(cmd.OutOrStdout(), v)
			}
			return printSetting(cmd.OutOrStdout(), v, args[0], asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// knownKeys is a usage error for keys that there are none of.
func knownKeys(names ...string) error {
	schema, given := fleetSchema(), live.Settings{}
	for _, name := range names {
		if !schema.Has(name) {
			given[name] = ""
		}
	}
	if len(given) == 0 {
		return nil
	}
	return usageError{schema.Refuse(given)}
}

func printSettings(out io.Writer, v live.Value) error {
	head := "nothing was ever set\n"
	if v.Exists {
		head = fmt.Sprintf("version %d of %s\n", v.Version, v.At.Format(time.RFC3339Nano))
	}
	var b strings.Builder
	b.WriteString(head)
	for _, k := range fleetSchema().Keys {
		text, ok := v.Settings[k.Name]
		if !ok {
			text = "(not set: each agent's own)"
		}
		fmt.Fprintf(&b, "  %-17s %s\n", k.Name, text)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printSetting(out io.Writer, v live.Value, name string, asJSON bool) error {
	text, ok := v.Settings[name]
	switch {
	case asJSON && !ok:
		text = "null"
	case asJSON:
		text = string(v.Settings.JSON(name))
	case !ok:
		return fmt.Errorf("%s is not set: each agent goes by its own", name)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// shownValue is a value for programs. Version and at are null when there is none.
type shownValue struct {
	Version  *int32        `json:"version"`
	At       *time.Time    `json:"at"`
	Settings live.Settings `json:"settings"`
	Damaged  string        `json:"damaged,omitempty"`
}

func showValue(v live.Value) shownValue {
	s := shownValue{Settings: v.Settings}
	if v.Exists {
		s.Version, s.At = &v.Version, &v.At
	}
	if v.Damaged != nil {
		s.Damaged = v.Damaged.Error()
	}
	return s
}

func newConfigWatch() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print each new value with its version and time, until Ctrl-C",
		Long: `Print the configuration as it is, and each new value with its version and the time of
the change by ZooKeeper's clock, until Ctrl-C. Of values that follow each other closely
only the last may be printed; the last always is.`,
		Example: "  agent config watch\n  agent config watch --json | jq -c .settings",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(cmd)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			err = watchConfig(ctx, c, newLog(c.Log, cmd.ErrOrStderr()), cmd.OutOrStdout(), asJSON)
			if ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a value")
	return cmd
}

func watchConfig(ctx context.Context, c config.Config, log *zap.Logger, out io.Writer, asJSON bool) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var last *live.Value
	show := func(node live.Snapshot) {
		v := fleetSchema().Value(node)
		if last != nil && !last.Exists && !v.Exists {
			return // a node without a value came or went
		}
		last = &v
		var err error
		if asJSON {
			err = json.NewEncoder(out).Encode(showValue(v))
		} else {
			_, err = fmt.Fprintln(out, describeValue(v))
		}
		if err != nil { // nobody reads any more
			stop(err)
		}
	}
	return followConfig(ctx, c, log, show, func(err error) error {
		if last == nil {
			return err // never connected
		}
		log.Warn("what was printed last may be old: asking for a new ZooKeeper session", zap.Error(err))
		return nil
	})
}

func describeValue(v live.Value) string {
	switch {
	case v.Damaged != nil:
		return fmt.Sprintf("%v (of %s); agents keep what they had before", v.Damaged, v.At.Format(time.RFC3339Nano))
	case !v.Exists:
		return "no configuration: each agent goes by its own"
	case len(v.Settings) == 0:
		return fmt.Sprintf("version %d  %s  nothing set", v.Version, v.At.Format(time.RFC3339Nano))
	}
	return fmt.Sprintf("version %d  %s  %s", v.Version, v.At.Format(time.RFC3339Nano), v.Settings)
}

// followConfig watches the fleet's configuration over a session of its own.
func followConfig(ctx context.Context, c config.Config, log *zap.Logger, apply func(live.Snapshot), trouble func(error) error) error {
	return live.Follower{
		Dial: func(ctx context.Context, notify func(session.State)) (live.Session, error) {
			sess, err := dial(ctx, c, log, notify)
			if err != nil {
				return nil, err
			}
			return sess, nil
		},
		Node: configNode(c), Apply: apply, Trouble: trouble,
	}.Follow(ctx)
}
