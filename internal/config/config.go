// Package config is every setting of an agent: its name, its default and its
// check, all in one table (settings.go).
//
// A setting is found in four places, each over the next: a flag, an environment
// variable (the key in capitals, dots as underscores, so zookeeper.servers is
// TURNSTILE_ZOOKEEPER_SERVERS), a YAML file, and the default. The file is the one
// that --config or TURNSTILE_CONFIG names, else configs/agent.yaml in the working
// directory if it is there.
//
// It is strict. A key of the file that is no setting is an error, and a variable that
// looks like one of ours misspelt, because a setting that is misspelt is a setting that is
// silently not applied. Any other variable is somebody else's: Kubernetes sets TURNSTILE_PORT
// for a Service named turnstile. All that is wrong is reported at once, each in a
// sentence that says where it was written, what was wrong and what to do.
//
// A Config that Load returned needs no further checks. What Load cannot promise
// is what only the use of a setting can show: that the servers answer, or that
// the data file lies on a volume that is fit for it.
//
// No secret can be given as a flag, a variable or a key, where `ps` and logs
// would show it: only the path of a file that holds it. A Config never holds a
// secret either, so it may be printed.
package config

import (
	"crypto/tls"
	"fmt"
	"strings"
	"time"
)

// Config is a complete, checked set of settings. Each field's tag is its key.
type Config struct {
	Zookeeper Zookeeper `mapstructure:",squash"`
	// Fleet names the fleet, and so its place in ZooKeeper.
	Fleet string `mapstructure:"fleet.name"`
	// Audit says that the agent stands for the fleet's auditor too.
	Audit bool  `mapstructure:"fleet.audit"`
	Agent Agent `mapstructure:",squash"`
	Data  Data  `mapstructure:",squash"`
	Turn  Turn  `mapstructure:",squash"`
	Log   Log   `mapstructure:",squash"`

	zookeeperSet bool
	found        []string
	foreign      []string // variables that begin as ours do
}

// Zookeeper says how to reach the ensemble.
type Zookeeper struct {
	// Servers are host:port, each with its port, at least one.
	Servers []string `mapstructure:"zookeeper.servers"`
	// Root is the node beneath which all fleets are: /turnstile, or what the user says.
	Root string `mapstructure:"zookeeper.root"`
	// SessionTimeout is what to ask for; the server may grant another.
	SessionTimeout time.Duration `mapstructure:"zookeeper.session_timeout"`
	// ConnectTimeout is how long to look for a server at the start.
	ConnectTimeout time.Duration `mapstructure:"zookeeper.connect_timeout"`
	// TLS is empty when the connection is in the clear; see Config.TLS.
	TLS TLS `mapstructure:",squash"`
	// DigestFile is the path of the credentials, or ""; see Config.Digest.
	DigestFile string `mapstructure:"zookeeper.digest_file"`
}

// TLS names the PEM files of an encrypted connection; "" is none.
type TLS struct {
	CAFile     string `mapstructure:"zookeeper.tls.ca_file"`
	CertFile   string `mapstructure:"zookeeper.tls.cert_file"`
	KeyFile    string `mapstructure:"zookeeper.tls.key_file"`
	ServerName string `mapstructure:"zookeeper.tls.server_name"`
}

// Agent is who this agent is.
type Agent struct {
	// Name is "" when the agent is to take the lowest free agent-N.
	Name string `mapstructure:"agent.name"`
}

// Data is where the shared file lies.
type Data struct {
	// File is the path as it was given, relative to the working directory.
	File string `mapstructure:"data.file"`
	// Volume is auto, or how the operator says that the file is to be written:
	// plain, direct or sync.
	Volume string `mapstructure:"data.volume"`
}

// Turn bounds one turn.
type Turn struct {
	// MaxRecords is the most records in a turn.
	MaxRecords int `mapstructure:"turn.max_records"`
	// MaxBytes is the most bytes in a turn, newlines included. The largest
	// record always fits, and the whole turn into a node of ZooKeeper.
	MaxBytes int `mapstructure:"turn.max_bytes"`
	// Pace is how long the ticker rests between its turns; 0 is not at all.
	Pace time.Duration `mapstructure:"turn.pace"`
	// Lines is how many lines the ticker writes a turn, at most MaxRecords.
	Lines int `mapstructure:"turn.lines"`
}

// Log is what is logged, and how.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `mapstructure:"log.level"`
	// Format is text, json, or auto: text on a terminal, JSON otherwise.
	Format string `mapstructure:"log.format"`
}

// ZookeeperSet reports whether the user named a fleet to ask: whether
// zookeeper.servers or fleet.name comes from a flag or the environment, or stands in
// the file with another value than the default.
func (c Config) ZookeeperSet() bool { return c.zookeeperSet }

// Notices say that a file which nobody named has its say, and over what, and which variables look
// like ours and are no settings.
func (c Config) Notices() (notices []string) {
	if len(c.foreign) > 0 {
		notices = append(notices, fmt.Sprintf("%s: no setting of ours, and left alone", strings.Join(c.foreign, ", ")))
	}
	if len(c.found) == 0 {
		return notices
	}
	return append(notices, fmt.Sprintf("%s, found in the working directory, sets %s (--config FILE names another, --config /dev/null none)", defaultFile, strings.Join(c.found, ", ")))
}

// TLS builds the client's TLS settings from the files, or returns nil when no
// zookeeper.tls setting is given and the connection is in the clear. It reads
// the files anew, so that a renewed certificate serves the next session. The
// error, an *Error, is possible only when a file has changed since Load.
func (c Config) TLS() (*tls.Config, error) {
	t, errs := c.Zookeeper.TLS.load()
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return t, nil
}

// Digest reads the credentials, user:password, from zookeeper.digest_file, or
// returns "" when there is none. Like TLS it reads the file anew, and its error
// is possible only when the file has changed since Load.
func (c Config) Digest() (string, error) {
	text, err := readDigest(c.Zookeeper.DigestFile)
	if err != nil {
		return "", err
	}
	return text, nil
}
