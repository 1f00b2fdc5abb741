package config

import (
	"os"
	"strings"
	"testing"
)

func TestAnUnknownKeyIsNamedWithItsPlaceAndTheNearest(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"zookeeper:\n  sevrers: zk1\n", "agent.yaml:2: zookeeper.sevrers: unknown key; did you mean zookeeper.servers?"},
		{"zookeeper:\n  tls:\n    ca-file: x\n", "agent.yaml:3: zookeeper.tls.ca-file: unknown key; did you mean zookeeper.tls.ca_file?"},
		{"servers: zk1\n", "agent.yaml:1: servers: unknown key; did you mean zookeeper.servers?"},
		{"\nzookeeper:\n  pace: 1s\n", "agent.yaml:3: zookeeper.pace: unknown key; did you mean turn.pace?"},
		{"Turn:\n  pace: 1s\n", "agent.yaml:1: Turn: unknown key; did you mean turn?"},
		{"zookeper: {servers: zk1}\n", "agent.yaml:1: zookeper: unknown key; did you mean zookeeper?"},
		{"tls: {ca_file: x}\n", "agent.yaml:1: tls: unknown key; did you mean zookeeper.tls?"},
		{"turn.maxrecords: 5\n", "agent.yaml:1: turn.maxrecords: unknown key; did you mean turn.max_records?"},
		{"session-timeout: 5s\n", "agent.yaml:1: session-timeout: unknown key; did you mean zookeeper.session_timeout?"},
		{"log: {colour: red}\n", "agent.yaml:1: log.colour: unknown key; the keys in log are level, format"},
		{"banana: 1\n", "agent.yaml:1: banana: unknown key; the keys in the file are zookeeper, fleet, agent, data, turn, log"},
		{"zookeeper: {tls: {tls: {ca_file: x}}}\n", "agent.yaml:1: zookeeper.tls.tls: unknown key; did you mean zookeeper.tls?"},
	} {
		t.Run(strings.ReplaceAll(c.file, "\n", "~"), func(t *testing.T) {
			wantOne(t, refusals(t, given{file: c.file}), "parse config: "+c.want)
		})
	}
}

func TestAnUnknownVariableIsNamedWithTheNearestButNotItsValue(t *testing.T) {
	for _, c := range []struct{ name, hint string }{
		{"TURNSTILE_ZOOKEEPER_SERVER", "did you mean TURNSTILE_ZOOKEEPER_SERVERS?"},
		{"TURNSTILE_PACE", "did you mean TURNSTILE_TURN_PACE?"},
		{"TURNSTILE_NAME", "did you mean TURNSTILE_AGENT_NAME?"},
		{"TURNSTILE_ZOOKEEPER", "did you mean TURNSTILE_ZOOKEEPER_SERVERS?"},
		{"TURNSTILE_log_level", "did you mean TURNSTILE_LOG_LEVEL?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := refusals(t, given{env: []string{c.name + "=user:hunter2"}})
			wantOne(t, got, "parse config: "+c.name+": unknown variable; "+c.hint)
		})
	}
}

func TestOtherVariablesAreNoneOfOurs(t *testing.T) {
	mustLoad(t, given{env: []string{"TURNSTILE_CONFIG=", "TURNSTILE_IMAGE=agent:1", "TURNSTILE_TEST_CRASH=write", "TURNSTILES_X=1", "HOME=/root", "", "=C:=x"}})
}

func TestAFileThatIsNotWhatItShouldBe(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"twice", "turn:\n  pace: 1s\n  lines: 2\n  pace: 2s\n", "agent.yaml:4: turn.pace: stands a second time, first in line 2; keep one of them"},
		{"section twice", "turn: {pace: 1s}\nturn: {lines: 2}\n", "agent.yaml:2: turn: stands a second time, first in line 1; keep one of them"},
		{"no value", "turn:\n  pace:\n", `agent.yaml:2: turn.pace: no value; give it one ("" is an empty one), or take the line out`},
		{"section as setting", "fleet: blue\n", "agent.yaml:1: fleet: a section, not a setting; put settings beneath it: the keys in fleet are name, audit"},
		{"setting as section", "log:\n  level: {a: b}\n", "agent.yaml:2: log.level: more than one value; write log.level as one value: debug, info, warn or error"},
		{"list where none belongs", "agent: {name: [a, b]}\n", "agent.yaml:1: agent.name: more than one value; write agent.name as one value: " +
			"1 to 32 of a-z, 0-9 and -, not beginning with -; the lowest free agent-N if empty"},
		{"list in a list", "zookeeper:\n  servers:\n  - [a]\n", "agent.yaml:3: zookeeper.servers: an item that is no text; write each as host:port"},
		{"a list", "- a\n", `TURNSTILE_CONFIG "agent.yaml": not a list of ` + "`key: value`; compare it with configs/agent.yaml"},
		{"two documents", "log: {level: info}\n---\nlog: {level: warn}\n", `TURNSTILE_CONFIG "agent.yaml": more than one YAML document; compare it with configs/agent.yaml`},
		{"not YAML", "log:\n\tlevel: info\n", `TURNSTILE_CONFIG "agent.yaml": not YAML: line 2: found character that cannot start any token; compare it with configs/agent.yaml`},
		{"huge", strings.Repeat("# data\n", 200_000), `TURNSTILE_CONFIG "agent.yaml": larger than 1 MiB; name a YAML file of settings; configs/agent.yaml is a sample`},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantOne(t, refusals(t, given{file: c.file}), "parse config: "+c.want)
		})
	}
}

