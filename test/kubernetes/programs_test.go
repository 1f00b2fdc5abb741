package kubernetes

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// build compiles a program of a module, as its Dockerfile does.
func build(t *testing.T, module, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s in %s: %v\n%s", pkg, module, err, out)
	}
	return program
}

// start runs a program with nothing in its environment but env, and kills it when the test
// ends. Nothing of it is read before read is.
func start(t *testing.T, env map[string]string, program string, args ...string) (cmd *exec.Cmd, read func() io.Reader) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd = exec.CommandContext(ctx, program, args...)
	cmd.Dir = t.TempDir() // no configs/agent.yaml there
	for _, key := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, key+"="+env[key])
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		cancel()
		ours.Close()
		_ = cmd.Wait() // killed, or read to its end before
	})
	return cmd, func() io.Reader { return ours }
}

// run waits for a program's end.
func run(t *testing.T, env map[string]string, program string, args ...string) (code int, out string) {
	t.Helper()
	cmd, output := start(t, env, program, args...)
	text, err := io.ReadAll(output())
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its code says it
	return cmd.ProcessState.ExitCode(), string(text)
}

// containers are those of an image.
func containers(t *testing.T, of string) (m *Manifests, found []corev1.Container) {
	t.Helper()
	m, err := Load(deploy)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range m.Workloads {
		for _, c := range w.Containers() {
			if image(c) == of {
				found = append(found, c)
			}
		}
	}
	if len(found) == 0 {
		t.Fatalf("no container of %s", of)
	}
	return m, found
}

// agentEnv is the container's environment with what the image adds: its agent.yaml.
func agentEnv(t *testing.T, m *Manifests, c corev1.Container) map[string]string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join(root, "configs", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	env := m.Env(c)
	if _, set := env["TURNSTILE_CONFIG"]; !set {
		env["TURNSTILE_CONFIG"] = file
	}
	return env
}

// TestAgentTakesItsSettings: all commands check all settings before they connect, and say by
// their exit code whether it was the settings or ZooKeeper.
func TestAgentTakesItsSettings(t *testing.T) {
	program := build(t, root, "./cmd/agent")
	m, found := containers(t, "turnstile-agent")
	for _, c := range found {
		env := agentEnv(t, m, c)
		if env["TURNSTILE_ZOOKEEPER_SERVERS"] == "" || env["TURNSTILE_DATA_FILE"] == "" {
			t.Errorf("%s: no servers or no file: %q", c.Name, env)
		}
		status := []string{"status", "--connect-timeout", "100ms"}
		code, out := run(t, env, program, status...)
		if code != 1 || !strings.Contains(out, "no ZooKeeper server answers") {
			t.Errorf("%s: the settings are not taken: exit code %d, %s", c.Name, code, out)
		}
		for _, wrong := range []struct{ key, value string }{
			{"TURNSTILE_DATA_FIEL", "/data/data.txt"},
			{"TURNSTILE_TURN_PACE", "fast"},
			{"TURNSTILE_ZOOKEEPER_SERVERS", "zookeeper-0:port"},
			{"TURNSTILE_CONFIG", filepath.Join(deploy, agent)},
		} {
			broken := maps.Clone(env)
			broken[wrong.key] = wrong.value
			if code, out := run(t, broken, program, status...); code != 2 {
				t.Errorf("%s=%s: exit code %d, %s", wrong.key, wrong.value, code, out)
			}
		}
		service := maps.Clone(env)
		service["TURNSTILE_SERVICE_HOST"] = "10.0.0.1" // what a Service would leave, and is none of ours
		if code, out := run(t, service, program, status...); code != 1 {
			t.Errorf("a Service's variable: exit code %d, %s", code, out)
		}
		for _, args := range [][]string{c.Args, c.ReadinessProbe.Exec.Command[1:]} {
			if code, out := run(t, env, program, append(slices.Clone(args), "--help")...); code != 0 {
				t.Errorf("%s: %q: exit code %d, %s", c.Name, args, code, out)
			}
			if code, _ := run(t, env, program, append(slices.Clone(args), "--no-such-flag", "--help")...); code != 2 {
				t.Errorf("%s: %q: --help hides a flag that there is not", c.Name, args)
			}
		}
		if entrypoint := c.ReadinessProbe.Exec.Command[0]; !dockerfileHas(t, filepath.Join(root, "Dockerfile"), `ENTRYPOINT ["`+entrypoint+`"]`) {
			t.Errorf("the probe runs %s, which the image has not", entrypoint)
		}
	}
}

func dockerfileHas(t *testing.T, file, line string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(strings.Split(string(text), "\n"), line)
}

