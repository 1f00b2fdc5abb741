package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// given is what a user typed: a command line, an environment, a file.
type given struct {
	args []string
	env  []string
	file string // its text; "" is no file
}

// load loads what is given; a file is named by TURNSTILE_CONFIG. In the errors its
// path reads agent.yaml.
func load(t testing.TB, g given) (Config, error) {
	t.Helper()
	if g.file != "" {
		g.env = append(g.env, configEnv+"="+write(t, "agent.yaml", g.file, 0o644))
	}
	fs := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	Flags(fs, keys()...)
	if err := fs.Parse(g.args); err != nil {
		t.Fatal(err)
	}
	return Load(fs, g.env)
}

func mustLoad(t testing.TB, g given) Config {
	t.Helper()
	c, err := load(t, g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refusals loads what must be refused and returns the sentences, with the
// temporary directory taken out of them.
func refusals(t testing.TB, g given) []string {
	t.Helper()
	c, err := load(t, g)
	if err == nil {
		t.Fatalf("accepted %+v", g)
	}
	if c.Zookeeper.Servers != nil || c.Fleet != "" {
		t.Errorf("a refused configuration came back all the same: %+v", c)
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T is not an *Error: %v", err, err)
	}
	return strings.Split(withoutTemp(t, err.Error()), "\n")
}

func withoutTemp(t testing.TB, text string) string {
	parts := strings.Split(text, os.TempDir())
	for i, p := range parts[1:] {
		if dir := strings.Index(p, "/00"); dir >= 0 { // t.TempDir ends in 001, 002 …
			parts[i+1] = p[dir+5:]
		}
	}
	return strings.Join(parts, "")
}

// write makes a file with exactly the mode, whatever the umask.
func write(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantOne checks that there is one sentence, and that it is want.
func wantOne(t testing.TB, got []string, want string) {
	t.Helper()
	if len(got) != 1 || got[0] != want {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), want)
	}
}