func TestAFileMayBeEmptyOrUseAnchors(t *testing.T) {
	for name, file := range map[string]string{
		"comments": "# nothing\n", "marker": "---\n", "null": "~\n", "braces": "{}\n", "empty sections": "zookeeper:\n  tls:\nturn:\n",
	} {
		t.Run(name, func(t *testing.T) { mustLoad(t, given{file: file}) })
	}
	c := mustLoad(t, given{file: "fleet: {name: &n blue}\nagent: {name: *n}\n"})
	if c.Agent.Name != "blue" {
		t.Errorf("agent.name is %q, want the anchor's", c.Agent.Name)
	}
}

// YAML's own reading of a value would make these a bool, an octal and a float.
func TestAValueIsTakenAsItIsWritten(t *testing.T) {
	c := mustLoad(t, given{file: "fleet: {name: no}\nagent: {name: 007}\ndata: {file: 1e3}\n"})
	if c.Fleet != "no" || c.Agent.Name != "007" || c.Data.File != "1e3" {
		t.Errorf("loaded %q, %q, %q", c.Fleet, c.Agent.Name, c.Data.File)
	}
}

func TestAConfigFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, path, want string }{
		{"missing", dir + "/none.yaml", `--config "none.yaml": open: no such file or directory; name a YAML file that can be read; configs/agent.yaml is a sample`},
		{"directory", dir + "/.", `--config ".": read: is a directory; name a YAML file that can be read; configs/agent.yaml is a sample`},
		{"empty", "", `--config "": no file; name a YAML file, or leave --config out`},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantOne(t, refusals(t, given{args: []string{"--config", c.path}}), "parse config: "+c.want)
		})
	}
}

func TestAllThatIsWrongIsReportedAtOnce(t *testing.T) {
	got := refusals(t, given{
		file: "banana: 1\nturn:\n  pace: 500\n",
		env:  []string{"TURNSTILE_FLEETNAME=x", "TURNSTILE_LOG_LEVEL=loud", "TURNSTILE_AGENT_NAMES=1"},
		args: []string{"--fleet", "Blue", "--tls-cert", "x"},
	})
	wants := []string{
		"agent.yaml:1: banana", "TURNSTILE_AGENT_NAMES", "TURNSTILE_FLEETNAME", "--fleet", "agent.yaml:3: turn.pace", "TURNSTILE_LOG_LEVEL", "--tls-cert",
	}
	if len(got) != len(wants) {
		t.Fatalf("%d sentences, want %d:\n%s", len(got), len(wants), strings.Join(got, "\n"))
	}
	for i, want := range wants {
		if !strings.HasPrefix(got[i], "parse config: "+want) {
			t.Errorf("sentence %d is %q, want it to be about %s", i, got[i], want)
		}
	}
}

func TestForeignVariablesAreIgnored(t *testing.T) {
	mustLoad(t, given{env: []string{
		// Kubernetes, for Services named turnstile, turnstile-zookeeper and turnstile-data.
		"TURNSTILE_SERVICE_HOST=10.0.0.1", "TURNSTILE_SERVICE_PORT=6005", "TURNSTILE_SERVICE_PORT_HTTP=6005",
		"TURNSTILE_PORT=tcp://10.0.0.1:6005", "TURNSTILE_PORT_6005_TCP=tcp://10.0.0.1:6005", "TURNSTILE_PORT_6005_TCP_PROTO=tcp",
		"TURNSTILE_PORT_6005_TCP_PORT=6005", "TURNSTILE_PORT_6005_TCP_ADDR=10.0.0.1",
		"TURNSTILE_ZOOKEEPER_SERVICE_HOST=10.0.0.2", "TURNSTILE_ZOOKEEPER_PORT=tcp://10.0.0.2:2181", "TURNSTILE_DATA_SERVICE_PORT=1",
	}})
	c := mustLoad(t, given{env: []string{"TURNSTILE_HOME=/opt/turnstile", "TURNSTILE_PORT=tcp://x:1", "TURNSTILE_=", "TURNSTILE_ZK_SERVERS=zk1"}})
	if got := strings.Join(c.Notices(), "; "); got != "TURNSTILE_HOME, TURNSTILE_ZK_SERVERS: no setting of ours, and left alone" {
		t.Errorf("it says %q", got)
	}
}

// TestAFileThatNobodyNamedIsSaidAloud: whoever starts an agent in another project's directory
// may find a file there.
func TestAFileThatNobodyNamedIsSaidAloud(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(text string) {
		if err := os.MkdirAll("configs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("configs/agent.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(environ ...string) string {
		c, err := Load(nil, environ)
		if err != nil {
			return err.Error()
		}
		return strings.Join(c.Notices(), "; ")
	}
	if got := load(); got != "" {
		t.Errorf("there is no file: %s", got)
	}
	write("fleet: {name: blue}\nlog: {level: info}\n")
	if got := load(); !strings.Contains(got, "configs/agent.yaml, found in the working directory, sets fleet.name (--config") {
		t.Errorf("it says %q", got)
	}
	if got := load("TURNSTILE_FLEET_NAME=red"); got != "" {
		t.Errorf("it has no say: %s", got)
	}
	if got := load("TURNSTILE_CONFIG=configs/agent.yaml"); got != "" {
		t.Errorf("it was named: %s", got)
	}
	if got := load("TURNSTILE_CONFIG=/dev/null"); got != "" {
		t.Errorf("another was named: %s", got)
	}
	write("service: {port: 80}\n")
	if got := load(); !strings.Contains(got, "found in the working directory: --config FILE names another") {
		t.Errorf("it says %q", got)
	}
}
