package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// kind is what a setting's text may be. Its rule, for people, and its parse are
// built from the same bounds, so they cannot disagree.
type kind struct {
	name  string // what the flag's usage calls the value
	rule  string
	parse func(text string) (any, *problem)
}

// problem is an Error whose setting is not known yet.
type problem struct{ what, hint string }

func (p *problem) at(key, value string) *Error {
	return &Error{Key: key, Value: strconv.Quote(value), Problem: p.what, Hint: p.hint}
}

const listKind = "servers"

// defaultPort is ZooKeeper's own.
const defaultPort = "2181"

// duration is a time.Duration of lo to hi. A number alone is refused: who writes
// 500 may mean seconds.
func duration(lo, hi time.Duration) kind {
	rule := short(lo) + " to " + short(hi)
	return kind{"duration", rule, func(text string) (any, *problem) {
		d, err := time.ParseDuration(text)
		if _, number := strconv.ParseFloat(text, 64); err != nil && number == nil {
			return nil, &problem{"a duration without a unit", "write it like 500ms or 5s"}
		}
		if err != nil {
			return nil, &problem{"not a duration", "write it like 500ms or 5s, " + rule}
		}
		if d < lo || d > hi {
			return nil, outside(d < lo, rule)
		}
		return d, nil
	}}
}

// short writes d as a person would: 5m rather than 5m0s.
func short(d time.Duration) string {
	text := d.String()
	if d >= time.Minute {
		text = strings.TrimSuffix(text, "0s")
	}
	if d >= time.Hour {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func outside(below bool, rule string) *problem {
	if below {
		return &problem{"too small", "choose " + rule}
	}
	return &problem{"too large", "choose " + rule}
}

// count is an int of lo to hi.
func count(lo, hi int) kind {
	rule := fmt.Sprintf("%d to %d", lo, hi)
	return kind{"count", rule, func(text string) (any, *problem) {
		n, err := strconv.Atoi(text) // on overflow the nearest int, so out of bounds
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return nil, &problem{"not a whole number", "choose " + rule}
		}
		if n < lo || n > hi {
			return nil, outside(n < lo, rule)
		}
		return n, nil
	}}
}

// size is an int of lo to hi bytes. why says what a larger one would break.
func size(lo, hi int, why string) kind {
	rule := fmt.Sprintf("%d to %dKiB", lo, hi>>10)
	return kind{"size", rule, func(text string) (any, *problem) {
		digits, unit := text, 1
		if s, ok := strings.CutSuffix(text, "KiB"); ok {
			digits, unit = s, 1<<10
		} else if s, ok := strings.CutSuffix(text, "MiB"); ok {
			digits, unit = s, 1<<20
		}
		n, err := strconv.Atoi(digits) // on overflow the nearest int, so out of bounds
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return nil, &problem{"not a size", "write bytes, or KiB: 131072 or 128KiB, " + rule}
		}
		if n > hi/unit { // by division, so that no product overflows
			return nil, &problem{"too large: " + why, "choose " + rule}
		}
		if n < 0 || n*unit < lo {
			return nil, outside(true, rule)
		}
		return n * unit, nil
	}}
}

// oneOf is one of the words, as it stands.
func oneOf(words ...string) kind {
	last := len(words) - 1
	rule := strings.Join(words[:last], ", ") + " or " + words[last]
	return kind{"word", rule, func(text string) (any, *problem) {
		for _, w := range words {
			if text == w {
				return text, nil
			}
		}
		return nil, &problem{"not one of them", "choose " + rule}
	}}
}

// switchKind has flags that need no value. It is not called bool, for viper would take
// many a word for such a flag's false.
const switchKind = "switch"

// boolean is a bool: true or false, as it stands.
func boolean() kind {
	words := oneOf("true", "false")
	return kind{switchKind, words.rule, func(text string) (any, *problem) {
		_, p := words.parse(text)
		return text == "true", p
	}}
}

const nameRule = "1 to 32 of a-z, 0-9 and -, not beginning with -"

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func fleetName() kind {
	return kind{"name", nameRule, func(text string) (any, *problem) {
		if !namePattern.MatchString(text) {
			return nil, &problem{"not a name", "use " + nameRule}
		}
		return text, nil
	}}
}

