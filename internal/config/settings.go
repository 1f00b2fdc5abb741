package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Setting is one row of the table: flags, environment names, defaults, checks
// and the sample file all follow from it.
type Setting struct {
	Key     string // where it stands in the file: zookeeper.servers
	Flag    string // without its dashes
	Default string // as a user would type it
	Usage   string // what it is; words in `backquotes` name the flag's value

	kind kind
}

// Env is the setting's environment variable.
func (s Setting) Env() string { return envName(s.Key) }

// Rule says what is allowed: "1s to 5m", "debug, info, warn or error".
func (s Setting) Rule() string { return s.kind.rule }

// Settings returns every setting, in the order of the sample file.
func Settings() []Setting { return slices.Clone(settings) }

// The largest record and its newline must fit into a turn: the least is
// frame.MaxRecord+1, which this package may not import. The most is far below what
// ZooKeeper takes in one packet, for a turn travels through it.
const (
	minTurnBytes = 64<<10 + 1
	maxTurnBytes = 256 << 10
)

var settings = []Setting{
	{"zookeeper.servers", "zookeeper", "127.0.0.1:2181",
		"the ZooKeeper `servers`, separated by commas", serverList()},
	{"zookeeper.root", "root", "/turnstile",
		"the `node` in ZooKeeper beneath which all fleets are", znodePath()},
	{"zookeeper.session_timeout", "session-timeout", "6s",
		"how long ZooKeeper waits for a silent agent before the next has its turn", duration(time.Second, 5*time.Minute)},
	{"zookeeper.connect_timeout", "connect-timeout", "8s",
		"how long to look for a ZooKeeper server at the start", duration(100*time.Millisecond, time.Minute)},
	{"zookeeper.tls.ca_file", "tls-ca", "",
		"PEM `file` with the authorities that sign the servers' certificates", path("the system's own if empty")},
	{"zookeeper.tls.cert_file", "tls-cert", "",
		"PEM `file` with this agent's certificate", path("goes with key_file")},
	{"zookeeper.tls.key_file", "tls-key", "",
		"PEM `file` with this agent's key", path("goes with cert_file")},
	{"zookeeper.tls.server_name", "tls-server-name", "",
		"the `host` that the servers' certificates name", hostName()},
	{"zookeeper.digest_file", "digest-file", "",
		"`file` with one line, user:password, for ZooKeeper's digest authentication", path("mode 0600")},
	{"fleet.name", "fleet", "default",
		"the fleet's `name`; its agents share one file", fleetName()},
	{"fleet.audit", "audit", "false",
		"stand for the fleet's auditor too", boolean()},
	{"agent.name", "name", "",
		"this agent's `name`", agentName()},
	{"data.file", "data", "data.txt",
		"the shared `file`", dataFile()},
	{"data.volume", "volume", "auto",
		"how the file's volume is written: auto (by its kind; refused when it is not known to work), plain, direct or sync", oneOf("auto", "plain", "direct", "sync")},
	{"turn.max_records", "max-records", "10000",
		"the most records in a turn", count(1, 100_000)},
	{"turn.max_bytes", "max-bytes", "65537",
		"the most bytes in a turn, newlines included", size(minTurnBytes, maxTurnBytes, "a turn travels through ZooKeeper")},
	{"turn.pace", "pace", "500ms",
		"how long the ticker rests between its turns", duration(0, time.Hour)},
	{"turn.lines", "lines", "3",
		"how many lines the ticker writes a turn, at most turn.max_records", count(1, 100_000)},
	{"log.level", "log-level", "info",
		"the least `level` that is logged", oneOf("debug", "info", "warn", "error")},
	{"log.format", "log-format", "auto",
		"the log's `format`; auto is text on a terminal and json otherwise", oneOf("auto", "text", "json")},
}

// find returns the setting with the key.
func find(key string) (Setting, bool) {
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
	if i < 0 {
		return Setting{}, false
	}
	return settings[i], true
}

// sections are the keys that have others beneath them, in the table's order.
func sections() []string {
	var names []string
	for _, s := range settings {
		for i, c := range s.Key {
			if c == '.' && !slices.Contains(names, s.Key[:i]) {
				names = append(names, s.Key[:i])
			}
		}
	}
	return names
}

