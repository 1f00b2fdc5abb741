package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/turnstile-fleet/turnstile/test/netlab/wire"
)

// plainLosesBytes is a control: written as a local file is, the volume loses bytes. A lab
// in which it does not proves nothing.
func plainLosesBytes(ctx context.Context, l *lab) error {
	c, err := l.newCrew(ctx, "plain", 1, 20*time.Millisecond, "--volume", "plain")
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.progress(ctx, 200, 2*time.Minute); err != nil {
		return err
	}
	// How they end is not looked at: what an agent finds damaged, it refuses.
	for _, m := range c.members {
		if err := m.at.ask(ctx, "Hush", m.process(c), &struct{}{}); err != nil {
			return err
		}
	}
	for _, m := range c.members {
		if e, err := c.ended(ctx, m, 100*time.Second); err != nil || !e.Over {
			return errors.Join(err, fmt.Errorf("%s does not end", m.name))
		}
	}
	data, err := l.readVolume(ctx, c.file)
	if err != nil {
		return err
	}
	_, err = readTurns(data)
	nuls := bytes.Count(data, []byte{0})
	if err == nil && nuls == 0 {
		return fmt.Errorf("%d bytes are all there: in this lab nothing can be lost, so nothing is proved", len(data))
	}
	l.say("of %d bytes %d are zeros, as expected: %v", len(data), nuls, err)
	return nil
}

// appendLosesRecords is a control: O_APPEND does not help, not even strictly in turn.
func appendLosesRecords(ctx context.Context, l *lab) error {
	const each = 100
	for i := range 2 * each {
		m := l.machines[clients[i%2]]
		line := fmt.Sprintf("%s %d %s\n", m.role, i, strings.Repeat("x", 80))
		if err := m.ask(ctx, "Append", wire.Append{Path: "/srv/append.txt", Data: []byte(line)}, &struct{}{}); err != nil {
			return err
		}
	}
	data, err := l.readVolume(ctx, "append.txt")
	if err != nil {
		return err
	}
	lost := 0
	for i := range 2 * each {
		if !bytes.Contains(data, fmt.Appendf(nil, "%s %d x", clients[i%2], i)) {
			lost++
		}
	}
	if lost == 0 {
		return fmt.Errorf("%d appended records are all there: in this lab nothing can be lost, so nothing is proved", 2*each)
	}
	l.say("%d of %d records are lost, as expected", lost, 2*each)
	return nil
}

// notOurs is what an agent says that sees the marker of another nowhere.
const notOurs = "does not use the volume"

