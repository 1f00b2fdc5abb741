package config

import (
	"strings"
	"testing"
)

const names = "use 1 to 32 of a-z, 0-9 and -, not beginning with -"

func TestABadValueIsRefusedWithTheNextStep(t *testing.T) {
	for _, c := range []struct{ flag, value, want string }{
		{"pace", "500", "a duration without a unit; write it like 500ms or 5s"},
		{"pace", "soon", "not a duration; write it like 500ms or 5s, 0s to 1h"},
		{"pace", "", "not a duration; write it like 500ms or 5s, 0s to 1h"},
		{"pace", "-1s", "too small; choose 0s to 1h"},
		{"pace", "61m", "too large; choose 0s to 1h"},
		{"session-timeout", "999ms", "too small; choose 1s to 5m"},
		{"session-timeout", "5m1s", "too large; choose 1s to 5m"},
		{"connect-timeout", "61s", "too large; choose 100ms to 1m"},
		{"connect-timeout", "0", "too small; choose 100ms to 1m"},
		{"max-records", "0", "too small; choose 1 to 100000"},
		{"max-records", "100001", "too large; choose 1 to 100000"},
		{"max-records", "99999999999999999999", "too large; choose 1 to 100000"},
		{"max-records", "1_000", "not a whole number; choose 1 to 100000"},
		{"max-bytes", "65536", "too small; choose 65537 to 256KiB"},
		{"max-bytes", "64KiB", "too small; choose 65537 to 256KiB"},
		{"max-bytes", "-1MiB", "too small; choose 65537 to 256KiB"},
		{"max-bytes", "262145", "too large: a turn travels through ZooKeeper; choose 65537 to 256KiB"},
		{"max-bytes", "257KiB", "too large: a turn travels through ZooKeeper; choose 65537 to 256KiB"},
		{"max-bytes", "1MiB", "too large: a turn travels through ZooKeeper; choose 65537 to 256KiB"},
		{"max-bytes", "9007199254740993MiB", "too large: a turn travels through ZooKeeper; choose 65537 to 256KiB"},
		{"max-bytes", "1MB", "not a size; write bytes, or KiB: 131072 or 128KiB, 65537 to 256KiB"},
		{"volume", "nfs", "not one of them; choose auto, plain, direct or sync"},
		{"volume", "", "not one of them; choose auto, plain, direct or sync"},
		{"lines", "0", "too small; choose 1 to 100000"},
		{"lines", "10001", "more than turn.max_records, which is 10000; lower turn.lines or raise turn.max_records"},
		{"fleet", "", "not a name; " + names},
		{"fleet", "Blue", "not a name; " + names},
		{"fleet", "a/b", "not a name; " + names},
		{"name", "-agent", "not a name; " + names},
		{"name", strings.Repeat("a", 33), "not a name; " + names},
		{"name", "agent\n", "not a name; " + names},
		{"data", "", "no file; name the shared file, such as data.txt"},
		{"data", "dir/", "a directory; name the file in it, such as dir/data.txt"},
		{"data", "a\x00b", "a path with a control character; take it out"},
		{"log-level", "INFO", "not one of them; choose debug, info, warn or error"},
		{"log-format", "xml", "not one of them; choose auto, text or json"},
		{"tls-server-name", "zk:2181", "not a host's name; write a name or an address, without a port"},
		{"zookeeper", "", "an empty server; write host:port, such as zookeeper1:2181, with one comma between two"},
		{"zookeeper", "a,,b", "an empty server; write host:port, such as zookeeper1:2181, with one comma between two"},
		{"zookeeper", "a:0", `"a:0" has no valid port; choose 1 to 65535`},
		{"zookeeper", "a:65536", `"a:65536" has no valid port; choose 1 to 65535`},
		{"zookeeper", "a:", `"a:" has no valid port; choose 1 to 65535`},
		{"zookeeper", "a:1:2", `"a:1:2" is not a server; write host:port, such as zookeeper1:2181`},
		{"zookeeper", "a b", `"a b" has no valid host; write host:port, such as zookeeper1:2181`},
		{"zookeeper", ":2181", `":2181" has no valid host; write host:port, such as zookeeper1:2181`},
		{"zookeeper", "zk://a:1", `"zk://a:1" is a URL; write host:port, such as zookeeper1:2181`},
		{"zookeeper", "a:1/x,b", `"a:1/x" has a path; write host:port, such as zookeeper1:2181; a path (the fleets' root) stands behind the last one`},
		{"zookeeper", "a:1/", `"/" is not the path of a node that can be ours; choose a path such as /apps/turnstile, of letters, digits, dots, dashes and underscores`},
		{"root", "turnstile", `"turnstile" is not the path of a node that can be ours; choose a path such as /apps/turnstile, of letters, digits, dots, dashes and underscores`},
		{"zookeeper", "::1", `"::1" may or may not end in a port; put the address in brackets: [::1]:2181`},
	} {
		t.Run(c.flag+" "+c.value, func(t *testing.T) {
			got := refusals(t, given{args: []string{"--" + c.flag, c.value}})
			wantOne(t, got, "parse config: --"+c.flag+" "+quoted(c.value)+": "+c.want)
		})
	}
}

func quoted(text string) string {
	return (&problem{}).at("", text).Value
}

func TestTheBoundsThemselvesAreAllowed(t *testing.T) {
	for _, args := range []string{
		"--pace 0 --session-timeout 1s --connect-timeout 100ms --max-records 1 --lines 1 --max-bytes 65537",
		"--pace 1h --session-timeout 5m --connect-timeout 1m --max-records 100000 --lines 100000 --max-bytes 256KiB --volume direct",
		"--pace 0s --max-bytes 65KiB --fleet 0 --name a-" + strings.Repeat("b", 30),
		"--zookeeper a:1,B.example.com.:65535 --tls-server-name ::1",
	} {
		mustLoad(t, given{args: strings.Fields(args)})
	}
}

func TestAnErrorNamesTheSettingAsTheUserWroteIt(t *testing.T) {
	for source, g := range map[string]given{
		"--pace":                  {args: []string{"--pace=500"}, env: []string{"TURNSTILE_TURN_PACE=1s"}},
		"TURNSTILE_TURN_PACE":     {env: []string{"TURNSTILE_TURN_PACE=500"}, file: "turn: {pace: 1s}\n"},
		"agent.yaml:3: turn.pace": {file: "turn:\n  # a comment\n  pace: 500\n"},
	} {
		want := "parse config: " + source + ` "500": a duration without a unit; write it like 500ms or 5s`
		wantOne(t, refusals(t, g), want)
	}
}

func TestAWrongLimitIsNotBlamedOnWhatItLimits(t *testing.T) {
	got := refusals(t, given{args: []string{"--max-records", "many", "--lines", "5000"}})
	wantOne(t, got, `parse config: --max-records "many": not a whole number; choose 1 to 100000`)
}

func TestALongValueIsCut(t *testing.T) {
	got := refusals(t, given{args: []string{"--fleet", strings.Repeat("é", 5000)}})
	if len(got[0]) > 300 || !strings.Contains(got[0], "…: not a name") {
		t.Errorf("got %q", got[0])
	}
}
