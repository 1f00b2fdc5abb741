package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/config"
	"github.com/turnstile-fleet/turnstile/session"
)

// named is a kind of thing that has a name in the fleet, such as locks, as onlookers see it.
type named[T any] struct {
	what string // for messages: "lock"
	dir  func(c config.Config, name string) string
	look func(ctx context.Context, sess *session.Session, dir, name string) (T, error)
	line func(T) string // for ls
	text func(T) string // for show
}

// list is the command ls.
func (n named[T]) list(short string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: short,
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withCommandSession(cmd, func(sess *session.Session, c config.Config) error {
				names, err := sess.Children(cmd.Context(), path.Dir(n.dir(c, "any")))
				if err != nil && !errors.Is(err, zk.ErrNoNode) {
					return err
				}
				slices.Sort(names)
				all, text := []T{}, ""
				for _, name := range names {
					name = nameOf(name)
					one, err := n.look(cmd.Context(), sess, n.dir(c, name), name)
					if err != nil {
						return err
					}
					all = append(all, one)
					text += n.line(one)
				}
				return write(cmd.OutOrStdout(), asJSON, all, text)
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

// show is the command show NAME.
func (n named[T]) show(short string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: short,
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkName(n.what, args[0]); err != nil {
				return err
			}
			return withCommandSession(cmd, func(sess *session.Session, c config.Config) error {
				one, err := n.look(cmd.Context(), sess, n.dir(c, args[0]), args[0])
				if err != nil {
					return err
				}
				return write(cmd.OutOrStdout(), asJSON, one, n.text(one))
			})
		},
	}
	config.Flags(cmd.Flags(), "zookeeper", "fleet", "log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func write(out io.Writer, asJSON bool, value any, text string) error {
	if asJSON {
		return json.NewEncoder(out).Encode(value)
	}
	_, err := io.WriteString(out, text)
	return err
}

// userName is what people name locks and the like.
var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)

// checkName refuses what cannot be a name; what is what it names.
func checkName(what, name string) error {
	if len(name) > 128 || !userName.MatchString(name) {
		return usageError{fmt.Errorf("%s %.140q: want 1 to 128 letters, digits, dots, dashes, underscores, and slashes between; not beginning with a dot or a dash", what, name)}
	}
	return nil
}

// nodeName is a name as a node's, in which a slash has another meaning; nameOf gives it back.
func nodeName(name string) string { return strings.ReplaceAll(name, "/", "%2F") }

func nameOf(node string) string { return strings.ReplaceAll(node, "%2F", "/") }

// withCommandSession runs do with the settings of cmd and a session of its own.
func withCommandSession(cmd *cobra.Command, do func(*session.Session, config.Config) error) error {
	c, err := load(cmd)
	if err != nil {
		return err
	}
	return withSession(cmd.Context(), c, newLog(c.Log, cmd.ErrOrStderr()), func(sess *session.Session) error {
		return do(sess, c)
	})
}

// usageArgs makes what check refuses the user's to mend.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
		return nil
	}
}

// age says how long ago something was, as exactly as people want it.
func age(d time.Duration) string {
	d = max(d, 0)
	text := ""
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		text = d.Round(time.Second).String()
	case d < 48*time.Hour:
		text = strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	}
	return text
}
