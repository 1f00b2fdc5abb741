package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The judge beside the verifier shares no code with the project, and knows which records
// there were.

// turn is one as the judge reads it, by its header's byte count.
type turn struct {
	number  uint64
	agent   string
	records []string
}

func readTurns(data []byte) (turns []turn, err error) {
	for len(data) > 0 {
		line, rest, whole := strings.Cut(string(data[:min(len(data), 4096)]), "\n")
		if !whole {
			return turns, fmt.Errorf("after turn %d: a line without an end: %.80q", len(turns), line)
		}
		data = data[len(line)+1:]
		fields := strings.Fields(line)
		if len(fields) > 0 && fields[0] == "#turnstile" {
			continue
		}
		size := -1
		for _, f := range fields {
			if n, is := strings.CutPrefix(f, "bytes="); is {
				size, _ = strconv.Atoi(n)
			}
		}
		if len(fields) < 3 || fields[0] != "#turn" || size < 1 || size > len(data) {
			return turns, fmt.Errorf("after turn %d: no whole turn: %.80q %.80q", len(turns), line, rest)
		}
		number, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil || number != uint64(len(turns))+1 {
			return turns, fmt.Errorf("turn %d is due: %.80q", len(turns)+1, line)
		}
		turns = append(turns, turn{number, fields[2], strings.Split(strings.TrimSuffix(string(data[:size]), "\n"), "\n")})
		data = data[size:]
	}
	return turns, nil
}

// judge holds the file to what the agents were given and told, with the verifier and
// without it.
func (c *crew) judge(ctx context.Context) (turns []turn, err error) {
	file, acks, err := c.collect(ctx)
	if err != nil {
		return nil, err
	}
	said, err := exec.CommandContext(ctx, c.l.agent, "verify", file, "--zookeeper", c.l.zookeeper, "--fleet", c.fleet, "--acks", acks).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("the verifier: %w: %s", err, said)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if turns, err = readTurns(data); err != nil {
		return turns, err
	}
	records := 0
	last := map[string]int{}
	for _, t := range turns {
		for _, r := range t.records {
			records++
			word, rest, _ := strings.Cut(r, " ")
			number, _, _ := strings.Cut(rest, " ")
			if n, err := strconv.Atoi(number); err != nil || n != last[word]+1 {
				return turns, fmt.Errorf("turn %d of %s has %.40q, where record %d of %s is due", t.number, t.agent, r, last[word]+1, word)
			}
			last[word]++
		}
	}
	acked, err := acknowledged(acks, turns)
	if err != nil {
		return turns, err
	}
	for _, f := range c.followers {
		if err := c.holdTo(ctx, f, data); err != nil {
			return turns, err
		}
	}
	var fed int
	for _, m := range c.members {
		for word, n := range m.fed {
			if last[word] > n {
				return turns, fmt.Errorf("%s was given %d records, and %d are there", word, n, last[word])
			}
			fed += n
		}
	}
	c.l.say("%s: %d turns, %d of %d records given, %d acknowledged, each of them there once; %d followers have each byte once; the verifier: %s",
		c.fleet, len(turns), records, fed, acked, len(c.followers), strings.TrimSpace(string(bytes.SplitN(said, []byte("\n"), 2)[0])))
	return turns, nil
}

// acknowledged makes sure that each acknowledged record is where the log says, and counts
// them.
func acknowledged(dir string, turns []turn) (n int, err error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return 0, err
	}
	told := map[string]bool{}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			return n, err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "#") {
				continue
			}
			var number, at int
			var sum string
			if _, err := fmt.Sscan(line, &number, &at, &sum); err != nil {
				return n, fmt.Errorf("%s: %q: %w", log, line, err)
			}
			if number < 1 || number > len(turns) || at < 1 || at > len(turns[number-1].records) ||
				fmt.Sprintf("%x", sha256.Sum256([]byte(turns[number-1].records[at-1]))) != sum || told[sum] {
				return n, fmt.Errorf("%s: record %d of turn %d was acknowledged, and is missing, or was before", log, at, number)
			}
			told[sum] = true
			n++
		}
	}
	if n == 0 {
		return 0, errors.New("nothing was acknowledged")
	}
	return n, nil
}

// holdTo waits until a follower has printed as much as the file has, and compares.
func (c *crew) holdTo(ctx context.Context, f follower, data []byte) error {
	err := until(ctx, 90*time.Second, func() (bool, error) {
		var size int64
		err := f.at.ask(ctx, "Size", f.out, &size)
		return size >= int64(len(data)), err
	})
	printed, readErr := f.at.read(ctx, f.out)
	if readErr != nil {
		return readErr
	}
	if !bytes.Equal(printed, data) {
		at := 0
		for at < min(len(printed), len(data)) && printed[at] == data[at] {
			at++
		}
		log, _ := f.at.read(ctx, f.out+".log") // both go into the message
		kernel := f.at.kernelSays(ctx)
		return fmt.Errorf("%s printed %d bytes of %d, and differs at byte %d: %q (%v); it says: %s; its kernel: %s",
			f.name, len(printed), len(data), at, printed[at:min(len(printed), at+60)], err, log, kernel)
	}
	return nil
}
