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

func FuzzAHeadThatParsesHasOneSpelling(f *testing.F) {
	f.Add([]byte(headText))
	f.Add([]byte("head 3 x"))
	f.Add([]byte(`{"incarnation":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseHead(data)
		switch {
		case err != nil && d != Head{}:
			t.Errorf("half a head came back with %v", err)
		case err == nil && !bytes.Equal(d.Encode(), data):
			t.Errorf("read %q, would write %q", data, d.Encode())
		case err == nil && (d.Line > d.Start || d.Start >= d.Offset):
			t.Errorf("its places do not rise: %+v", d)
		}
	})
}

// FuzzATurnThatParsesHasOneSpelling also holds what is believed to its own sum.
func FuzzATurnThatParsesHasOneSpelling(f *testing.F) {
	_, first, next := twoTurns()
	f.Add(uint64(0), first.Encode())
	f.Add(uint64(1), next.Encode())
	f.Add(uint64(1), []byte("turn 3 x\n"))
	f.Fuzz(func(t *testing.T, number uint64, data []byte) {
		turn, err := ParseTurn(number, data)
		if err != nil {
			if turn.Bytes != nil || turn.Header != (Header{}) {
				t.Errorf("half a turn came back with %v", err)
			}
			return
		}
		if !bytes.Equal(turn.Encode(), data) || turn.Before > turn.Offset {
			t.Errorf("read %q, would write %q", data, turn.Encode())
		}
		if number == 0 {
			return
		}
		again, header := Append(nil, turn.Prev, turn.Header, turn.Records())
		if !bytes.Equal(again, turn.Bytes) || header != turn.Header {
			t.Errorf("the turn's bytes %q, written anew %q", turn.Bytes, again)
		}
	})
}
