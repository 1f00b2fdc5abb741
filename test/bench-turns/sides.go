package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// side is one way to take turns.
type side struct {
	name, words string
	under       int  // Turnstile's
	etcd        bool // it is under etcd, not ZooKeeper

	// program is a client of its own; nil: it is this program.
	program func(with string) []string
}

const jars = "/usr/share/java/"

// sides are what can be compared. The first is what the others are held to.
var sides = []side{
	{name: "turnstile-8", words: "Turnstile, eight turns under way", under: 8},
	{name: "turnstile-1", words: "Turnstile, one turn under way", under: 1},
	{name: "go-zookeeper", words: "go-zookeeper's Lock"},
	{name: "kazoo", words: "kazoo's Lock", program: func(with string) []string {
		return []string{"/usr/bin/python3", filepath.Join(with, "kazoo_mutex.py")}
	}},
	{name: "curator", words: "Curator's InterProcessMutex", program: func(with string) []string {
		libraries := []string{"curator-recipes", "curator-framework", "curator-client", "zookeeper", "zookeeper-jute", "guava", "slf4j-nop"}
		path := with
		for _, l := range libraries {
			path += ":" + jars + l + ".jar"
		}
		return []string{"java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", path, "CuratorMutex"}
	}},
	{name: "etcd", words: "etcd's concurrency.Mutex", etcd: true, program: func(with string) []string {
		return []string{filepath.Join(with, "etcd-mutex")}
	}},
}

// choose finds sides by their names, in their own order.
func choose(names string) (chosen []side, err error) {
	wanted := strings.Split(names, ",")
	var all []string
	for _, s := range sides {
		all = append(all, s.name)
		if slices.Contains(wanted, s.name) {
			chosen = append(chosen, s)
		}
	}
	for _, name := range wanted {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("--peers %q: there is no %q, only %s", names, name, strings.Join(all, ","))
		}
	}
	return chosen, nil
}

// serve starts what this side's clients take turns under.
func (s side) serve(ctx context.Context, with, dir string) (*service, error) {
	if s.etcd {
		return startEtcd(ctx, dir, filepath.Join(with, "etcd"))
	}
	return startZooKeeper(ctx, dir, 1)
}

// commands are so many clients.
func (s side) commands(with, addr, file string, clients int) (cmds []*exec.Cmd) {
	for n := range clients {
		if s.program == nil {
			cmds = append(cmds, clientCommand(settings{Servers: addr, Side: s.name, Under: s.under, File: file, First: n, Clients: 1}))
			continue
		}
		args := append(s.program(with), addr, file, strconv.Itoa(n))
		cmds = append(cmds, exec.Command(args[0], args[1:]...))
	}
	return cmds
}