// Flags registers --config and the flags of every setting that is one of the
// keys or beneath one of them: Flags(fs, "zookeeper", "data.file", "log"). A key
// that is in no setting panics: it is a slip in the command's code.
func Flags(fs *pflag.FlagSet, keys ...string) {
	fs.Var(&flagValue{kind: "file"}, configFlag, "YAML file with settings ("+configEnv+")")
	for _, key := range keys {
		if !slices.ContainsFunc(settings, func(s Setting) bool { return within(s.Key, key) }) {
			panic("config: no setting " + key)
		}
	}
	for _, s := range settings {
		isSwitch := s.kind.name == switchKind
		if slices.ContainsFunc(keys, func(key string) bool { return within(s.Key, key) && (s.Key == key || !isSwitch) }) {
			f := fs.VarPF(&flagValue{key: s.Key, kind: s.kind.name, text: s.Default}, s.Flag, "", s.Usage+" ("+s.Env()+")")
			if isSwitch {
				f.NoOptDefVal = "true"
			}
		}
	}
}

// within reports whether key is prefix or beneath it.
func within(key, prefix string) bool {
	return key == prefix || strings.HasPrefix(key, prefix+".")
}

const (
	configFlag = "config"
	configEnv  = envPrefix + "CONFIG"
)

// flagValue keeps what was typed. It is checked by Load, with all the others, and
// so that a value is judged alike wherever it was written.
type flagValue struct {
	key  string // "" for --config
	kind string
	text string
	set  bool
}

func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string   { return f.kind }

// Set takes the last value given, except that a list grows: --zookeeper a
// --zookeeper b is --zookeeper a,b.
func (f *flagValue) Set(text string) error {
	if f.kind == listKind && f.set {
		text = f.text + "," + text
	}
	f.text, f.set = text, true
	return nil
}

// changed returns, by key, the flags of Flags that the user gave. A flag that a
// command registered itself is none of ours, whatever its name.
func changed(fs *pflag.FlagSet) map[string]*pflag.Flag {
	flags := map[string]*pflag.Flag{}
	if fs == nil {
		return flags
	}
	fs.Visit(func(f *pflag.Flag) {
		if v, ok := f.Value.(*flagValue); ok && v.key != "" {
			flags[v.key] = f
		}
	})
	return flags
}

// defaultFile is read when it is there and nobody named another.
const defaultFile = "configs/agent.yaml"

// configPath is the file to read: what --config says, else fromEnv, else the
// default file if there is one.
func configPath(fs *pflag.FlagSet, fromEnv filePath) filePath {
	if fs != nil {
		if f := fs.Lookup(configFlag); f != nil && f.Changed {
			return filePath{name: f.Value.String(), source: "--" + configFlag, given: true}
		}
	}
	if !fromEnv.given {
		if _, err := os.Stat(defaultFile); err == nil {
			return filePath{name: defaultFile, source: "the working directory", given: true, found: true}
		}
	}
	return fromEnv
}

const envPrefix = "TURNSTILE_"

// imageEnv names the image to compose and to the scripts, which hand on whatever
// begins with the prefix; an agent has no use for it.
const imageEnv = envPrefix + "IMAGE"

// testPrefix is for the project's own tests, which hand it to agents they start.
const testPrefix = envPrefix + "TEST_"

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// kubernetes are the endings of the variables that it sets for a Service, here for one whose
// name begins with turnstile.
var kubernetes = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$`)

// readEnv picks the settings, by key, and the config file out of environ. A variable that is no
// setting, nor nearly one, is foreign: somebody else's, or so badly misspelt that a person has to
// see it. Those that Kubernetes sets are surely not meant for us. The values of unknown variables are never
// shown: one may be a password that was put into the wrong place.
func readEnv(environ []string) (values map[string]string, file filePath, foreign []string, errs []*Error) {
	values = map[string]string{}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, testPrefix) {
			continue
		}
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Env() == name })
		switch {
		case name == configEnv && text != "":
			file = filePath{name: text, source: configEnv, given: true}
		case name == configEnv, name == imageEnv:
		case i < 0 && kubernetes.MatchString(name):
		case i < 0:
			if err := unknownEnv(name); err != nil {
				errs = append(errs, err)
			} else if text != "" {
				foreign = append(foreign, name)
			}
		case text != "":
			values[settings[i].Key] = text
		}
	}
	return values, file, foreign, errs
}