// twoVolumes has two hosts mount a directory of their own at the same place.
func twoVolumes(ctx context.Context, l *lab) error {
	c := &crew{l: l, fleet: "two"}
	for role, inside := range map[string]string{"A": "one", "B": "two"} {
		if err := l.mount(ctx, l.machines[role], "/own", inside); err != nil {
			return err
		}
	}
	first := &member{name: "first", at: l.machines["A"], fed: map[string]int{}}
	second := &member{name: "second", at: l.machines["B"], fed: map[string]int{}}
	c.pace = 100 * time.Millisecond
	c.flags = []string{"--data", "/own/two.txt"}
	for _, m := range []*member{first, second} {
		if err := c.begin(ctx, m); err != nil {
			return err
		}
		// The first must be in the fleet before the second comes.
		err := until(ctx, time.Minute, func() (bool, error) {
			var size int64
			err := m.at.ask(ctx, "Size", "/own/two.txt", &size)
			return size > 0 || m == second, err
		})
		if err != nil {
			return fmt.Errorf("%s writes nothing: %w: %s", m.name, err, c.lastWords(ctx, m))
		}
	}
	e, err := c.ended(ctx, second, 110*time.Second)
	words := c.lastWords(ctx, second)
	switch {
	case err != nil:
		return err
	case !e.Over || e.Code != 6 || !strings.Contains(words, notOurs):
		return fmt.Errorf("the second is not refused: %+v: %s", e, words)
	}
	if e, err := c.ended(ctx, first, 0); err != nil || e.Over {
		return errors.Join(err, fmt.Errorf("the first ended too: %+v: %s", e, c.lastWords(ctx, first)))
	}
	var left int64
	if err := second.at.ask(ctx, "Size", "/own/two.txt", &left); err != nil || left > 0 {
		return errors.Join(err, fmt.Errorf("the second has written %d bytes", left))
	}
	var markers []string
	if err := second.at.ask(ctx, "List", "/own/two.txt.alive", &markers); err != nil || len(markers) > 0 {
		return errors.Join(err, fmt.Errorf("the second leaves markers: %q", markers))
	}
	if err := first.at.ask(ctx, "Hush", first.process(c), &struct{}{}); err != nil {
		return err
	}
	if e, err := c.ended(ctx, first, time.Minute); err != nil || e.Code != 0 {
		return errors.Join(err, fmt.Errorf("the first ends with %+v: %s", e, c.lastWords(ctx, first)))
	}
	line, _, _ := strings.Cut(words[max(0, strings.Index(words, notOurs)-80):], "\n")
	l.say("the second ends with 6: …%s", line)
	for _, role := range []string{"A", "B"} {
		if err := l.machines[role].ask(ctx, "Unmount", "/own", &struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// oneHangs cuts the server off for one host alone, for a minute.
func oneHangs(ctx context.Context, l *lab) error {
	c, err := l.newCrew(ctx, "hang", 2, 50*time.Millisecond)
	if err != nil {
		return err
	}
	defer c.end()
	if err := c.progress(ctx, 50, 2*time.Minute); err != nil {
		return err
	}
	const span = time.Minute
	before := time.Now()
	l.say("a minute as it should be")
	if err := pause(ctx, span); err != nil {
		return err
	}
	cut := time.Now()
	l.say("the server is cut off for A")
	if err := l.machines["A"].cut(toVolume, true); err != nil {
		return err
	}
	if err := pause(ctx, span); err != nil {
		return err
	}
	mended := time.Now()
	if err := l.machines["A"].cut(toVolume, false); err != nil {
		return err
	}
	l.say("it is joined again")
	from := c.turn()
	if err := pause(ctx, 30*time.Second); err != nil {
		return err
	}
	to := c.turn()
	if err := c.finish(ctx); err != nil {
		return err
	}
	turns, err := c.judge(ctx)
	if err != nil {
		return err
	}
	heads := c.seen()
	others := func(from, to time.Time) (rate float64, gap time.Duration) {
		n, last := 0, from
		for _, h := range heads {
			if h.at.Before(from) || h.at.After(to) {
				continue
			}
			gap = max(gap, h.at.Sub(last))
			last = h.at
		}
		for number := turnAt(heads, from) + 1; number <= turnAt(heads, to); number++ {
			if strings.HasPrefix(turns[number-1].agent, "b-") {
				n++
			}
		}
		return float64(n) / to.Sub(from).Seconds(), max(gap, to.Sub(last))
	}
	was, usual := others(before, cut)
	is, longest := others(cut, mended)
	back := 0
	for number := from + 1; number <= to; number++ {
		if strings.HasPrefix(turns[number-1].agent, "a-") {
			back++
		}
	}
	l.say("B's turns a second: %.1f before, %.1f in the minute from the cut, ratio %.2f; longest time without a commit %v, %v before; A has %d of the %d turns after it was joined",
		was, is, is/was, longest.Round(time.Millisecond), usual.Round(time.Millisecond), back, to-from)
	switch {
	case is < 0.9*was:
		return fmt.Errorf("the other host made %.1f turns a second before, and %.1f while one hung", was, is)
	case longest > 2*time.Second:
		return fmt.Errorf("nobody committed for %v", longest)
	case back == 0:
		return errors.New("the host that hung does not go on by itself")
	}
	return nil
}