// TestAgentGetsReady runs an agent as the pod does, on the embedded ZooKeeper and on a file
// that is here: the probe fails before, and not when the agent is in the fleet.
func TestAgentGetsReady(t *testing.T) {
	program := build(t, root, "./cmd/agent")
	m, found := containers(t, "turnstile-agent")
	_, output := start(t, nil, program, "dev-server", "--listen", "127.0.0.1:0")
	server := await(t, output(), regexp.MustCompile(`agent run --zookeeper (\S+)`))
	for _, c := range found {
		env := agentEnv(t, m, c)
		here := []string{"--zookeeper", server}
		probe := append(slices.Clone(c.ReadinessProbe.Exec.Command[1:]), here...)
		if code, out := run(t, env, program, probe...); code != 1 || !strings.Contains(out, "no agent of this host") {
			t.Errorf("the probe before there is an agent: exit code %d, %s", code, out)
		}
		args := append(slices.Clone(c.Args), here...)
		_, output := start(t, env, program, append(args, "--data", filepath.Join(t.TempDir(), "data.txt"))...)
		await(t, output(), regexp.MustCompile(`(in the fleet)`))
		if code, out := run(t, env, program, probe...); code != 0 {
			t.Errorf("the probe: exit code %d, %s", code, out)
		}
	}
}

// await reads until a line matches, and returns what is in parentheses.
func await(t *testing.T, output io.Reader, line *regexp.Regexp) string {
	t.Helper()
	var seen bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(output, &seen))
	for lines.Scan() {
		if m := line.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, output) }() // until the process ends, so that it never waits for us
			return m[1]
		}
	}
	t.Fatalf("it ended (%v) before %s: %s", lines.Err(), line, seen.String())
	return ""
}

const ticketService = root + "/examples/tickets"

// TestTicketsTakesItsSettings: serve and init check their settings without connecting. A variable
// that they do not know is no error to them, so each must be a flag of one of them too: LOCK_TYPE is
// --lock-type.
func TestTicketsTakesItsSettings(t *testing.T) {
	program := build(t, ticketService, ticketsPackage(t))
	m, found := containers(t, "turnstile-tickets")
	flags := ""
	for _, c := range found {
		code, out := run(t, nil, program, append(slices.Clone(c.Args), "--help")...)
		if code != 0 {
			t.Errorf("%s: %q: exit code %d, %s", c.Name, c.Args, code, out)
		}
		flags += out
	}
	for _, c := range found {
		env := m.Env(c)
		for name := range env {
			flag := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
			if !regexp.MustCompile(`--` + flag + `\s`).MatchString(flags) {
				t.Errorf("%s: the ticket service knows no %s: neither serve nor init has --%s", c.Name, name, flag)
			}
		}
		check := append(slices.Clone(c.Args), "--check")
		for _, lock := range []string{env["LOCK_TYPE"], "distributed_lock", "ephemeral_node"} {
			env := maps.Clone(env)
			env["LOCK_TYPE"] = lock
			if code, out := run(t, env, program, check...); code != 0 {
				t.Errorf("%s with LOCK_TYPE=%s: exit code %d, %s", c.Name, lock, code, out)
			}
		}
		for _, wrong := range []struct{ key, value string }{
			{"LOCK_TYPE", "padlock"},
			{"DATABASE_URL", "oracle://postgres.example/tickets"},
		} {
			broken := maps.Clone(env)
			broken[wrong.key] = wrong.value
			if code, out := run(t, broken, program, check...); code != 2 {
				t.Errorf("%s with %s=%s: exit code %d, %s", c.Name, wrong.key, wrong.value, code, out)
			}
		}
	}
}

// TestTicketsImage: the kustomization's users and arguments are made for the image.
func TestTicketsImage(t *testing.T) {
	file := filepath.Join(ticketService, "Dockerfile")
	if _, err := os.Stat(file); err != nil {
		t.Skip("examples/tickets has no Dockerfile yet")
	}
	for _, line := range []string{`ENTRYPOINT ["/tickets"]`, "USER 10001:10001"} {
		if !dockerfileHas(t, file, line) {
			t.Errorf("%s has no line %s", file, line)
		}
	}
}

// ticketsPackage finds the program in its module; until it is written there is nothing to try.
func ticketsPackage(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(ticketService, "go.mod")); err != nil {
		t.Skip("examples/tickets is not written yet")
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	cmd.Dir = ticketService
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list in examples/tickets: %v\n%s", err, errs.String())
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(pkg, "/tickets") {
			return pkg
		}
	}
	t.Skip("examples/tickets has no program yet")
	return ""
}

// TestNothingListensWhereTheExampleSays keeps the example an example: its hosts can never be
// somebody's (RFC 2606).
func TestNothingListensWhereTheExampleSays(t *testing.T) {
	m, err := Load(deploy)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Secrets) == 0 {
		t.Fatal("no example of a Secret")
	}
	for name, keys := range m.Secrets {
		for key, value := range keys {
			host := regexp.MustCompile(`([^@/]+):\d+/`).FindStringSubmatch(value)
			if host == nil || net.ParseIP(host[1]) != nil || !strings.HasSuffix(host[1], ".example") {
				t.Errorf("%s: %s names the host of %q, which may be real", name, key, value)
			}
		}
	}
}
