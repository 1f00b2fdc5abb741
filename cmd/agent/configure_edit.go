package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstile-fleet/turnstile/internal/recipe/live"
)

func newConfigEdit() *cobra.Command {
	return &cobra.Command{
		Use:   "edit",
		Short: "Change settings of the running fleet in an editor",
		Long: `Change settings of the running fleet in an editor ($VISUAL, $EDITOR or vi). They are
checked before they are stored, in one version. When they are refused, or somebody else
changed the configuration meanwhile, nothing is changed, and the text is kept in a file
that is named.

This also mends a configuration that was damaged by other means.

` + keysHelp(),
		Example: "  agent config edit\n  EDITOR='cp prepared.conf' agent config edit",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return editConfig(cmd) },
	}
}

func editConfig(cmd *cobra.Command) error {
	ctx := cmd.Context()
	c, err := load(cmd)
	if err != nil {
		return err
	}
	log := newLog(c.Log, cmd.ErrOrStderr())
	before, err := readConfig(ctx, c, log)
	if err != nil {
		return err
	}
	file, err := writeDraft(draft(before))
	if err != nil {
		return err
	}
	if err := runEditor(cmd, file); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	next, err := readDraft(file)
	if err == nil && before.Damaged == nil && maps.Equal(next, before.Settings) {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing was changed")
		return os.Remove(file)
	}
	if err == nil {
		s := &configStore{c: c, log: log} // the editor may have been open for longer than any session
		defer s.close()
		var version int32
		if version, err = s.store(ctx, replace(before, next)); err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "version %d\n", version)
			return os.Remove(file)
		}
	}
	if errors.Is(err, live.ErrUnknown) {
		return fmt.Errorf("%w; the text is kept in %s", err, file)
	}
	return fmt.Errorf("%w; nothing was changed, and the text is kept in %s", err, file)
}

// replace is the settings as they are to be, if they are still what was edited.
func replace(before live.Value, next live.Settings) func(live.Value) (live.Settings, error) {
	return func(now live.Value) (live.Settings, error) {
		if !now.Same(before) {
			return nil, fmt.Errorf("%w: it is at version %d", live.ErrConflict, now.Version)
		}
		return next, nil
	}
}

// draft is what the editor shows.
func draft(v live.Value) string {
	var b strings.Builder
	fmt.Fprint(&b, "# The configuration that the running fleet shares: KEY=VALUE, one a line. Where a key\n"+
		"# is left out, each agent goes by its own. The keys:\n#\n")
	for line := range strings.Lines(keysHelp()) {
		fmt.Fprint(&b, "# "+line)
	}
	fmt.Fprintln(&b)
	if v.Damaged != nil {
		fmt.Fprintf(&b, "# %s\n", strings.ReplaceAll(v.Damaged.Error(), "\n", "\n# "))
		fmt.Fprintf(&b, "# It is:\n# %s\n", strings.ReplaceAll(fmt.Sprintf("%q", v.Raw()), "\n", "\n# "))
	}
	for _, k := range fleetSchema().Keys {
		if text, ok := v.Settings[k.Name]; ok {
			fmt.Fprintf(&b, "%s=%s\n", k.Name, text)
		}
	}
	return b.String()
}

func writeDraft(text string) (string, error) {
	f, err := os.CreateTemp("", "turnstile-config-*.conf")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}

// readDraft is the settings in a file.
func readDraft(file string) (live.Settings, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var pairs []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			pairs = append(pairs, line)
		}
	}
	settings, err := parsePairs(pairs)
	maps.DeleteFunc(settings, func(_, text string) bool { return text == "" })
	return settings, err
}

// runEditor gives the terminal to the user's editor until that ends.
func runEditor(cmd *cobra.Command, file string) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	// By the shell, since such a variable may hold arguments. A Ctrl-C is the editor's.
	run := exec.CommandContext(context.WithoutCancel(cmd.Context()), "sh", "-c", editor+` "$1"`, "sh", file)
	run.Stdin, run.Stdout, run.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := run.Run(); err != nil {
		return fmt.Errorf("the editor %q failed, nothing was changed: %w", editor, err)
	}
	return nil
}