func agentName() kind {
	rule := nameRule + "; the lowest free agent-N if empty"
	return kind{"name", rule, func(text string) (any, *problem) {
		if text != "" && !namePattern.MatchString(text) {
			return nil, &problem{"not a name", "use " + nameRule}
		}
		return text, nil
	}}
}

// path is a path or nothing. The file is looked at later, with those that go
// with it.
func path(rule string) kind {
	return kind{"file", rule, func(text string) (any, *problem) {
		if p := control(text); p != nil {
			return nil, p
		}
		return text, nil
	}}
}

func dataFile() kind {
	return kind{"file", "a regular file, not a symbolic link", func(text string) (any, *problem) {
		if text == "" {
			return nil, &problem{"no file", "name the shared file, such as data.txt"}
		}
		if p := control(text); p != nil {
			return nil, p
		}
		if strings.HasSuffix(text, "/") {
			return nil, &problem{"a directory", "name the file in it, such as " + text + "data.txt"}
		}
		return text, nil
	}}
}

func control(text string) *problem {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return &problem{"a path with a control character", "take it out"}
	}
	return nil
}

func hostName() kind {
	return kind{"host", "the server's own host if empty", func(text string) (any, *problem) {
		if text != "" && !isHost(text) {
			return nil, &problem{"not a host's name", "write a name or an address, without a port"}
		}
		return text, nil
	}}
}

// serverList is a []string of host:port, separated by commas.
func serverList() kind {
	rule := "host:port, port " + defaultPort + " if left out; /path behind the last is the root"
	return kind{listKind, rule, func(text string) (any, *problem) {
		var servers []string
		text, chroot := cutChroot(text)
		if chroot != "" {
			if _, p := znodePath().parse(chroot); p != nil {
				return nil, p
			}
		}
		for item := range strings.SplitSeq(text, ",") {
			s, p := server(strings.TrimSpace(item))
			if p != nil {
				return nil, p
			}
			servers = append(servers, s)
		}
		return servers, nil
	}}
}

// cutChroot cuts off the path that may stand behind the last server, as ZooKeeper's own clients
// have it.
func cutChroot(text string) (servers, chroot string) {
	if strings.Contains(text, "://") {
		return text, ""
	}
	if i := strings.IndexByte(text, '/'); i >= 0 && !strings.Contains(text[i:], ",") {
		return text[:i], text[i:]
	}
	return text, ""
}

// znodePath is a node's absolute path.
func znodePath() kind {
	rule := "a path such as /apps/turnstile"
	return kind{"path", rule, func(text string) (any, *problem) {
		for _, part := range strings.Split(strings.TrimPrefix(text, "/"), "/") {
			if !strings.HasPrefix(text, "/") || !namePart.MatchString(part) || part == "." || part == ".." || text == "/zookeeper" || strings.HasPrefix(text, "/zookeeper/") {
				return nil, &problem{fmt.Sprintf("%q is not the path of a node that can be ours", text), "choose " + rule + ", of letters, digits, dots, dashes and underscores"}
			}
		}
		return text, nil
	}}
}

var namePart = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func server(text string) (string, *problem) {
	const example = "write host:port, such as zookeeper1:2181"
	switch {
	case text == "":
		return "", &problem{"an empty server", example + ", with one comma between two"}
	case strings.Contains(text, "://"):
		return "", &problem{fmt.Sprintf("%q is a URL", text), example}
	case strings.Contains(text, "/"):
		return "", &problem{fmt.Sprintf("%q has a path", text), example + "; a path (the fleets' root) stands behind the last one"}
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Is6() {
		return "", &problem{fmt.Sprintf("%q may or may not end in a port", text), "put the address in brackets: [" + text + "]:" + defaultPort}
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil { // most likely no port
		if host, port, err = net.SplitHostPort(text + ":" + defaultPort); err != nil {
			return "", &problem{fmt.Sprintf("%q is not a server", text), example}
		}
	}
	if !isHost(host) {
		return "", &problem{fmt.Sprintf("%q has no valid host", text), example}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", &problem{fmt.Sprintf("%q has no valid port", text), "choose 1 to 65535"}
	}
	return net.JoinHostPort(host, port), nil
}

// hostPattern lets the underscore pass, which is in no host's name but in many a
// container's.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$`)

func isHost(text string) bool {
	if hostPattern.MatchString(text) {
		return true
	}
	_, err := netip.ParseAddr(text)
	return err == nil
}
