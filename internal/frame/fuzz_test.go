package frame

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzAHeaderThatParsesHasOneSpelling(f *testing.F) {
	file, _ := twoFrames(f)
	for line := range bytes.SplitSeq(file, []byte("\n")) {
		f.Add(line)
	}
	f.Add([]byte("#turn 1 a lines=1 bytes=1 token=0x0 at=0000-01-01T00:00:00.000Z sum=00000000000000000000000000000000"))
	f.Fuzz(func(t *testing.T, line []byte) {
		h, err := ParseHeader(line)
		switch {
		case err != nil && !errors.Is(err, ErrHeader):
			t.Errorf("an error that is not ErrHeader: %v", err)
		case err != nil && h != Header{}:
			t.Errorf("half a header came back with %v", err)
		case err == nil && h.Line() != string(line):
			t.Errorf("read %q, would write %q", line, h.Line())
		}
	})
}

func FuzzAnIncarnationThatParsesHasOneSpelling(f *testing.F) {
	f.Add([]byte(Incarnation{ID: testID, From: 1}.Line()))
	f.Add([]byte(Incarnation{ID: testID, From: 9, Preamble: 77}.Line()))
	f.Fuzz(func(t *testing.T, line []byte) {
		i, err := ParseIncarnation(line)
		switch {
		case err != nil && !errors.Is(err, ErrHeader):
			t.Errorf("an error that is not ErrHeader: %v", err)
		case err == nil && i.Line() != string(line):
			t.Errorf("read %q, would write %q", line, i.Line())
		}
	})
}
