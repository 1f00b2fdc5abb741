package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Load reads and checks every setting. The flags are those that Flags registered
// in fs, already parsed; fs may be nil. environ is in the form of os.Environ; a
// variable that is set but empty counts as not set, as compose files leave it.
//
// The error joins an *Error for each thing that is wrong, in a fixed order; the
// Config is then the zero value. Load also reads the files that settings name,
// so that a bad certificate is found here rather than at the first connection.
func Load(fs *pflag.FlagSet, environ []string) (Config, error) {
	env, path, foreign, errs := readEnv(environ)
	file := document{}
	if path = configPath(fs, path); path.given {
		var found []*Error
		file, found = readFile(path)
		if path.found {
			for _, err := range found {
				err.Hint += "; it was found in the working directory: --config FILE names another, --config /dev/null none"
			}
		}
		errs = append(found, errs...)
	}
	l := layers{flags: changed(fs), env: env, file: file}
	c, found, err := l.resolve()
	if err != nil {
		return Config{}, err
	}
	if errs = append(errs, found...); len(errs) > 0 {
		joined := make([]error, len(errs))
		for i, e := range errs {
			joined[i] = e
		}
		return Config{}, errors.Join(joined...)
	}
	c.foreign = foreign
	if path.found {
		c.found = l.fromFile()
	}
	return c, nil
}

// fromFile lists the settings that the file decides, and not as they are by default.
func (l layers) fromFile() (keys []string) {
	for _, s := range settings {
		e, inFile := l.file[s.Key]
		if _, inEnv := l.env[s.Key]; inFile && !inEnv && l.flags[s.Key] == nil && e.text != s.Default {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// layers is what the user said, each over the next.
type layers struct {
	flags map[string]*pflag.Flag // by key; only those given
	env   map[string]string      // by key
	file  document               // by key
}

// source says where key's value was written, as the user would name it; "" is
// the default.
func (l layers) source(key string) string {
	if f := l.flags[key]; f != nil {
		return "--" + f.Name
	}
	if _, ok := l.env[key]; ok {
		return envName(key)
	}
	if e, ok := l.file[key]; ok {
		return e.where + ": " + key
	}
	return ""
}

// resolve finds each setting's value and checks it. The last result is a fault
// of this package, not of the user.
func (l layers) resolve() (Config, []*Error, error) {
	// The keys stay whole: with a delimiter that none contains, viper's
	// layers are flat, and a struct's tag is the key that users type.
	v := viper.NewWithOptions(viper.KeyDelimiter("::"))
	if err := l.fill(v); err != nil {
		return Config{}, nil, fmt.Errorf("layer config: %w", err)
	}
	var errs []*Error
	servers := v.GetString("zookeeper.servers")
	for _, s := range settings {
		text := v.GetString(s.Key)
		value, p := s.kind.parse(text)
		if p != nil {
			errs = append(errs, p.at(s.Key, text))
			value, _ = s.kind.parse(s.Default) // so that the rest can be checked too
		}
		v.Set(s.Key, value)
	}
	var c Config
	if err := v.UnmarshalExact(&c); err != nil {
		return Config{}, nil, fmt.Errorf("decode config: %w", err)
	}
	c.zookeeperSet = l.names("zookeeper.servers") || l.names("fleet.name")
	c.Turn.Lines = l.defaultLines(c.Turn)
	if _, chroot := cutChroot(servers); chroot != "" {
		if l.names("zookeeper.root") && c.Zookeeper.Root != chroot {
			errs = append(errs, &Error{Key: "zookeeper.root", Value: strconv.Quote(c.Zookeeper.Root),
				Problem: "another root than zookeeper.servers ends with, which is " + chroot, Hint: "leave out one of them"})
		}
		c.Zookeeper.Root = chroot
	}
	for _, e := range c.check() {
		if !slices.ContainsFunc(errs, func(p *Error) bool { return e.about(p.Key) }) {
			errs = append(errs, e)
		}
	}
	for _, e := range errs {
		e.Source = l.source(e.Key)
	}
	return c, errs, nil
}

// fill hands the layers to viper. The environment goes in as a map merged over
// the file's, because viper itself can only look at the process's own.
func (l layers) fill(v *viper.Viper) error {
	for _, s := range settings {
		v.SetDefault(s.Key, s.Default)
	}
	file, env := map[string]any{}, map[string]any{}
	for key, e := range l.file {
		file[key] = e.text
	}
	for key, text := range l.env {
		env[key] = text
	}
	for _, layer := range []map[string]any{file, env} {
		if err := v.MergeConfigMap(layer); err != nil {
			return err
		}
	}
	for key, f := range l.flags {
		if err := v.BindPFlag(key, f); err != nil {
			return err
		}
	}
	return nil
}

// names reports whether the user gave the setting. The default written out in a
// file, as in the sample, says nothing.
func (l layers) names(key string) bool {
	_, inEnv := l.env[key]
	e, inFile := l.file[key]
	s, _ := find(key)
	return l.flags[key] != nil || inEnv || inFile && e.text != s.Default
}

// defaultLines keeps the default of turn.lines within a smaller turn.max_records,
// so that who lowers the one need not know of the other.
func (l layers) defaultLines(t Turn) int {
	if l.source("turn.lines") == "" {
		return min(t.Lines, t.MaxRecords)
	}
	return t.Lines
}

// check looks at what one setting alone cannot show: settings that go together,
// and the files that they name.
func (c Config) check() []*Error {
	var errs []*Error
	if c.Turn.Lines > c.Turn.MaxRecords {
		errs = append(errs, &Error{
			Key: "turn.lines", Value: strconv.Quote(strconv.Itoa(c.Turn.Lines)), also: "turn.max_records",
			Problem: fmt.Sprintf("more than turn.max_records, which is %d", c.Turn.MaxRecords),
			Hint:    "lower turn.lines or raise turn.max_records",
		})
	}
	_, found := c.Zookeeper.TLS.load()
	errs = append(errs, found...)
	if _, err := readDigest(c.Zookeeper.DigestFile); err != nil {
		errs = append(errs, err)
	}
	return errs
}
