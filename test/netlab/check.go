package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// checkOne types agent check-volume --with 2 on both hosts, which share a volume.
func checkOne(ctx context.Context, l *lab) error {
	return l.checked(ctx, "/srv", 0, "data.volume: direct is right")
}

// checkTwo does so where they do not.
func checkTwo(ctx context.Context, l *lab) error {
	for role, inside := range map[string]string{"A": "one", "B": "two"} {
		if err := l.mount(ctx, l.machines[role], "/different", inside); err != nil {
			return err
		}
	}
	return l.checked(ctx, "/different", 6, "two different volumes")
}

// checked has both hosts check a directory, and holds them to the same verdict.
func (l *lab) checked(ctx context.Context, dir string, code int, verdict string) error {
	_, port, _ := strings.Cut(l.zookeeper, ":")
	name := "check" + strings.ReplaceAll(dir, "/", ".")
	hosts := []*machine{l.machines["A"], l.machines["B"]}
	for _, m := range hosts {
		s := wire.Start{Name: name, Log: "/tmp/" + name + ".log", Out: "/tmp/" + name, Args: []string{"/bin/agent", "check-volume", dir, "--with", "2", "--zookeeper", "10.8.0.2:" + port}}
		if err := m.ask(ctx, "Start", s, &struct{}{}); err != nil {
			return err
		}
	}
	var last string
	for _, m := range hosts {
		var e wire.Ended
		for end := time.Now().Add(4 * time.Minute); !e.Over && time.Now().Before(end); {
			if err := m.ask(ctx, "Wait", wire.Wait{Name: name, For: time.Minute}, &e); err != nil {
				return err
			}
		}
		said, err := m.read(ctx, "/tmp/"+name)
		if err != nil {
			return err
		}
		log, err := m.read(ctx, "/tmp/"+name+".log")
		if err != nil {
			return err
		}
		if !e.Over || e.Code != code || !strings.Contains(string(said), verdict) {
			return fmt.Errorf("check-volume %s on %s ends %+v, where %d and %q are right: %s%s", dir, m.role, e, code, verdict, said, log)
		}
		if last != "" && last != string(said) {
			return fmt.Errorf("the two say different things: %s\nand: %s", last, said)
		}
		last = string(said)
	}
	for line := range strings.Lines(last) {
		l.say("%s: %s", dir, strings.TrimRight(line, "\n"))
	}
	return nil
}
