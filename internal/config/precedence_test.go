package config

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func TestDefaultsAreAValidConfig(t *testing.T) {
	got, err := Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Zookeeper: Zookeeper{
			Servers:        []string{"127.0.0.1:2181"},
			Root:           "/turnstile",
			SessionTimeout: 6 * time.Second,
			ConnectTimeout: 8 * time.Second,
		},
		Fleet: "default",
		Data:  Data{File: "data.txt", Volume: "auto"},
		Turn: Turn{
			MaxRecords: 10_000, MaxBytes: 65537, Pace: 500 * time.Millisecond, Lines: 3,
		},
		Log: Log{Level: "info", Format: "auto"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestAFlagWinsOverTheEnvironmentOverTheFileOverTheDefault(t *testing.T) {
	const file = "fleet: {name: from-file}\n"
	env := []string{"TURNSTILE_FLEET_NAME=from-env"}
	args := []string{"--fleet", "from-flag"}
	for _, c := range []struct {
		name string
		given
		want string
	}{
		{"nothing", given{}, "default"},
		{"file", given{file: file}, "from-file"},
		{"environment over file", given{file: file, env: env}, "from-env"},
		{"flag over both", given{file: file, env: env, args: args}, "from-flag"},
		{"flag over file", given{file: file, args: args}, "from-flag"},
		{"a flag that repeats the default", given{file: file, args: []string{"--fleet=default"}}, "default"},
		{"an empty variable is not set", given{file: file, env: []string{"TURNSTILE_FLEET_NAME="}}, "from-file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := mustLoad(t, c.given).Fleet; got != c.want {
				t.Errorf("fleet is %q, want %q", got, c.want)
			}
		})
	}
}

func TestEverySettingIsReachedFromEveryPlace(t *testing.T) {
	cert, key := certificate(t)
	other := map[string]string{
		"zookeeper.servers": "a:1,b:2", "zookeeper.root": "/apps/ours", "zookeeper.session_timeout": "7s", "zookeeper.connect_timeout": "9s",
		"zookeeper.tls.ca_file": cert, "zookeeper.tls.cert_file": cert, "zookeeper.tls.key_file": key,
		"zookeeper.tls.server_name": "zk", "zookeeper.digest_file": write(t, "digest", "user:password\n", 0o600),
		"fleet.name": "blue", "fleet.audit": "true", "agent.name": "agent-7", "data.file": "/data/x", "data.volume": "sync",
		"turn.max_records": "50", "turn.max_bytes": "128KiB", "turn.pace": "0", "turn.lines": "9",
		"log.level": "warn", "log.format": "json",
	}
	var args, env []string
	file := ""
	for _, s := range settings {
		args = append(args, "--"+s.Flag+"="+other[s.Key])
		env = append(env, s.Env()+"="+other[s.Key])
		file += s.Key + ": " + other[s.Key] + "\n" // a key may also be written in one
	}
	plain := leaves(t, mustLoad(t, given{}))
	fromFlags := leaves(t, mustLoad(t, given{args: args}))
	fromEnv := leaves(t, mustLoad(t, given{env: env}))
	fromFile := leaves(t, mustLoad(t, given{file: file}))
	for _, s := range settings {
		if reflect.DeepEqual(fromFlags[s.Key], plain[s.Key]) {
			t.Errorf("--%s changes nothing", s.Flag)
		}
		if !reflect.DeepEqual(fromEnv[s.Key], fromFlags[s.Key]) || !reflect.DeepEqual(fromFile[s.Key], fromFlags[s.Key]) {
			t.Errorf("%s: flag %v, environment %v, file %v", s.Key, fromFlags[s.Key], fromEnv[s.Key], fromFile[s.Key])
		}
	}
	if len(plain) != len(settings) {
		t.Errorf("Config has %d tagged fields, the table %d settings", len(plain), len(settings))
	}
}

// leaves returns the fields of the struct by their keys.
func leaves(t testing.TB, structure any) map[string]any {
	t.Helper()
	found := map[string]any{}
	v := reflect.ValueOf(structure)
	for i := range v.NumField() {
		switch tag := v.Type().Field(i).Tag.Get("mapstructure"); tag {
		case "": // not a setting
		case ",squash":
			for key, value := range leaves(t, v.Field(i).Interface()) {
				found[key] = value
			}
		default:
			found[tag] = v.Field(i).Interface()
		}
	}
	return found
}

func TestConfigFlagWinsOverItsVariable(t *testing.T) {
	named := write(t, "named.yaml", "fleet: {name: named}\n", 0o644)
	got := mustLoad(t, given{file: "fleet: {name: env}\n", args: []string{"--config", named}})
	if got.Fleet != "named" {
		t.Errorf("fleet is %q, from the wrong file", got.Fleet)
	}
}

func TestServersTakeAListOrCommasAndAddThePort(t *testing.T) {
	want := []string{"zk1:2181", "zk_2:99", "[::1]:2181", "10.0.0.1:2181"}
	for name, g := range map[string]given{
		"flag":           {args: []string{"--zookeeper", "zk1, zk_2:99,[::1],10.0.0.1"}},
		"repeated flag":  {args: []string{"--zookeeper", "zk1,zk_2:99", "--zookeeper", "[::1],10.0.0.1"}},
		"environment":    {env: []string{"TURNSTILE_ZOOKEEPER_SERVERS=zk1,zk_2:99,[::1],10.0.0.1:2181"}},
		"list":           {file: "zookeeper:\n  servers:\n  - zk1\n  - zk_2:99\n  - '[::1]'\n  - 10.0.0.1\n"},
		"line of a file": {file: "zookeeper:\n  servers: zk1,zk_2:99,[::1],10.0.0.1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mustLoad(t, g).Zookeeper.Servers; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestZookeeperSetOnlyWhenTheUserSaidSo(t *testing.T) {
	for name, c := range map[string]struct {
		given
		want bool
	}{
		"nothing":                   {given{}, false},
		"other settings":            {given{args: []string{"--data", "x"}, env: []string{"TURNSTILE_LOG_LEVEL=warn"}, file: "turn: {pace: 1s}\n"}, false},
		"an empty section":          {given{file: "zookeeper:\n"}, false},
		"the default, as a flag":    {given{args: []string{"--zookeeper", "127.0.0.1:2181"}}, true},
		"a variable":                {given{env: []string{"TURNSTILE_ZOOKEEPER_SERVERS=zk"}}, true},
		"an empty variable":         {given{env: []string{"TURNSTILE_ZOOKEEPER_SERVERS="}}, false},
		"the file":                  {given{file: "zookeeper: {servers: zk}\n"}, true},
		"another zookeeper key":     {given{file: "zookeeper: {session_timeout: 3s}\n"}, false},
		"the default, in a file":    {given{file: "zookeeper: {servers: 127.0.0.1:2181}\n"}, false},
		"a fleet, which is its own": {given{args: []string{"--fleet", "blue"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := mustLoad(t, c.given).ZookeeperSet(); got != c.want {
				t.Errorf("ZookeeperSet is %v, want %v", got, c.want)
			}
		})
	}
}

func TestFewRecordsLowerTheDefaultOfLines(t *testing.T) {
	c := mustLoad(t, given{args: []string{"--max-records", "2"}})
	if c.Turn.Lines != 2 {
		t.Errorf("lines is %d, want 2", c.Turn.Lines)
	}
}

func TestFlagsRegistersOnlyWhatIsAskedFor(t *testing.T) {
	fs := pflag.NewFlagSet("status", pflag.ContinueOnError)
	fs.String("name", "", "the command's own, not agent.name")
	Flags(fs, "fleet", "turn.pace")
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if want := []string{"config", "fleet", "name", "pace"}; !slices.Equal(names, want) {
		t.Fatalf("flags %q, want %q", names, want)
	}
	if err := fs.Parse([]string{"--name", "NOT OURS", "--pace", "2s"}); err != nil {
		t.Fatal(err)
	}
	c, err := Load(fs, []string{"TURNSTILE_DATA_FILE=elsewhere"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Agent.Name != "" || c.Turn.Pace != 2*time.Second || c.Data.File != "elsewhere" {
		t.Errorf("loaded %+v", c)
	}
}

func TestASwitchNeedsNoValueAndItsWholeKey(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{{nil, false}, {[]string{"--audit"}, true}, {[]string{"--audit=false"}, false}, {[]string{"--audit=true"}, true}} {
		if got := mustLoad(t, given{args: c.args}).Audit; got != c.want {
			t.Errorf("%q: %v", c.args, got)
		}
	}
	if !mustLoad(t, given{env: []string{"TURNSTILE_FLEET_AUDIT=true"}}).Audit {
		t.Error("the variable changes nothing")
	}
	wantOne(t, refusals(t, given{env: []string{"TURNSTILE_FLEET_AUDIT=yes"}}),
		`parse config: TURNSTILE_FLEET_AUDIT "yes": not one of them; choose true or false`)
	wantOne(t, refusals(t, given{args: []string{"--audit=1"}}), `parse config: --audit "1": not one of them; choose true or false`)
	fs := pflag.NewFlagSet("status", pflag.ContinueOnError)
	Flags(fs, "fleet")
	if fs.Lookup("audit") != nil {
		t.Error("whoever asks for the section has the switch too")
	}
}

func TestFlagsPanicsOnAKeyThatIsNone(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Flags(pflag.NewFlagSet("", pflag.ContinueOnError), "zookeper")
}

func TestAnUnusedFlagShowsItsDefaultAndItsVariable(t *testing.T) {
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Flags(fs, "turn.pace")
	want := "      --pace duration   how long the ticker rests between its turns (TURNSTILE_TURN_PACE) (default 500ms)\n"
	fs.Lookup("config").Hidden = true
	if got := fs.FlagUsages(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestTheRootMayStandBehindTheServers(t *testing.T) {
	c := mustLoad(t, given{args: []string{"--zookeeper", "a:1,b/apps/ours"}})
	if c.Zookeeper.Root != "/apps/ours" || !slices.Equal(c.Zookeeper.Servers, []string{"a:1", "b:2181"}) {
		t.Errorf("root %q, servers %q", c.Zookeeper.Root, c.Zookeeper.Servers)
	}
	mustLoad(t, given{args: []string{"--zookeeper", "a/apps/ours", "--root", "/apps/ours"}})
	mustLoad(t, given{file: "zookeeper: {root: /turnstile}\n", args: []string{"--zookeeper", "a/apps/ours"}}) // as the sample has it
	for _, root := range []string{"/apps/theirs", "/turnstile"} {
		got := refusals(t, given{args: []string{"--zookeeper", "a/apps/ours", "--root", root}})
		wantOne(t, got, `parse config: --root "`+root+`": another root than zookeeper.servers ends with, which is /apps/ours; leave out one of them`)
	}
}
